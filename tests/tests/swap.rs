//! A machine with swap that is short of memory: what was lazily free is told apart from what was swapped out.
//!
//! They are ignored, since they are no good to a machine that others work on: `cargo xtask vm-test` runs them.

use std::fs;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use memtrace_tests::cgroup::MemoryCgroup;
use memtrace_tests::needs::Need;
use memtrace_tests::record::Record;
use memtrace_tests::tracer::{Trace, command};
use memtrace_tests::wait;
use memtrace_tests::workload::Workload;
use memtrace_tests::{exe, needs};

const PAGE: u64 = 4096;
const USED: u64 = 4096;
const LAZY: u64 = 4096;

/// A workload in a memory cgroup of its own.
struct Limited {
    workload: Workload,
    group: MemoryCgroup,
}

impl Limited {
    fn start(used: u64, lazy: u64) -> Self {
        let args = [used, lazy].map(|pages| pages.to_string());
        let workload = Workload::start(&exe!("swaps"), &[&args[0], &args[1]]);
        let group = MemoryCgroup::make("swap").expect("the machine is for such tests");
        group.take(workload.pid);
        Self { workload, group }
    }

    /// Has the kernel reclaim until a part of what is in use went to swap.
    fn squeeze(&mut self) -> Record {
        self.group.limit(USED / 2 * PAGE);
        let told = self.workload.say("look");
        assert!(told.count("used_swapped") >= USED / 4, "{told}");
        self.group.limit(4 * (USED + LAZY) * PAGE);
        told
    }
}

/// Waits until memtrace has looked at what is lazily free, and counts from there on.
fn until_looked_at(trace: &Trace) {
    wait::until("a look at what is lazily free", || {
        let output = trace.output();
        let lines = output.lines().filter_map(|line| Record::parse(line).ok());
        let looks = lines.filter(|line| line.count_or_none("lazyfree_bytes") > LAZY / 2 * PAGE);
        (looks.count() >= 2).then_some(())
    });
}

#[test]
#[ignore = "wants a machine of its own with swap"]
fn what_comes_back_from_swap_is_neither_a_refault_nor_new() {
    needs!(Need::Tracing, Need::Swap);
    let mut limited = Limited::start(USED, 1);
    let before = limited.workload.counters();
    let trace = Trace::attach(limited.workload.pid, &[]);
    limited.workload.go();
    let swapped = limited.squeeze().count("used_swapped");
    let touched = limited.workload.say("touch");
    touched.expect(&[("used_present", USED), ("used_wrong", 0)]);
    let faults = limited.workload.counters() - before;
    trace.signal(libc::SIGINT);
    let run = trace.finish();
    limited.workload.kill();

    let summary = run.summary();
    let count = |class: &str| summary.count_or_none(&format!("faults.{class}"));
    assert_eq!(count("total"), faults.all(), "{summary}");
    for refault in ["refault_dontneed", "refault_free", "refault_other"] {
        assert_eq!(count(refault), 0, "{summary}");
    }
    // Each page that was swapped out comes back by a fault of its own; the program's own pages
    // may have gone too, and come back as what they are.
    assert!(count("swap_in") + count("unknown") >= swapped, "{summary}");
    assert!(
        (USED..USED + 64).contains(&count("first_touch")),
        "{summary}"
    );
}

#[test]
#[ignore = "wants a machine of its own with swap"]
fn what_was_lazily_free_is_counted_and_what_was_swapped_out_is_not() {
    needs!(Need::Tracing, Need::Swap, Need::ReclaimCount);
    let mut limited = Limited::start(USED, LAZY);
    let trace = Trace::attach(limited.workload.pid, &["--interval", "0.1"]);
    limited.workload.go();
    until_looked_at(&trace);
    let told = limited.squeeze();
    trace.signal(libc::SIGINT);
    let run = trace.finish();
    limited.workload.kill();
    let summary = run.summary();
    let gone = gone_bytes(LAZY, &told);
    let counted = summary.count("lazy_balance.reclaimed_bytes");
    assert_eq!(counted, gone, "{told}\n{summary}");
    assert!(gone >= LAZY / 2 * PAGE, "{told}");
}

