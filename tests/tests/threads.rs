//! Many threads at once: exact where their pages are apart, and honest where they are not.

use memtrace_tests::needs::Need;
use memtrace_tests::scenario::play;
use memtrace_tests::{exe, needs};

#[test]
fn threads_on_pages_of_their_own_are_counted_exactly() {
    needs!(Need::Tracing);
    let played = play(exe!("threads_disjoint"));
    let (calls, refaults) = (played.told("calls"), played.told("refaults"));
    // Populated before the attach, so that every fault follows a release.
    played.expect_faults(&[("refault_dontneed", refaults)]);
    played.summary().expect(&[
        ("advice.MADV_DONTNEED.calls", calls),
        ("advice.MADV_DONTNEED.failed", 0),
        ("advice.MADV_DONTNEED.refaults", refaults),
        ("advice.MADV_DONTNEED.refaulted_bytes", refaults * 4096),
        ("advice.MADV_DONTNEED.requested_bytes", refaults * 4096),
    ]);
}

#[test]
fn addresses_that_pass_from_thread_to_thread_are_new_mappings_each_time() {
    needs!(Need::Tracing);
    let played = play(exe!("threads_churn"));
    let (first, refaults) = (played.told("first_touches"), played.told("refaults"));
    played.expect_faults(&[("first_touch", first), ("refault_dontneed", refaults)]);
    let maps = played.told("maps");
    let bytes = maps * played.told("pages") * 4096;
    played.summary().expect(&[
        ("advice.MADV_DONTNEED.calls", 2 * maps),
        ("map.mmap.calls", maps),
        ("map.mmap.bytes", bytes),
        ("unmap.munmap.calls", maps),
        ("unmap.munmap.requested_bytes", bytes),
    ]);
}

#[test]
fn a_race_for_a_page_is_one_refault_and_the_losers_are_unknown() {
    needs!(Need::Tracing);
    let played = play(exe!("threads_race"));
    let refaults = played.told("pages") * played.told("rounds");
    // Several threads may fault on a page that is not there before one of them brings it; the
    // kernel counts them all. No release runs meanwhile, so that only the first is a refault.
    let losers = played.faults.all() - refaults;
    played.expect_faults(&[("refault_dontneed", refaults), ("unknown", losers)]);
    played.summary().expect(&[
        ("advice.MADV_DONTNEED.calls", played.told("rounds")),
        ("advice.MADV_DONTNEED.refaulted_bytes", refaults * 4096),
    ]);
}

#[test]
fn threads_that_overlap_are_counted_whole_and_doubts_are_told() {
    needs!(Need::Tracing);
    let played = play(exe!("threads_overlap"));
    let summary = played.summary();
    let (calls, pages) = (played.told("calls"), played.told("pages"));
    let refaults = summary.count("faults.refault_dontneed");
    let unknown = summary.count("faults.unknown");
    // Every page was populated before the attach and only MADV_DONTNEED takes pages here, so that
    // a fault is a refault or lost a race; which of them, no order of events can always tell.
    assert_eq!(refaults + unknown, played.faults.all(), "in\n{summary}");
    summary.expect(&[
        ("faults.total", played.faults.all()),
        ("advice.MADV_DONTNEED.calls", calls),
        ("advice.MADV_DONTNEED.failed", 0),
        ("advice.MADV_DONTNEED.requested_bytes", calls * pages * 4096),
    ]);
    // Each page's first fault follows the first call. No thread can refault a page more often than
    // it touches one.
    assert!(refaults >= pages, "in\n{summary}");
    assert!(refaults <= played.told("touches"), "in\n{summary}");
}

#[test]
fn a_touch_whose_order_nothing_settles_is_a_doubt_that_is_told() {
    needs!(Need::Tracing);
    let played = play(exe!("threads_doubt"));
    let (doubts, rounds) = (played.told("doubts"), played.told("rounds"));
    // Only MADV_DONTNEED takes pages here, and no two threads touch the same one.
    played.expect_faults_with_doubts(&[("refault_dontneed", played.faults.all())], doubts);
    played
        .summary()
        .expect(&[("advice.MADV_DONTNEED.calls", 2 * rounds)]);
}
