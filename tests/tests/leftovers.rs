//! Nothing stays behind: no program in the kernel, no mount, whatever way memtrace ends.

use std::fs;

use memtrace_tests::bpf;
use memtrace_tests::needs::Need;
use memtrace_tests::tracer::Trace;
use memtrace_tests::wait;
use memtrace_tests::workload::Workload;
use memtrace_tests::{exe, needs};

fn mounts() -> String {
    fs::read_to_string("/proc/self/mountinfo").expect("proc is mounted")
}

#[test]
fn a_killed_memtrace_leaves_no_program_and_no_mount() {
    needs!(Need::Tracing);
    let before = mounts();
    let mut workload = Workload::start(&exe!("dontneed_touch"), &[]);
    let mut trace = Trace::attach(workload.pid, &[]);
    let programs = bpf::programs_of(trace.pid());
    assert!(!programs.is_empty(), "nothing is attached");
    assert!(programs.iter().all(|&program| bpf::is_loaded(program)));
    assert_eq!(mounts(), before, "a mount is visible while tracing");

    trace.signal(libc::SIGKILL);
    trace.wait();
    bpf::wait_until_gone(&programs);
    assert_eq!(mounts(), before);
    // The target never noticed.
    let truth = workload.go();
    workload.end();
    truth.expect(&[("minflt", 2 * truth.count("pages"))]);
}

#[test]
fn an_ended_memtrace_leaves_no_program_and_no_mount() {
    needs!(Need::Tracing);
    let before = mounts();
    let workload = Workload::start(&exe!("waits"), &[]);
    let trace = Trace::attach(workload.pid, &[]);
    let programs = bpf::programs_of(trace.pid());
    assert!(!programs.is_empty(), "nothing is attached");
    trace.signal(libc::SIGINT);
    trace.finish();
    bpf::wait_until_gone(&programs);
    assert_eq!(mounts(), before);
    drop(workload);
}

#[test]
fn a_memtrace_that_is_killed_leaves_its_command_running_and_no_program() {
    needs!(Need::Tracing);
    let before = mounts();
    let (mut trace, mut voice) = Trace::launch(&exe!("dontneed_touch").words(), &[]);
    let pid = voice.ready();
    let programs = bpf::programs_of(trace.pid());
    assert!(!programs.is_empty(), "nothing is attached");
    trace.signal(libc::SIGKILL);
    trace.wait();
    bpf::wait_until_gone(&programs);
    assert_eq!(mounts(), before);
    // It is stopped by nobody and does what it would have done.
    voice.say("go");
    let truth = voice.truth();
    truth.expect(&[("minflt", 2 * truth.count("pages"))]);
    voice.say("end");
    wait::until("the command's own end", || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // Whoever is its parent now may take its time to reap it.
        (stat.is_empty() || stat.contains(") Z ")).then_some(())
    });
}
