//! What can be traced in part is: the rest is told of, and nothing is made up for it.

use std::process::Command;

use memtrace_tests::needs::Need;
use memtrace_tests::run::Run;
use memtrace_tests::tracer::Trace;
use memtrace_tests::workload::Workload;
use memtrace_tests::{bpf, exe, needs, wait};

const BPFTOOL: Need = Need::Program("bpftool", "bpftool");
const UNSHARE: Need = Need::Program("unshare", "util-linux");
const SETPRIV: Need = Need::Program("setpriv", "util-linux");

/// Ends a trace, whose stderr says just one thing.
#[track_caller]
fn finish(mut trace: Trace, said: &str) -> Run {
    trace.signal(libc::SIGINT);
    trace.wait();
    assert_eq!(trace.stderr(), said);
    trace.rules.quiet_stderr = false;
    trace.finish()
}

#[test]
fn of_several_processes_those_that_are_there_are_traced() {
    needs!(Need::Tracing);
    let mut gone = Command::new("true").spawn().expect("true runs");
    gone.wait().expect("it is our child");
    let mut workload = Workload::start(&exe!("dontneed_touch"), &[]);
    let pid = workload.pid;
    let trace = Trace::with(&["-p", &format!("{} {pid}", gone.id())]);
    let truth = workload.go();
    let said = format!(
        "memtrace: there is no process {}: the others are traced\n",
        gone.id()
    );
    let run = finish(trace, &said);
    workload.end();
    run.summary().expect(&[
        ("pid", u64::from(pid)),
        ("faults.refault_dontneed", truth.count("pages")),
    ]);
}

/// Runs a program without a capability that processes of this test have, and which it thus needs to
/// look at them.
const UNTRUSTED: [&str; 3] = ["setpriv", "--bounding-set", "-sys_ptrace"];

#[test]
fn a_process_whose_mappings_may_not_be_read_is_traced_without_them() {
    needs!(Need::Tracing, SETPRIV);
    let mut workload = Workload::start(&exe!("dontneed_touch"), &[]);
    let pid = workload.pid;
    // On newer kernels CAP_PERFMON will do (kernel/fork.c:may_access_mm).
    let readable = Command::new(UNTRUSTED[0])
        .args(&UNTRUSTED[1..])
        .args(["cat", &format!("/proc/{pid}/maps")])
        .output()
        .is_ok_and(|output| output.status.success());
    let mut trace = Trace::behind(&UNTRUSTED, &["-p", &pid.to_string()]);
    trace.rules.exact = false;
    let truth = workload.go();
    let why = "can't be read: CAP_SYS_PTRACE is missing (run memtrace with sudo)";
    let said = format!(
        "memtrace: the mappings and LazyFree of process {pid} {why}; tracing goes on without them\n"
    );
    let run = finish(trace, if readable { "" } else { &said });
    workload.end();
    let summary = run.summary();
    // What was mapped meanwhile is known in any case.
    summary.expect(&[("faults.refault_dontneed", truth.count("pages"))]);
    // Without BTF it takes the same rights to see who shares its memory.
    let notes = summary.texts("notes").join("\n");
    let sharers_unknown = notes.contains("whether other processes share its memory");
    assert_eq!(summary.truth("exact"), !sharers_unknown, "{summary}");
    let note = format!("its mappings and LazyFree {why}; what was mapped before is unknown");
    assert_eq!(
        summary.texts("notes").contains(&&*note),
        !readable,
        "{summary}"
    );
}

/// Has memtrace find no BTF of the kernel.
const WITHOUT_BTF: [&str; 6] = [
    "unshare",
    "--mount",
    "sh",
    "-c",
    "mount -t tmpfs none /sys/kernel/btf && exec \"$@\"",
    "sh",
];

#[test]
fn without_btf_a_child_that_has_ended_is_traced_no_longer() {
    needs!(Need::Tracing, Need::Mounting, BPFTOOL, UNSHARE);
    let mut workload = Workload::start(&exe!("fork_rewrite"), &[]);
    let pid = workload.pid.to_string();
    let trace = Trace::behind(&WITHOUT_BTF, &["-f", "-p", &pid]);
    let child = workload.go().count("child_pid");
    let exit = format!(r#""pid":{child},"event":"exit""#);
    wait::until("the end of the child", || {
        trace.output().contains(&exit).then_some(())
    });
    // It would keep its place, and whoever gets its pid would be traced.
    wait::until("an empty map of targets", || {
        let followed = bpf::elements(trace.pid(), "TARGETS");
        followed.as_array().is_some_and(Vec::is_empty).then_some(())
    });
    workload.end();
    let run = trace.finish();
    assert_eq!(run.header.text("fault_source"), "raw_tp");
}