/// What the kernel dropped. What a CPU still held back in a batch was not lazily free yet, and went
/// to swap like any other page.
fn gone_bytes(pages: u64, told: &Record) -> u64 {
    let swapped = told.count("lazy_swapped");
    let cpus = thread::available_parallelism().map_or(1, |cpus| cpus.get() as u64);
    assert!(swapped <= 31 * cpus, "{told}");
    (pages - told.count("lazy_present") - swapped) * PAGE
}

#[test]
#[ignore = "wants a machine of its own with swap"]
fn what_a_machine_short_of_memory_takes_by_itself_is_counted() {
    needs!(Need::Tracing, Need::Swap, Need::ReclaimCount);
    const MANY: u64 = 4 * LAZY;
    let mut workload = Workload::start(&exe!("swaps"), &["1", &MANY.to_string()]);
    let trace = Trace::attach(workload.pid, &["--interval", "0.1"]);
    workload.go();
    until_looked_at(&trace);
    // More than is free. What is lazily free goes first, and suffices: swap there lies in memory too.
    let pages = meminfo("MemFree") / PAGE + MANY / 2;
    let mut filler = Workload::start(&exe!("fills"), &[&pages.to_string()]);
    filler.go();
    filler.kill();
    let told = at_rest(&mut workload);
    trace.signal(libc::SIGINT);
    let run = trace.finish();
    workload.kill();
    let gone = gone_bytes(MANY, &told);
    assert!(gone >= MANY / 4 * PAGE, "{told}");
    let summary = run.summary();
    let counted = summary.count("lazy_balance.reclaimed_bytes");
    assert_eq!(counted, gone, "{told}\n{summary}");
}

/// What a workload tells once the kernel's own thread takes nothing more.
fn at_rest(workload: &mut Workload) -> Record {
    let mut before = None;
    wait::until("reclaim to end", || {
        thread::sleep(Duration::from_millis(200));
        let told = workload.say("look");
        let present = Some(told.count("lazy_present"));
        let same = before == present;
        before = present;
        same.then_some(told)
    })
}

/// A line of /proc/meminfo, in bytes.
fn meminfo(name: &str) -> u64 {
    let meminfo = fs::read_to_string("/proc/meminfo").expect("every Linux has it");
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name));
    let kilobytes = line.and_then(|rest| rest.split_whitespace().nth(1));
    let kilobytes: Option<u64> = kilobytes.and_then(|number| number.parse().ok());
    kilobytes.unwrap_or_else(|| panic!("no {name} in\n{meminfo}")) * 1024
}

#[test]
#[ignore = "wants a machine of its own with swap"]
fn reclaim_is_refused_beside_swap_and_loses_nothing_where_it_is_allowed() {
    needs!(Need::Reclaiming, Need::Swap);
    let mut workload = Workload::start(&exe!("reclaim_pattern"), &[]);
    let freed = workload.go().count("freed_bytes");
    let pid = workload.pid.to_string();
    let reclaim = |extra: &[&str]| {
        command()
            .args(["reclaim", "--format", "json", "-p", &pid])
            .args(extra)
            .stdin(Stdio::null())
            .output()
            .expect("memtrace starts")
    };
    let refused = reclaim(&[]);
    let stderr = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("--allow-swap"), "{stderr}");

    let allowed = reclaim(&["--allow-swap"]);
    let stderr = String::from_utf8_lossy(&allowed.stderr);
    assert_eq!(allowed.status.code(), Some(0), "{stderr}");
    let stdout = String::from_utf8_lossy(&allowed.stdout);
    let done = Record::parse(stdout.trim_end()).expect("it is one line of JSON");
    assert!(done.count("swap_grown_bytes") > 0, "{done}");
    assert!(done.count("taken_bytes") >= freed / 10 * 9, "{done}");
    workload.say("check").expect(&[
        ("written_wrong", 0),
        ("kept_wrong", 0),
        ("rewritten_wrong", 0),
        ("freed_wrong", 0),
    ]);
    workload.end();
}
