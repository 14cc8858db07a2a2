//! Processes that share a target's memory since before tracing began: all that is done to one memory counts in
//! one ledger, or the run does not call itself exact.

use std::process::{Child, Command, Stdio};

use memtrace_tests::needs::Need;
use memtrace_tests::record::Record;
use memtrace_tests::run::Run;
use memtrace_tests::scenario::expect_classes;
use memtrace_tests::tracer::Trace;
use memtrace_tests::workload::{Voice, Workload};
use memtrace_tests::{exe, needs};

const UNSHARE: Need = Need::Program("unshare", "util-linux");
const NSENTER: Need = Need::Program("nsenter", "util-linux");

/// Has memtrace find no BTF of the kernel.
const WITHOUT_BTF: [&str; 6] = [
    "unshare",
    "--mount",
    "sh",
    "-c",
    "mount -t tmpfs none /sys/kernel/btf && exec \"$@\"",
    "sh",
];

/// Asserts that what both processes did is counted once, in one ledger.
#[track_caller]
fn expect_both(summary: &Record, truth: &Record) {
    let pages = truth.count("pages");
    expect_classes(summary, &[("refault_dontneed", pages)]);
    summary.expect(&[
        ("advice.MADV_DONTNEED.calls", 1),
        ("advice.MADV_DONTNEED.requested_bytes", pages * 4096),
        ("advice.MADV_DONTNEED.refaults", pages),
        ("stray_events", 0),
    ]);
}

#[track_caller]
fn expect_note(summary: &Record, pid: u64) {
    let note = format!(
        "process {pid} shares its memory since before tracing began: what is done from there counts here too"
    );
    assert!(summary.texts("notes").contains(&&*note), "in\n{summary}");
}

#[test]
fn a_child_from_before_is_traced_too() {
    needs!(Need::Tracing);
    let mut workload = Workload::start(&exe!("sharers"), &["parent", "exits"]);
    let trace = Trace::attach(workload.pid, &[]);
    let truth = workload.go();
    workload.end();
    let run = trace.finish();
    expect_both(run.summary(), &truth);
    expect_note(run.summary(), truth.count("child_pid"));
}

#[test]
fn without_btf_it_is_found_too() {
    needs!(Need::Tracing, Need::Mounting, UNSHARE);
    let mut workload = Workload::start(&exe!("sharers"), &["parent", "exits"]);
    let pid = workload.pid.to_string();
    let trace = Trace::behind(&WITHOUT_BTF, &["-p", &pid]);
    let truth = workload.go();
    workload.end();
    let run = trace.finish();
    expect_both(run.summary(), &truth);
    expect_note(run.summary(), truth.count("child_pid"));
}

#[test]
fn the_parent_of_a_target_that_has_its_memory_is_traced_for_as_long_as_the_target_lives() {
    needs!(Need::Tracing, Need::Btf);
    let mut workload = Workload::start(&exe!("sharers"), &["child", "exits"]);
    let trace = Trace::attach(workload.pid, &[]);
    let truth = workload.go();
    // The parent lives on, and nobody waits for it.
    let run = trace.finish();
    workload.end();
    let summary = run.summary();
    summary.expect(&[("pid", truth.count("child_pid")), ("exit_status", 0)]);
    expect_both(summary, &truth);
    expect_note(summary, truth.count("parent_pid"));
}

#[test]
fn a_sharer_that_runs_another_program_is_traced_no_longer() {
    needs!(Need::Tracing, Need::PrepareExec);
    let mut workload = Workload::start(&exe!("sharers"), &["parent", "execs"]);
    let trace = Trace::attach(workload.pid, &[]);
    let truth = workload.go();
    workload.end();
    let run = trace.finish();
    expect_both(run.summary(), &truth);
    // What a program's start maps is its own.
    run.summary().expect(&[("map.mmap.calls", 0)]);
}

#[test]
fn two_targets_on_one_memory_have_one_summary() {
    needs!(Need::Tracing);
    let mut workload = Workload::start(&exe!("sharers"), &["child", "exits"]);
    let child = workload.pid;
    let parent = parent_of(child);
    let trace = Trace::with(&["-p", &format!("{child},{parent}")]);
    let truth = workload.go();
    workload.end();
    let run = trace.finish();
    let summary = run.summary();
    summary.expect(&[("pid", u64::from(child))]);
    expect_both(summary, &truth);
    expect_note(summary, u64::from(parent));
    assert_eq!(run.header.list("targets").len(), 2);
}

fn parent_of(pid: u32) -> u32 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    parent
        .and_then(|pid| pid.trim().parse().ok())
        .expect("it has one")
}

/// memtrace in the pid namespace of another process.
fn trace_within(pid: u32, args: &[&str]) -> Trace {
    let host = pid.to_string();
    let mount = "mount -t proc none /proc && exec \"$@\"";
    let wrapper = [
        "nsenter", "-t", &host, "-p", "unshare", "--mount", "sh", "-c", mount, "sh",
    ];
    Trace::behind(&wrapper, args)
}

fn only_child_of(pid: u32) -> u32 {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let children = children.expect("it lives");
    children.trim().parse().expect("it has one child")
}

