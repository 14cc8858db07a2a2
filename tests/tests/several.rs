//! Several targets at once: each has its own figures, and the total is their sum.

use memtrace_tests::needs::Need;
use memtrace_tests::record::Record;
use memtrace_tests::run::Run;
use memtrace_tests::scenario::{Scenario, expect_classes};
use memtrace_tests::tracer::Trace;
use memtrace_tests::workload::Workload;
use memtrace_tests::{exe, needs};

/// Asserts of every count of the total that it is the sum over the summaries.
#[track_caller]
fn expect_sums(run: &Run) {
    let total = run.total.as_ref().expect("several were traced");
    let mut compared = 0;
    for group in ["lost", "map", "unmap", "advice", "faults"] {
        for path in counts_below(total, group) {
            let parts = run.parts().map(|part| part.count_or_none(&path));
            let sum: u64 = parts.sum();
            // What nothing was counted of may be unknown in both.
            assert_eq!(total.count_or_none(&path), sum, "{path} in\n{total}");
            compared += usize::from(sum > 0);
        }
    }
    assert!(
        compared > 10,
        "only {compared} counts were not 0 in\n{total}"
    );
}

/// The paths of what is summed up: no ages, and nothing that is derived.
fn counts_below(record: &Record, path: &str) -> Vec<String> {
    let keys = record.keys(path).into_iter();
    let paths = keys.map(|key| format!("{path}.{key}"));
    paths
        .flat_map(|path| match record.at(&path) {
            below if path.ends_with("age_ns") || below.is_string() => Vec::new(),
            below if below.is_object() => counts_below(record, &path),
            value if value.is_u64() || value.is_null() => vec![path],
            _ => Vec::new(),
        })
        .collect()
}

#[test]
fn two_processes_have_exactly_their_own_figures_and_a_sum() {
    needs!(Need::Tracing);
    let mut first = Workload::start(&exe!("dontneed_touch"), &[]);
    let mut second = Workload::start(&exe!("threads_disjoint"), &[]);
    let mut bystander = Workload::start(&exe!("dontneed_touch"), &[]);
    let before = [first.counters(), second.counters()];
    let trace = Trace::with(&["-p", &format!("{},{}", first.pid, second.pid)]);
    bystander.go();
    let (one, two) = (first.go(), second.go());
    let faults = [first.counters() - before[0], second.counters() - before[1]];
    let pids = [first.pid, second.pid].map(u64::from);
    first.end();
    second.end();
    let run = trace.finish();
    bystander.end();

    assert_eq!(run.summaries.len(), 2);
    let (pages, refaults) = (one.count("pages"), two.count("refaults"));
    let summary = run.summary_of(pids[0], 0);
    expect_classes(
        summary,
        &[("first_touch", pages), ("refault_dontneed", pages)],
    );
    summary.expect(&[
        ("faults.total", faults[0].all()),
        ("advice.MADV_DONTNEED.calls", 1),
        ("advice.MADV_DONTNEED.requested_bytes", pages * 4096),
        ("map.mmap.calls", 1),
    ]);
    let summary = run.summary_of(pids[1], 0);
    expect_classes(summary, &[("refault_dontneed", refaults)]);
    summary.expect(&[
        ("faults.total", faults[1].all()),
        ("advice.MADV_DONTNEED.calls", two.count("calls")),
        ("advice.MADV_DONTNEED.requested_bytes", refaults * 4096),
        ("map.mmap.calls", 0),
    ]);
    expect_sums(&run);
    let total = run.total.as_ref().expect("two were traced");
    total.expect(&[
        ("processes", 2),
        ("faults.total", faults[0].all() + faults[1].all()),
        ("advice.MADV_DONTNEED.calls", 1 + two.count("calls")),
        ("advice.MADV_DONTNEED.refaults", pages + refaults),
    ]);
}

#[test]
fn three_children_that_are_followed_have_their_own_figures_and_a_sum() {
    needs!(Need::Tracing);
    let scenario = Scenario::of(exe!("children_advise")).traced_with("-f");
    let played = scenario.play();
    let own = u64::from(played.pid);
    let told = |name: &str| played.told(name);
    assert_eq!(played.run.summaries.len(), 4);
    for (pid, pages) in [
        (own, told("pages")),
        (told("first"), told("first_pages")),
        (told("second"), told("second_pages")),
        (told("third"), told("third_pages")),
    ] {
        // Beside these there are the copies of what the fork shared.
        played.run.summary_of(pid, 0).expect(&[
            ("faults.first_touch", pages),
            ("faults.refault_dontneed", pages),
            ("advice.MADV_DONTNEED.calls", 1),
            ("advice.MADV_DONTNEED.requested_bytes", pages * 4096),
            ("advice.MADV_DONTNEED.refaults", pages),
            ("advice.MADV_FREE.calls", 1),
            ("advice.MADV_FREE.requested_bytes", pages / 2 * 4096),
            ("advice.MADV_FREE.refaults", 0),
            ("map.mmap.calls", 1),
            ("map.mmap.bytes", pages * 4096),
        ]);
    }
    expect_sums(&played.run);
    let total = played.run.total.as_ref().expect("four were traced");
    let pages = told("pages") + told("first_pages") + told("second_pages") + told("third_pages");
    total.expect(&[
        ("processes", 4),
        ("advice.MADV_DONTNEED.calls", 4),
        ("advice.MADV_DONTNEED.refaults", pages),
        ("advice.MADV_FREE.calls", 4),
        ("map.mmap.bytes", pages * 4096),
    ]);
}

#[test]
fn without_following_children_are_counted_but_not_traced() {
    needs!(Need::Tracing);
    let played = Scenario::of(exe!("children_advise")).play();
    let summary = played.summary();
    let pages = played.told("pages");
    summary.expect(&[
        ("faults.first_touch", pages),
        ("advice.MADV_DONTNEED.calls", 1),
        ("map.mmap.bytes", pages * 4096),
    ]);
    let notes = summary.texts("notes");
    let told = |note: &&str| note.starts_with("3 forks into processes that are not traced");
    assert!(notes.iter().any(told), "{notes:?}");
}
