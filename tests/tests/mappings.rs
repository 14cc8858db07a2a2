//! Mappings that end, move, shrink and grow: marks go where the pages go, and end with them.

use memtrace_tests::needs::Need;
use memtrace_tests::scenario::{Scenario, play};
use memtrace_tests::{exe, needs};

#[test]
fn a_mapping_at_the_address_of_an_unmapped_one_starts_afresh() {
    needs!(Need::Tracing);
    let played = play(exe!("munmap_again"));
    let pages = played.told("pages");
    played.expect_faults(&[("first_touch", 2 * pages)]);
    let summary = played.summary();
    summary.expect(&[
        ("advice.MADV_DONTNEED.refaults", 0),
        ("unmap.munmap.calls", 1),
        ("unmap.munmap.failed", 0),
        ("unmap.munmap.requested_bytes", pages * 4096),
        ("unmap.map_fixed.calls", 0),
        ("map.mmap.calls", 2),
        ("map.mmap.failed", 0),
        ("map.mmap.bytes", 2 * pages * 4096),
    ]);
    // What ends a mapping can't be refaulted.
    for key in ["refaults", "refaulted_bytes", "refault_ratio"] {
        summary.expect_null(&format!("unmap.munmap.{key}"));
    }
    let call = played.run.lines("munmap").next().expect("it was made");
    call.expect(&[
        ("addr", played.told("addr")),
        ("len_bytes", pages * 4096),
        ("ret", 0),
    ]);
}

#[test]
fn mapping_over_pages_ends_them() {
    needs!(Need::Tracing);
    let played = play(exe!("map_fixed_over"));
    let pages = played.told("pages");
    played.expect_faults(&[("first_touch", 2 * pages)]);
    played.summary().expect(&[
        ("advice.MADV_DONTNEED.refaults", 0),
        ("unmap.map_fixed.calls", 1),
        ("unmap.map_fixed.requested_bytes", pages * 4096),
        ("unmap.munmap.calls", 0),
        ("map.mmap.calls", 2),
        ("map.mmap.bytes", 2 * pages * 4096),
    ]);
}

#[test]
fn marks_move_with_the_pages_of_an_mremap() {
    needs!(Need::Tracing, Need::NoSwap);
    for (how, class) in [("dontneed", "refault_dontneed"), ("free", "refault_free")] {
        let scenario = Scenario::of(exe!("mremap_move")).with(how);
        let played = match how {
            // It has the kernel take what was freed, by its own pidfd.
            "free" => scenario.until_shown("process_madvise").play(),
            _ => scenario.play(),
        };
        let (pages, taken) = (played.told("pages"), played.told("taken"));
        assert!(taken > 0, "{}", played.truth);
        played.expect_faults(&[("first_touch", pages), (class, taken)]);
        let call = played.run.lines("mremap").next().expect("it was made");
        call.expect(&[
            ("addr", played.told("from")),
            ("len_bytes", pages * 4096),
            ("new_len_bytes", pages * 4096),
            ("ret", played.told("to")),
        ]);
        // Moved pages are not given back.
        played
            .summary()
            .expect(&[("unmap.mremap.requested_bytes", 0)]);
    }
}

#[test]
fn a_tail_cut_off_by_mremap_grows_back_untouched() {
    needs!(Need::Tracing);
    let played = play(exe!("mremap_shrink"));
    let (pages, kept) = (played.told("pages"), played.told("kept"));
    let tail = pages - kept;
    played.expect_faults(&[("first_touch", pages + tail)]);
    played.summary().expect(&[
        ("advice.MADV_DONTNEED.refaults", 0),
        ("unmap.mremap.calls", 1),
        ("unmap.mremap.requested_bytes", tail * 4096),
        ("map.mremap.failed", 0),
        ("map.mremap.bytes", tail * 4096),
    ]);
}

#[test]
fn the_place_that_mremap_emptied_refaults() {
    needs!(Need::Tracing);
    let played = play(exe!("mremap_dontunmap"));
    let pages = played.told("pages");
    played.expect_faults(&[
        ("first_touch", pages),
        ("refault_other", played.told("old_place_faults")),
    ]);
    assert_eq!(played.told("old_place_faults"), pages);
    assert_eq!(played.told("new_place_faults"), 0);
}

#[test]
fn a_heap_that_shrank_grows_back_untouched() {
    needs!(Need::Tracing);
    let played = play(exe!("brk_cycle"));
    let pages = played.told("pages");
    played.expect_faults(&[("first_touch", 2 * pages)]);
    played.summary().expect(&[
        ("advice.MADV_DONTNEED.refaults", 0),
        ("map.brk.calls", 2),
        ("map.brk.failed", 0),
        ("map.brk.bytes", 2 * pages * 4096),
        ("unmap.brk.calls", 1),
        ("unmap.brk.requested_bytes", pages * 4096),
    ]);
    let start = played.told("addr");
    let ends: Vec<u64> = played
        .run
        .lines("brk")
        .map(|call| call.count("ret"))
        .collect();
    assert_eq!(ends, [start + pages * 4096, start, start + pages * 4096]);
    let olds: Vec<u64> = played
        .run
        .lines("brk")
        .map(|call| call.count("old_break"))
        .collect();
    let before = start - played.told("odd_bytes");
    assert_eq!(olds, [before, start + pages * 4096, start]);
}

#[test]
fn a_stack_grows_by_first_touches() {
    needs!(Need::Tracing);
    let played = play(exe!("stack_growth"));
    let grown = played.told("grown");
    assert!(grown > played.told("frames") / 2, "{}", played.truth);
    played.expect_faults(&[("first_touch", grown)]);
    assert_eq!(played.summary().text("faults.bytes_basis"), "exact");
    played
        .summary()
        .expect(&[("faults.bytes.first_touch", grown * 4096)]);
}
