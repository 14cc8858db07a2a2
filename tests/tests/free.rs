//! MADV_FREE: only what the kernel really took faults again, and a rewrite of the rest is silent.

use memtrace_tests::needs::Need;
use memtrace_tests::scenario::{Scenario, play};
use memtrace_tests::tracer::Trace;
use memtrace_tests::wait;
use memtrace_tests::workload::Workload;
use memtrace_tests::{exe, needs};

#[test]
fn a_rewrite_of_resident_lazy_pages_is_no_refault() {
    needs!(Need::Tracing);
    let played = play(exe!("free_rewrite"));
    let pages = played.told("pages");
    let bytes = pages * 4096;
    played.expect_faults(&[("first_touch", pages)]);
    played.expect_advice(&["MADV_FREE"]);
    played.summary().expect(&[
        ("advice.MADV_FREE.calls", 1),
        ("advice.MADV_FREE.failed", 0),
        ("advice.MADV_FREE.partial", 0),
        ("advice.MADV_FREE.requested_bytes", bytes),
        ("advice.MADV_FREE.refaults", 0),
        ("advice.MADV_FREE.refaulted_bytes", 0),
        ("faults.bytes.first_touch", bytes),
        ("faults.bytes.total", bytes),
        ("map.mmap.calls", 1),
        ("map.mmap.bytes", bytes),
    ]);
    assert_eq!(played.summary().text("faults.bytes_basis"), "exact");
}

#[test]
fn refaults_after_free_are_the_pages_that_the_kernel_took() {
    needs!(Need::Tracing, Need::NoSwap);
    let played = Scenario::of(exe!("free_pageout"))
        .until_shown("process_madvise")
        .play();
    let (pages, taken) = (played.told("pages"), played.told("taken"));
    assert!(0 < taken && taken < pages, "{}", played.truth);
    played.expect_faults(&[("first_touch", pages), ("refault_free", taken)]);
    // PAGEOUT finished what FREE began: the refaults are FREE's.
    played.expect_advice(&["MADV_FREE", "MADV_PAGEOUT"]);
    played.summary().expect(&[
        ("advice.MADV_FREE.requested_bytes", pages * 4096),
        ("advice.MADV_FREE.refaults", taken),
        ("advice.MADV_FREE.refaulted_bytes", taken * 4096),
        ("advice.MADV_PAGEOUT.calls", 1),
        ("advice.MADV_PAGEOUT.requested_bytes", pages * 4096),
        ("advice.MADV_PAGEOUT.refaults", 0),
        ("faults.bytes.refault_free", taken * 4096),
    ]);
}

#[test]
fn a_read_and_then_a_write_of_a_taken_page_is_one_refault() {
    needs!(Need::Tracing, Need::NoSwap);
    let played = Scenario::of(exe!("free_pageout"))
        .with("read-first")
        .until_shown("process_madvise")
        .play();
    let (pages, taken) = (played.told("pages"), played.told("taken"));
    played.expect_faults(&[
        ("first_touch", pages),
        ("refault_free", taken),
        ("zero_page_writes", taken),
    ]);
    played.summary().expect(&[
        ("advice.MADV_FREE.refaults", taken),
        ("advice.MADV_FREE.refaulted_bytes", taken * 4096),
        ("faults.bytes.refault_free", taken * 4096),
        ("faults.bytes.cow", 0),
    ]);
}

#[test]
fn pages_freed_twice_refault_once() {
    needs!(Need::Tracing, Need::NoSwap);
    let played = Scenario::of(exe!("free_twice"))
        .until_shown("process_madvise")
        .play();
    let (pages, taken) = (played.told("pages"), played.told("taken"));
    played.expect_faults(&[("first_touch", pages), ("refault_free", taken)]);
    played.summary().expect(&[
        ("advice.MADV_FREE.calls", 2),
        ("advice.MADV_FREE.failed", 0),
        ("advice.MADV_FREE.requested_bytes", 2 * pages * 4096),
        ("advice.MADV_FREE.refaults", taken),
        ("advice.MADV_FREE.refaulted_bytes", taken * 4096),
    ]);
}

