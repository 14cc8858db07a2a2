//! Nothing stays behind: no program in the kernel, no mount, whatever way memtrace ends.

use std::collections::BTreeSet;
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

/// The kernel frees programs some time after the last descriptor is closed.
fn wait_until_gone(programs: &BTreeSet<u32>) {
    wait::until("the kernel to free the programs", || {
        let left = programs.iter().any(|&program| bpf::is_loaded(program));
        (!left).then_some(())
    });
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
    wait_until_gone(&programs);
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
    wait_until_gone(&programs);
    assert_eq!(mounts(), before);
    drop(workload);
}
