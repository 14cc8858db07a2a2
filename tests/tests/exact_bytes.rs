//! `--exact-bytes`: what calls release and faults populate, as the kernel counted it.

use memtrace_tests::needs::{Need, not_run};
use memtrace_tests::scenario::{Scenario, play};
use memtrace_tests::{exe, needs};

#[test]
fn huge_pages_are_measured_whole() {
    needs!(Need::Tracing, Need::ReclaimCount);
    let played = Scenario::of(exe!("huge_pages"))
        .traced_with("--exact-bytes")
        .play();
    let bytes = played.told("bytes");
    if played.told("populated") * 4096 != bytes {
        let why = "the kernel gives no huge pages here";
        let remedy = "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled";
        return not_run("exact_bytes::huge_pages", why, remedy);
    }
    let summary = played.summary();
    // Four faults, and all the memory.
    summary.expect(&[
        ("faults.first_touch", played.told("first_faults")),
        ("faults.bytes.first_touch", bytes),
        ("faults.refault_dontneed", played.told("again_faults")),
        ("faults.bytes.refault_dontneed", bytes),
        ("advice.MADV_DONTNEED.released_bytes", bytes),
        ("advice.MADV_DONTNEED.refaulted_bytes", bytes),
        ("unfaulted_bytes", 0),
    ]);
    assert_eq!(
        summary.text("advice.MADV_DONTNEED.released_basis"),
        "measured"
    );
    assert_eq!(summary.text("faults.class_basis.first_touch"), "measured");
}

#[test]
fn what_a_collapse_fills_came_without_a_fault() {
    needs!(Need::Tracing, Need::ReclaimCount);
    let played = Scenario::of(exe!("collapse"))
        .traced_with("--exact-bytes")
        .play();
    if played.truth.signed("collapse_ret") != 0 {
        let why = "MADV_COLLAPSE is refused";
        return not_run("exact_bytes::collapse", why, "run on Linux 6.1 or newer");
    }
    let (pages, touched) = (played.told("pages"), played.told("touched"));
    let summary = played.summary();
    summary.expect(&[
        ("unfaulted_bytes", (pages - touched) * 4096),
        ("faults.bytes.first_touch", touched * 4096),
        ("advice.MADV_DONTNEED.released_bytes", pages * 4096),
        ("faults.bytes.refault_dontneed", pages * 4096),
    ]);
}

#[test]
fn freeing_untouched_memory_releases_nothing() {
    needs!(Need::Tracing);
    for option in [None, Some("--exact-bytes")] {
        let mut scenario = Scenario::of(exe!("dontneed_untouched"));
        if let Some(option) = option {
            scenario = scenario.traced_with(option);
        }
        let played = scenario.play();
        let summary = played.summary();
        assert!(summary.count("advice.MADV_DONTNEED.requested_bytes") > 0);
        assert_eq!(
            summary.count("advice.MADV_DONTNEED.released_bytes"),
            0,
            "{option:?}: {summary}"
        );
    }
}

#[test]
fn what_is_released_is_derived_from_the_pages_seen_populated() {
    needs!(Need::Tracing, Need::ReclaimCount);
    let played = play(exe!("dontneed_touch"));
    let summary = played.summary();
    let derived = summary.count("advice.MADV_DONTNEED.released_bytes");
    assert_eq!(
        summary.text("advice.MADV_DONTNEED.released_basis"),
        "derived"
    );
    let measured = Scenario::of(exe!("dontneed_touch"))
        .traced_with("--exact-bytes")
        .play();
    let summary = measured.summary();
    assert_eq!(
        summary.text("advice.MADV_DONTNEED.released_basis"),
        "measured"
    );
    assert_eq!(
        summary.count("advice.MADV_DONTNEED.released_bytes"),
        derived
    );
    assert!(derived > 0);
}
