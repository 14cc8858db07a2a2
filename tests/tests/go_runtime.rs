//! A real Go program: what its runtime says that it released is what memtrace sees, by either advice.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use memtrace_tests::compare::is_percent;
use memtrace_tests::golang::{self, GO};
use memtrace_tests::needs;
use memtrace_tests::needs::Need;
use memtrace_tests::record::Record;
use memtrace_tests::smaps::Memory;
use memtrace_tests::tracer::{Trace, command};
use memtrace_tests::workload::{Workload, without_huge_pages};

/// The program takes 430 MB: one at a time.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    // Another test's failure is no reason to fail this one.
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The program, built.
fn bigmap() -> PathBuf {
    golang::build("bigmap", Path::new(env!("CARGO_TARGET_TMPDIR")))
}

fn start(setting: &str) -> Workload {
    let mut command = Command::new(bigmap());
    command.env("GODEBUG", setting).env_remove("GOGC");
    // So that a fault is one page, and bytes can be compared.
    without_huge_pages(&mut command);
    Workload::start_command(&mut command)
}

/// What the runtime counts as released in one step.
fn released(truth: &Record) -> u64 {
    truth.count("released_after_bytes") - truth.count("released_before_bytes")
}

#[test]
fn memory_released_by_free_stays_in_rss_and_is_told_apart_from_a_leak() {
    needs!(Need::Tracing, GO);
    let _alone = alone();
    let mut workload = start("madvdontneed=0");
    let trace = Trace::attach(workload.pid, &[]);
    let truth = workload.go();
    trace.signal(libc::SIGINT);
    let run = trace.finish();
    workload.say("again");
    workload.end();

    assert!(released(&truth) > 300 << 20, "{truth}");
    is_percent(
        truth.count("rss_after_bytes"),
        90,
        110,
        truth.count("rss_before_bytes"),
    );

    let summary = run.summary();
    let requested = summary.count("advice.MADV_FREE.requested_bytes");
    is_percent(requested, 80, 110, released(&truth));
    // All that the kernel marked was asked for.
    assert!(requested >= truth.count("lazyfree_bytes"), "{summary}");
    let dropped = summary.count_or_none("advice.MADV_DONTNEED.requested_bytes");
    assert!(dropped < requested / 100, "{summary}");
    // It was interrupted while the program held still, and so the last sample is of that state.
    let (start, end) = (
        summary.count("rss.start_bytes"),
        summary.count("rss.end_bytes"),
    );
    is_percent(end, 90, 110, start);
    // LazyFree tells the released memory from a leak.
    let lazy = truth.count("lazyfree_bytes");
    is_percent(summary.count("rss.lazyfree_bytes"), 99, 101, lazy);
    assert_eq!(summary.text("verdict.kind"), "lazily_free", "{summary}");
    assert_eq!(summary.text("verdict.confidence"), "high", "{summary}");
    let verdict = summary.at("verdict").to_string();
    for named in [
        &go_version()[..],
        "GODEBUG=madvdontneed=0",
        "memtrace reclaim",
    ] {
        assert!(verdict.contains(named), "{named} is not in {verdict}");
    }
}

/// What the compiler calls its version, as the programs that it builds do: `go1.19.8`.
fn go_version() -> String {
    let output = Command::new("go").args(["env", "GOVERSION"]).output();
    let output = output.expect("go runs").stdout;
    String::from_utf8_lossy(&output).trim().to_owned()
}

/// The program at the same point under either setting: effective RSS is what RSS would be, and
/// reclaim makes it so.
#[test]
fn effective_rss_is_what_rss_would_be_under_dontneed_and_reclaim_makes_it_so() {
    needs!(Need::Tracing, Need::Reclaiming, Need::NoSwap, GO);
    let _alone = alone();
    let mut dontneed = start("madvdontneed=1");
    dontneed.go();
    let expected = Memory::of(dontneed.pid).rss_bytes;
    dontneed.kill();

    let mut free = start("madvdontneed=0");
    let trace = Trace::attach(free.pid, &[]);
    let truth = free.go();
    trace.signal(libc::SIGINT);
    let run = trace.finish();
    let effective = run.summary().count("rss.effective_bytes");
    is_percent(effective, 95, 105, expected);
    assert!(truth.count("rss_after_bytes") > 5 * effective, "{truth}");

    let pid = free.pid.to_string();
    let reclaim = command().args(["reclaim", "-p", &pid]).output();
    let reclaim = reclaim.expect("memtrace starts");
    assert!(reclaim.status.success(), "{reclaim:?}");
    is_percent(Memory::of(free.pid).rss_bytes, 95, 105, expected);
    let checked = free.say("check");
    assert_eq!(
        checked.count("touched_bytes"),
        4096 * 1024,
        "bytes were lost"
    );
    // It goes on as if nothing had been.
    let again = free.say("again");
    assert!(again.count("touched_bytes") >= 100 << 20, "{again}");
    free.end();
}

#[test]
fn memory_released_by_free_is_reused_without_a_refault() {
    needs!(Need::Tracing, GO);
    let _alone = alone();
    let mut workload = start("madvdontneed=0");
    let trace = Trace::attach(workload.pid, &[]);
    let first = workload.go();
    let second = workload.say("again");
    workload.end();
    let run = trace.finish();
    let summary = run.summary();
    // The kernel had memory enough and took nothing: fewer faults than a hundredth of the pages
    // that were written again, whatever they were.
    let pages = second.count("touched_bytes") / 4096;
    assert!(second.count("faults") < pages / 100, "{second}");
    let faults = first.count("faults") + second.count("faults");
    assert!(summary.count("faults.refault_free") <= faults, "{summary}");
}

#[test]
fn memory_released_by_dontneed_leaves_rss_and_refaults_when_reused() {
    needs!(Need::Tracing, GO);
    let _alone = alone();
    let mut workload = start("madvdontneed=1");
    let trace = Trace::attach(workload.pid, &[]);
    // The runtime's own threads fault whenever they like: what they did while memtrace attached is
    // counted by the kernel alone.
    let before = workload.counters();
    let first = workload.go();
    let second = workload.say("again");
    let faults = workload.counters() - before;
    workload.end();
    let run = trace.finish();

    let left = first.count("rss_before_bytes") - first.count("rss_after_bytes");
    is_percent(left, 80, 110, released(&first));

    let summary = run.summary();
    let requested = summary.count("advice.MADV_DONTNEED.requested_bytes");
    is_percent(requested, 80, 110, released(&first));
    assert!(requested >= left, "what left RSS was asked for: {summary}");
    assert_eq!(summary.count_or_none("advice.MADV_FREE.calls"), 0);
    // What was written again came back page by page. The heap also grows a little beside it.
    let refaulted = summary.count("advice.MADV_DONTNEED.refaulted_bytes");
    is_percent(refaulted, 80, 110, second.count("touched_bytes"));
    let grown = second.count("rss_after_bytes") - second.count("rss_before_bytes");
    is_percent(refaulted, 80, 110, grown);
    // The runtime interrupts its threads by signals, and a fault that is interrupted while it
    // waits for the address space is traced again when it is repeated; each is one of the few
    // hundred interruptions in the run. Code that was not mapped yet counts on both sides.
    let (traced, counted) = (summary.count("faults.total"), faults.all());
    assert!(traced >= counted, "{traced} traced, {counted} counted");
    is_percent(traced, 100, 101, counted);
}