#[test]
fn a_sharer_outside_of_the_pid_namespace_makes_the_run_inexact() {
    needs!(Need::Tracing, Need::Mounting, Need::Btf, UNSHARE, NSENTER);
    let mut workload = Workload::start(&exe!("sharers"), &["child", "inside"]);
    let mut trace = trace_within(workload.pid, &["-p", "1"]);
    trace.rules.exact = false;
    workload.go();
    let memtrace = i32::try_from(only_child_of(trace.pid())).expect("pids are small");
    // SAFETY: the one who waits for it, which is our child, has not ended: the pid is its own.
    assert_eq!(unsafe { libc::kill(memtrace, libc::SIGINT) }, 0);
    let run = trace.finish();
    workload.end();
    let summary = run.summary();
    assert!(!summary.truth("exact"), "{summary}");
    let note = "its memory may be shared by a process outside of this pid namespace, which can't be traced from here: \
                run memtrace on the host";
    assert!(summary.texts("notes").contains(&note), "{summary}");
    // Its own part is known.
    summary.expect(&[("pid", 1), ("advice.MADV_DONTNEED.calls", 1)]);
}

/// A workload in a pid namespace of its own, which lives on after it.
struct Contained {
    child: Child,
    voice: Voice,
    pid: u32,
}

impl Drop for Contained {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn contained(words: &[&str]) -> Contained {
    let first = "exec 3<&0; \"$@\" <&3 3<&- & wait; exec sleep 1000";
    let mut child = Command::new("unshare")
        .args(["--pid", "--fork", "--kill-child", "sh", "-c", first, "sh"])
        .args(exe!("sharers").words())
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("unshare runs");
    let mut voice = Voice::of(&mut child);
    let pid = voice.ready();
    Contained { child, voice, pid }
}

#[test]
fn all_within_one_pid_namespace_is_as_exact_as_elsewhere() {
    needs!(Need::Tracing, Need::Mounting, Need::Btf, UNSHARE, NSENTER);
    let mut workload = contained(&["parent", "exits"]);
    let first = only_child_of(workload.child.id());
    let trace = trace_within(first, &["-p", &workload.pid.to_string()]);
    workload.voice.say("go");
    let truth = workload.voice.truth();
    workload.voice.say("end");
    let run = trace.finish();
    expect_both(run.summary(), &truth);
    expect_note(run.summary(), truth.count("child_pid"));
}

#[test]
fn what_a_vfork_child_does_to_its_own_memory_is_no_stray() {
    needs!(Need::Tracing);
    let mut workload = Workload::start(&exe!("spawns"), &[]);
    let trace = Trace::attach(workload.pid, &[]);
    let spawns = workload.go().count("spawns");
    workload.end();
    let run = trace.finish();
    let execs = run
        .lines("process")
        .filter(|line| line.text("event") == "exec");
    assert_eq!(execs.count() as u64, spawns);
    run.summary()
        .expect(&[("stray_events", 0), ("map.mmap.calls", 0)]);
}

#[test]
fn a_thread_is_no_sharer() {
    needs!(Need::Tracing);
    let mut workload = Workload::start(&exe!("threads_disjoint"), &[]);
    let trace = Trace::attach(workload.pid, &[]);
    workload.go();
    workload.end();
    let run = trace.finish();
    let notes = run.summary().texts("notes");
    assert!(
        !notes.iter().any(|note| note.contains("shares")),
        "{notes:?}"
    );
}

#[test]
fn the_kernel_side_needs_no_descriptor_that_is_still_open() {
    needs!(Need::Tracing, Need::Btf);
    let mut workload = Workload::start(&exe!("advises_and_closes"), &[]);
    let trace = Trace::attach(workload.pid, &["-f"]);
    let truth = workload.go();
    workload.end();
    let run = trace.finish();
    let (bytes, rounds) = (truth.count("bytes"), truth.count("rounds"));
    run.summary_of(truth.count("child_pid"), 0).expect(&[
        ("advice.MADV_COLD.calls", rounds),
        ("advice.MADV_COLD.requested_bytes", rounds * bytes),
    ]);
}

#[test]
fn a_process_madvise_that_is_refused_at_once_is_a_failed_call_and_no_more() {
    needs!(Need::Tracing);
    let mut workload = Workload::start(&exe!("refused_advice"), &[]);
    let trace = Trace::attach(workload.pid, &[]);
    let truth = workload.go();
    workload.end();
    let run = trace.finish();
    expect_refused(&run, &truth);
}

#[test]
fn without_btf_a_refused_one_is_known_too() {
    needs!(Need::Tracing, Need::Mounting, UNSHARE);
    let mut workload = Workload::start(&exe!("refused_advice"), &[]);
    let pid = workload.pid.to_string();
    let trace = Trace::behind(&WITHOUT_BTF, &["-p", &pid]);
    let truth = workload.go();
    workload.end();
    expect_refused(&trace.finish(), &truth);
}

#[track_caller]
fn expect_refused(run: &Run, truth: &Record) {
    let (pages, refused) = (truth.count("pages"), truth.count("refused"));
    let summary = run.summary();
    summary.expect(&[
        ("advice.MADV_COLD.calls", refused),
        ("advice.MADV_COLD.failed", refused),
        ("advice.MADV_COLD.requested_bytes", 0),
        ("advice.MADV_DONTNEED.released_bytes", pages * 4096),
        ("advice.MADV_DONTNEED.refaults", pages),
    ]);
    let notes = summary.texts("notes");
    assert!(
        !notes.iter().any(|note| note.contains("process_madvise")),
        "{notes:?}"
    );
}
