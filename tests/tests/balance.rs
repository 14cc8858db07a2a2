//! What became of what MADV_FREE marked: each part of the sum against the kernel's own figures.

use std::fs;

use memtrace_tests::bpf::attached_by;
use memtrace_tests::cgroup::MemoryCgroup;
use memtrace_tests::needs::{Need, not_run};
use memtrace_tests::record::Record;
use memtrace_tests::tracer::Trace;
use memtrace_tests::wait;
use memtrace_tests::workload::Workload;
use memtrace_tests::{exe, needs};

/// Pages that each CPU may hold back before they count as lazily free.
fn held_back() -> u64 {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    31 * 4096 * cpus as u64
}

/// Lazily freed memory that the whole machine has lost to reclaim.
fn machine_lost() -> u64 {
    let vmstat = fs::read_to_string("/proc/vmstat").expect("every Linux has it");
    let pages = vmstat
        .lines()
        .find_map(|line| line.strip_prefix("pglazyfreed "))
        .and_then(|pages| pages.parse::<u64>().ok());
    pages.expect("the kernel counts it") * 4096
}

/// Has the kernel page out an area of another process, as memtrace reclaim does.
fn page_out(pid: u32, start: u64, bytes: u64) {
    // SAFETY: pidfd_open takes integers, and process_madvise a vector of one range of the other
    // process; nothing of ours is written.
    unsafe {
        let pidfd = libc::syscall(libc::SYS_pidfd_open, pid, 0);
        assert!(pidfd >= 0);
        let range = libc::iovec {
            iov_base: start as *mut libc::c_void,
            iov_len: bytes as usize,
        };
        let advised = libc::syscall(
            libc::SYS_process_madvise,
            pidfd,
            &raw const range,
            1usize,
            libc::MADV_PAGEOUT,
            0usize,
        );
        assert_eq!(advised as u64, bytes);
        libc::close(pidfd as i32);
    }
}

/// Waits until a look at the target has shown what the workload told.
fn until_sampled(trace: &Trace, lazyfree_bytes: u64) {
    wait::until("a sample of LazyFree", || {
        let output = trace.output();
        let last = output
            .lines()
            .rev()
            .filter_map(|line| Record::parse(line).ok())
            .find(|line| line.kind() == "status")?;
        let sampled = last.count_or_none("lazyfree_bytes");
        (sampled.abs_diff(lazyfree_bytes) <= held_back()).then_some(())
    });
}

fn taken(before: &Record, after: &Record) -> u64 {
    (before.count("present") - after.count("present")) * 4096
}

/// Counted: exact where the machine's own count agrees, in which others may have a part.
fn is_counted(summary: &Record) {
    let basis = summary.text("lazy_balance.reclaimed_basis");
    assert!(["exact", "measured"].contains(&basis), "{summary}");
}

/// What is known of the parts fits into what was marked, and what may be fills it.
fn adds_up(summary: &Record) {
    let part = |name: &str| summary.count(&format!("lazy_balance.{name}"));
    let known = part("still_lazy_bytes") + part("reclaimed_bytes");
    let marked = part("marked_bytes");
    assert!(known + part("reused_at_least_bytes") <= marked, "{summary}");
    assert!(
        marked <= known + part("reused_silently_bytes") + part("dropped_bytes"),
        "{summary}"
    );
}

