//! A ring that is much too small: what is lost is counted to the last, and nothing is classed by guess.

use memtrace_tests::needs::Need;
use memtrace_tests::run::Rules;
use memtrace_tests::scenario::{Played, Scenario};
use memtrace_tests::{exe, needs};

/// The smallest ring there is: a few records.
fn overloaded(workload: memtrace_tests::binary::Exe) -> Played {
    let played = Scenario::of(workload)
        .traced_with("--ringbuf-size")
        .traced_with("4K")
        .under(Rules {
            exact: false,
            ..Rules::default()
        })
        .play();
    let summary = played.summary();
    assert!(!summary.truth("exact"), "in\n{summary}");
    // What came and what is lost is what the kernel itself counted.
    assert_eq!(
        summary.count("faults.total") + summary.count("lost.faults"),
        played.faults.all(),
        "in\n{summary}"
    );
    // The kernel side's own counters agree: no self-check failed.
    for note in summary.texts("notes") {
        assert!(!note.contains("self-check"), "{note} in\n{summary}");
    }
    let lost: Vec<_> = played.run.lines("lost").collect();
    let last = lost.last().expect("the stream tells of the loss");
    assert_eq!(last.count("faults"), summary.count("lost.faults"), "{last}");
    played
}

#[test]
fn faults_that_do_not_fit_are_counted_and_leave_doubt_not_error() {
    needs!(Need::Tracing);
    let played = overloaded(exe!("many_refaults"));
    let summary = played.summary();
    let (pages, rounds) = (played.told("pages"), played.told("rounds"));
    assert!(summary.count("lost.faults") > 0, "in\n{summary}");
    // The calls come seldom enough to find room, but for the few that meet a full ring.
    assert_eq!(
        summary.count_or_none("advice.MADV_DONTNEED.calls") + summary.count("lost.calls"),
        // The area's own mmap, and its give-backs.
        rounds + 1 - summary.count("map.mmap.calls"),
        "in\n{summary}"
    );
    // Of each class no more than there were; what is not certain is unknown.
    assert!(
        summary.count("faults.first_touch") <= pages,
        "in\n{summary}"
    );
    assert!(
        summary.count("faults.refault_dontneed") <= pages * rounds,
        "in\n{summary}"
    );
    let others = ["refault_free", "refault_other", "cow", "file"];
    for class in others {
        assert_eq!(
            summary.count(&format!("faults.{class}")),
            0,
            "in\n{summary}"
        );
    }
    assert!(summary.count("faults.unknown") > 0, "in\n{summary}");
}

#[test]
fn calls_that_do_not_fit_leave_mappings_in_doubt() {
    needs!(Need::Tracing);
    let played = overloaded(exe!("threads_churn"));
    let summary = played.summary();
    let (first, refaults) = (played.told("first_touches"), played.told("refaults"));
    assert!(summary.count("lost.calls") > 0, "in\n{summary}");
    let maps = played.told("maps");
    // Each map is an mmap, two give-backs and a munmap. A call whose beginning the kernel has not
    // shown us, since another program was running on that CPU, is seen and not placed.
    let placed = summary.count("map.mmap.calls")
        + summary.count_or_none("advice.MADV_DONTNEED.calls")
        + summary.count("unmap.munmap.calls");
    let (lost, unseen) = (summary.count("lost.calls"), summary.count("unseen_calls"));
    let all = 4 * maps;
    assert!(
        placed + lost <= all + unseen && all <= placed + lost + unseen,
        "{placed} + {lost} lost and {unseen} unseen are not {all} in\n{summary}"
    );
    assert!(
        summary.count("faults.first_touch") <= first,
        "in\n{summary}"
    );
    assert!(
        summary.count("faults.refault_dontneed") <= refaults,
        "in\n{summary}"
    );
    assert_eq!(summary.count("faults.file"), 0, "in\n{summary}");
}
