//! Which faults are which: the kernel's own touches, memory from before the trace, huge pages, and sheer numbers.

use memtrace_tests::needs::{Need, has_btf, not_run};
use memtrace_tests::scenario::{Scenario, expect_classes, play};
use memtrace_tests::tempdir::TempDir;
use memtrace_tests::{exe, needs};

#[test]
fn a_read_into_fresh_memory_is_a_first_touch_of_each_page() {
    needs!(Need::Tracing);
    let played = play(exe!("read_fresh"));
    let pages = played.told("pages");
    assert_eq!(played.told("read_bytes"), pages * 4096);
    played.expect_faults(&[("first_touch", pages)]);
    played
        .summary()
        .expect(&[("faults.bytes.first_touch", pages * 4096)]);
}

#[test]
fn the_kernels_repeated_tries_at_one_page_are_one_first_touch() {
    needs!(Need::Tracing);
    let dir = TempDir::new();
    let path = dir.join("written");
    let path = path.to_str().expect("ASCII");
    let played = Scenario::of(exe!("pwrite_fresh")).with(path).play();
    let (pages, summary) = (played.told("pages"), played.summary());
    // A try that must not sleep fails where the page is not there yet; it is traced as a fault,
    // but the kernel counts only the one that brings the page (SEMANTICS §3).
    assert_eq!(played.faults.all(), pages);
    // BTF tells such a try; without it, it is one that brings nothing.
    let tries = summary.count("faults.total") - pages;
    if has_btf() {
        assert_eq!(tries, 0, "in\n{summary}");
    }
    expect_classes(summary, &[("first_touch", pages), ("unknown", tries)]);
    // Reading fresh memory maps the zero page, which takes none.
    summary.expect(&[("faults.bytes.first_touch", 0)]);
}

#[test]
fn memory_from_before_the_trace_is_not_taken_for_new() {
    needs!(Need::Tracing);
    let played = play(exe!("before_attach"));
    let pages = played.told("pages");
    // Given back after the attach: a refault, for it was there. Freed or kept: still there.
    // Never touched: nobody can tell.
    played.expect_faults(&[("refault_dontneed", pages), ("unknown", pages)]);
    played.summary().expect(&[
        ("advice.MADV_DONTNEED.refaults", pages),
        ("advice.MADV_FREE.refaults", 0),
        ("map.mmap.calls", 0),
    ]);
}

#[test]
fn hundreds_of_thousands_of_faults_are_counted_to_the_last() {
    needs!(Need::Tracing);
    let played = play(exe!("many_refaults"));
    let (pages, rounds) = (played.told("pages"), played.told("rounds"));
    played.expect_faults(&[("first_touch", pages), ("refault_dontneed", pages * rounds)]);
    played.summary().expect(&[
        ("advice.MADV_DONTNEED.calls", rounds),
        (
            "advice.MADV_DONTNEED.requested_bytes",
            rounds * pages * 4096,
        ),
        (
            "advice.MADV_DONTNEED.refaulted_bytes",
            rounds * pages * 4096,
        ),
        ("faults.bytes.total", (rounds + 1) * pages * 4096),
    ]);
}

#[test]
fn the_bytes_of_huge_pages_are_labelled_for_what_they_are() {
    needs!(Need::Tracing);
    let played = play(exe!("huge_pages"));
    let (first, again) = (played.told("first_faults"), played.told("again_faults"));
    if first != played.told("huge_pages") || played.told("populated") * 4096 != played.told("bytes")
    {
        let why = "the kernel gave no huge pages";
        let remedy = "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled";
        return not_run("faults::huge_pages", why, remedy);
    }
    // The touches after the release are in the middle of huge pages whose faults were at their
    // start. They may have been populated, and they were.
    played.expect_faults(&[("first_touch", first), ("refault_dontneed", again)]);
    let summary = played.summary();
    let (bytes, one_each) = (summary.count("faults.bytes.refault_dontneed"), again * 4096);
    match summary.text("faults.bytes_basis") {
        "lower_bound" => assert!((one_each..=played.told("bytes")).contains(&bytes)),
        "measured" => assert_eq!(bytes, played.told("bytes")),
        other => panic!("{other} is wrong for huge pages:\n{summary}"),
    }
}