#[test]
fn what_is_reused_taken_and_refaulted_is_told_apart() {
    needs!(Need::Tracing, Need::ReclaimCount, Need::NoSwap);
    let mut workload = Workload::start(&exe!("lazy_steps"), &[]);
    let trace = Trace::attach(workload.pid, &["--interval", "0.1"]);
    let freed = workload.go();
    let bytes = freed.count("pages") * 4096;
    let reused = workload.say("reuse");
    until_sampled(&trace, reused.count("lazyfree_bytes"));
    let before = machine_lost();
    page_out(workload.pid, freed.count("start"), bytes);
    let machine = machine_lost() - before;
    let touched = workload.say("touch");
    // The second quarter was gone and came back; all of the others' were gone too.
    let gone = bytes - touched.count("present") * 4096 + bytes / 4;
    until_sampled(&trace, touched.count("lazyfree_bytes"));
    trace.signal(libc::SIGINT);
    let run = trace.finish();
    workload.kill();

    let summary = run.summary();
    assert_eq!(summary.count("lazy_balance.before_bytes"), 0);
    // What CPUs held back at the first look may have been marked before.
    let marked = summary.count("lazy_balance.marked_bytes");
    assert!((bytes..=bytes + held_back()).contains(&marked), "{summary}");
    assert_eq!(
        summary.count("lazy_balance.reclaimed_bytes"),
        gone,
        "{summary}"
    );
    assert_eq!(summary.count("rss.reclaimed_bytes"), gone);
    is_counted(summary);
    // The machine may have lost more, but nothing that the kernel did not count.
    assert!(gone <= machine, "{gone} of {machine}");
    let silently = summary.count("lazy_balance.reused_silently_bytes");
    // Twice over: at the first look, and where FREE came to what another CPU held back.
    let most = bytes / 4 + 2 * held_back();
    assert!((bytes / 4..=most).contains(&silently), "{summary}");
    let least = summary.count("lazy_balance.reused_at_least_bytes");
    let lowest = (bytes / 4).saturating_sub(2 * held_back());
    assert!((lowest..=bytes / 4).contains(&least), "{summary}");
    assert_eq!(summary.count("advice.MADV_FREE.refaulted_bytes"), bytes / 4);
    adds_up(summary);
}

#[test]
fn what_a_cgroup_takes_at_its_limit_is_counted_whoever_reclaims() {
    needs!(Need::Tracing, Need::ReclaimCount, Need::NoSwap);
    let group = match MemoryCgroup::make("limit") {
        Ok(group) => group,
        Err(why) => {
            let test = "what_a_cgroup_takes_at_its_limit_is_counted_whoever_reclaims";
            return not_run(
                test,
                &why,
                "mount a cgroup hierarchy with the memory controller",
            );
        }
    };
    let mut workload = Workload::start(&exe!("lazy_steps"), &["16384"]);
    group.take(workload.pid);
    let trace = Trace::attach(workload.pid, &["--interval", "0.1"]);
    let freed = workload.go();
    let bytes = freed.count("pages") * 4096;
    until_sampled(&trace, freed.count("lazyfree_bytes"));
    let before = machine_lost();
    // A quarter of it must go, which this process has to see to.
    group.limit(bytes / 4 * 3);
    let limited = workload.say("reuse");
    let by_us = taken(&freed, &limited);
    assert!(by_us > bytes / 8, "{limited}");
    // And here the target itself, in its own faults.
    let full = workload.say("more");
    let by_itself = taken(&limited, &full);
    assert!(by_itself > 0, "{full}");
    let machine = machine_lost() - before;
    until_sampled(&trace, full.count("lazyfree_bytes"));
    trace.signal(libc::SIGINT);
    let run = trace.finish();
    workload.kill();

    let summary = run.summary();
    let reclaimed = summary.count("lazy_balance.reclaimed_bytes");
    let refaulted = summary.count("advice.MADV_FREE.refaulted_bytes");
    // What was rewritten had gone before, where it made a fault.
    assert_eq!(reclaimed, by_us + by_itself + refaulted, "{summary}");
    assert!(reclaimed <= machine, "{reclaimed} of {machine}");
    is_counted(summary);
    let cgroup = summary.count("rss.cgroup.usage_bytes");
    assert!(cgroup <= bytes / 4 * 3, "{summary}");
    assert_eq!(summary.count("rss.cgroup.limit_bytes"), bytes / 4 * 3);
}