#[test]
fn dontneed_after_free_owns_the_refaults() {
    needs!(Need::Tracing);
    let played = play(exe!("free_then_dontneed"));
    let pages = played.told("pages");
    played.expect_faults(&[("first_touch", pages), ("refault_dontneed", pages)]);
    played.summary().expect(&[
        ("advice.MADV_FREE.calls", 1),
        ("advice.MADV_FREE.refaults", 0),
        ("advice.MADV_DONTNEED.calls", 1),
        ("advice.MADV_DONTNEED.refaults", pages),
    ]);
}

#[test]
fn a_free_that_meets_a_file_is_applied_up_to_it() {
    needs!(Need::Tracing, Need::NoSwap);
    let played = Scenario::of(exe!("free_mixed"))
        .until_shown("process_madvise")
        .play();
    let part = played.told("part_pages");
    let taken = played.told("taken_first");
    assert_eq!(played.truth.signed("ret"), -i64::from(libc::EINVAL));
    played.expect_faults(&[("first_touch", 2 * part), ("refault_free", taken)]);
    played.summary().expect(&[
        ("advice.MADV_FREE.calls", 1),
        ("advice.MADV_FREE.failed", 1),
        ("advice.MADV_FREE.partial", 1),
        ("advice.MADV_FREE.requested_bytes", part * 4096),
        ("advice.MADV_FREE.refaults", taken),
    ]);
    let call = played.run.lines("madvise").next().expect("it was made");
    assert_eq!(call.signed("ret"), -i64::from(libc::EINVAL));
    assert_eq!(call.count("len_bytes"), 3 * part * 4096);
}

#[test]
fn a_free_over_a_hole_is_applied_around_it() {
    needs!(Need::Tracing, Need::NoSwap);
    let played = Scenario::of(exe!("advise_holes"))
        .with("free")
        .until_shown("process_madvise")
        .play();
    let (pages, mapped) = (played.told("pages"), played.told("mapped"));
    let taken = played.told("taken");
    played.expect_faults(&[("first_touch", pages), ("refault_free", taken)]);
    played.summary().expect(&[
        ("advice.MADV_FREE.calls", 1),
        ("advice.MADV_FREE.failed", 1),
        ("advice.MADV_FREE.partial", 1),
        ("advice.MADV_FREE.requested_bytes", mapped * 4096),
        ("advice.MADV_FREE.refaults", taken),
        ("unmap.munmap.requested_bytes", played.told("hole") * 4096),
    ]);
}

#[test]
fn each_range_of_a_process_madvise_is_an_event_of_one_call() {
    needs!(Need::Tracing, Need::NoSwap);
    let mut workload = Workload::start(&exe!("page_out_ranges"), &[]);
    let pid = u64::from(workload.pid);
    let trace = Trace::attach(workload.pid, &[]);
    let truth = workload.go();
    // Whose memory a pidfd stands for can be looked up only while its owner lives.
    wait::until("the call to be shown", || {
        trace.output().contains("\"process_madvise\"").then_some(())
    });
    workload.end();
    let run = trace.finish();

    let ranges: Vec<_> = run.lines("process_madvise").collect();
    assert_eq!(ranges.len(), 2, "{ranges:#?}");
    for (range, name) in ranges.iter().zip(["first", "second"]) {
        assert_eq!(range.text("advice"), "MADV_PAGEOUT");
        range.expect(&[
            ("target_pid", pid),
            ("pid", pid),
            ("addr", truth.count(&format!("{name}_addr"))),
            ("len_bytes", truth.count(&format!("{name}_bytes"))),
            ("ret", truth.count("ret")),
        ]);
    }
    run.summary().expect(&[
        ("advice.MADV_PAGEOUT.calls", 1),
        ("advice.MADV_PAGEOUT.requested_bytes", truth.count("ret")),
        ("advice.MADV_FREE.refaults", truth.count("taken")),
        ("faults.refault_free", truth.count("taken")),
    ]);
}