#[test]
fn dropped_memory_is_no_reclaim() {
    needs!(Need::Tracing);
    let mut workload = Workload::start(&exe!("lazy_steps"), &[]);
    let trace = Trace::attach(workload.pid, &["--interval", "0.1"]);
    let freed = workload.go();
    let bytes = freed.count("pages") * 4096;
    until_sampled(&trace, freed.count("lazyfree_bytes"));
    let dropped = workload.say("drop");
    assert_eq!(dropped.count("present"), 0);
    until_sampled(&trace, 0);
    workload.kill();
    let run = trace.finish();
    let summary = run.summary();
    assert_eq!(
        summary.count("lazy_balance.reclaimed_bytes"),
        0,
        "{summary}"
    );
    let dropped = summary.count("lazy_balance.dropped_bytes");
    assert!(dropped.abs_diff(bytes) <= held_back(), "{summary}");
    adds_up(summary);
}

#[test]
fn what_goes_with_the_process_is_dropped_and_not_reclaimed() {
    needs!(Need::Tracing);
    let mut workload = Workload::start(&exe!("lazy_steps"), &[]);
    let trace = Trace::attach(workload.pid, &["--interval", "0.1"]);
    let freed = workload.go();
    let bytes = freed.count("pages") * 4096;
    until_sampled(&trace, freed.count("lazyfree_bytes"));
    workload.kill();
    let run = trace.finish();
    let summary = run.summary();
    assert_eq!(
        summary.count("lazy_balance.reclaimed_bytes"),
        0,
        "{summary}"
    );
    assert_eq!(summary.count("lazy_balance.still_lazy_bytes"), 0);
    // The last look stands, with its age.
    let lazy = summary.count("rss.lazyfree_bytes");
    assert!(lazy.abs_diff(bytes) <= held_back(), "{summary}");
    assert!(summary.count("rss.lazyfree_age_ns") > 0);
    adds_up(summary);
}

#[test]
fn what_nobody_counts_is_null_and_bounded() {
    needs!(Need::Tracing, Need::NoSwap);
    let mut workload = Workload::start(&exe!("lazy_steps"), &[]);
    let trace = Trace::attach(
        workload.pid,
        &["--interval", "0.1", "--no-reclaim-tracking"],
    );
    let freed = workload.go();
    let bytes = freed.count("pages") * 4096;
    page_out(workload.pid, freed.count("start"), bytes);
    let touched = workload.say("touch");
    let gone = bytes - touched.count("present") * 4096 + bytes / 4;
    trace.signal(libc::SIGINT);
    let run = trace.finish();
    workload.kill();
    let summary = run.summary();
    for key in [
        "reclaimed_bytes",
        "reclaimed_basis",
        "reused_silently_bytes",
    ] {
        let at = format!("lazy_balance.{key}");
        assert!(summary.at(&at).is_null(), "{at}: {summary}");
    }
    assert!(summary.at("rss.reclaimed_bytes").is_null());
    assert_eq!(
        summary.count("lazy_balance.reclaimed_at_least_bytes"),
        bytes / 4
    );
    assert!(
        summary.count("lazy_balance.reclaimed_at_most_bytes") >= gone,
        "{summary}"
    );
}

#[test]
fn what_a_cgroup_takes_is_bounded_where_nobody_counts_it() {
    needs!(Need::Tracing, Need::NoSwap);
    let group = match MemoryCgroup::make("bounds") {
        Ok(group) => group,
        Err(why) => {
            let test = "what_a_cgroup_takes_is_bounded_where_nobody_counts_it";
            let remedy = "mount a cgroup hierarchy with the memory controller";
            return not_run(test, &why, remedy);
        }
    };
    let mut workload = Workload::start(&exe!("lazy_steps"), &["16384"]);
    group.take(workload.pid);
    let args = ["--interval", "0.1", "--no-reclaim-tracking"];
    let trace = Trace::attach(workload.pid, &args);
    let freed = workload.go();
    let limit = freed.count("pages") * 4096 / 4 * 3;
    group.limit(limit);
    let limited = workload.say("reuse");
    trace.signal(libc::SIGINT);
    let run = trace.finish();
    workload.kill();

    let summary = run.summary();
    // What was rewritten had gone before, where it made a fault.
    let refaulted = summary.count("advice.MADV_FREE.refaulted_bytes");
    let gone = taken(&freed, &limited) + refaulted;
    let bound = |which: &str| summary.count(&format!("lazy_balance.reclaimed_{which}_bytes"));
    assert!(bound("at_least") <= gone, "{gone} in {summary}");
    assert!(gone <= bound("at_most"), "{gone} in {summary}");
    assert_eq!(summary.count("rss.cgroup.limit_bytes"), limit);
}

#[test]
fn memory_lazily_free_before_the_trace_is_found_and_its_end_is_counted() {
    needs!(Need::Tracing, Need::ReclaimCount, Need::NoSwap);
    let mut workload = Workload::start(&exe!("lazy_steps"), &[]);
    let freed = workload.go();
    let bytes = freed.count("pages") * 4096;
    let trace = Trace::attach(workload.pid, &["--interval", "0.1"]);
    until_sampled(&trace, freed.count("lazyfree_bytes"));
    // The count begins when a look has shown that there is something to count.
    wait::until("the count's beginning", || {
        attached_by(trace.pid()).contains("rss_stat").then_some(())
    });
    page_out(workload.pid, freed.count("start"), bytes);
    let after = workload.say("free");
    let gone = taken(&freed, &after);
    trace.signal(libc::SIGINT);
    let run = trace.finish();
    workload.kill();
    let summary = run.summary();
    let before = summary.count("lazy_balance.before_bytes");
    assert!(before.abs_diff(bytes) <= held_back(), "{summary}");
    assert_eq!(
        summary.count("lazy_balance.reclaimed_bytes"),
        gone,
        "{summary}"
    );
}

#[test]
fn a_burst_of_free_is_looked_at_at_once_and_nothing_is_looked_at_without_need() {
    needs!(Need::Tracing);
    let mut workload = Workload::start(&exe!("lazy_steps"), &[]);
    // No status line comes for a minute, and with it no regular look.
    let mut trace = Trace::attach(workload.pid, &["--interval", "60", "-v"]);
    trace.rules.quiet_stderr = false;
    let freed = workload.go();
    let bytes = freed.count("pages") * 4096;
    wait::until("a look after the burst", || {
        (trace.stderr().matches("a look at smaps_rollup").count() >= 2).then_some(())
    });
    workload.kill();
    let run = trace.finish();
    let summary = run.summary();
    let lazy = summary.count("rss.lazyfree_bytes");
    assert!(lazy.abs_diff(bytes) <= held_back(), "{summary}");
    // One at attach, one after the burst; the process was gone before one at the end.
    assert!(summary.count("rss.samples") <= 3, "{summary}");
    assert!(summary.count("rss.sample_cost_ns") > 0);
}

#[test]
fn the_count_is_off_while_nothing_can_be_lazily_free() {
    needs!(Need::Tracing, Need::ReclaimCount);
    let mut workload = Workload::start(&exe!("dontneed_touch"), &[]);
    let trace = Trace::attach(workload.pid, &["--interval", "0.1"]);
    workload.go();
    wait::until("some status lines", || {
        (trace.output().matches("\"type\":\"status\"").count() > 5).then_some(())
    });
    let programs = attached_by(trace.pid());
    assert!(programs.contains("enter_madvise"), "{programs:?}");
    // On a slow machine it may have begun before the first look showed that there is nothing.
    wait::until("the count to be off", || {
        (!attached_by(trace.pid()).contains("rss_stat")).then_some(())
    });
    workload.end();
    let run = trace.finish();
    let summary = run.summary();
    // The one at attach; the process was gone at the end.
    assert_eq!(summary.count("rss.samples"), 1, "{summary}");
    let marked = summary.count_or_none("lazy_balance.marked_bytes");
    assert_eq!(marked, 0, "{summary}");
}
