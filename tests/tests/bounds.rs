//! Bytes that no line of the stream shows whole: each figure is the truth, or a bound on it that holds.

use memtrace_tests::bounds::{populated, released};
use memtrace_tests::needs::Need;
use memtrace_tests::paced::attach;
use memtrace_tests::scenario::{Played, Scenario, play};
use memtrace_tests::tempdir::TempDir;
use memtrace_tests::wait;
use memtrace_tests::workload::Workload;
use memtrace_tests::{exe, needs};

const DONTNEED: &str = "advice.MADV_DONTNEED";

#[test]
fn pages_freed_again_after_a_write_are_released_again() {
    needs!(Need::Tracing);
    let played = play(exe!("free_again"));
    let (summary, freed) = (played.summary(), played.told("freed_bytes"));
    assert!(freed > 5 * played.told("pages") * 4096, "{}", played.truth);
    released(summary, "advice.MADV_FREE", freed);
    assert!(
        summary.count("lazy_balance.marked_bytes") >= freed,
        "{summary}"
    );
    played.expect_faults(&[("first_touch", played.told("pages"))]);
}

/// Plays `fork_untouched`: the child gave back what it says, whatever of it the parent had.
fn child_of(how: &str) -> (Played, u64) {
    let played = Scenario::of(exe!("fork_untouched"))
        .with(how)
        .traced_with("-f")
        .play();
    let child = played.told("child_pid");
    let summary = played.run.summary_of(child, 0);
    let basis = released(summary, DONTNEED, played.told("released_bytes"));
    assert_eq!(basis, "derived", "{summary}");
    (played, child)
}

#[test]
fn a_child_gets_no_page_of_what_its_parent_only_read() {
    needs!(Need::Tracing, Need::Btf);
    let (played, child) = child_of("read");
    let pages = played.told("pages");
    played
        .truth
        .expect(&[("inherited", 0), ("released_bytes", pages * 4096)]);
    played.run.summary_of(child, 0).expect(&[
        ("faults.first_touch", pages),
        ("faults.bytes.first_touch", pages * 4096),
        ("faults.zero_page_writes", 0),
        ("faults.unknown", 0),
    ]);
}

#[test]
fn a_child_gets_zero_pages_of_what_its_parent_wrote_to() {
    needs!(Need::Tracing, Need::Btf);
    let (played, child) = child_of("mixed");
    let pages = played.told("pages");
    let truth = [("inherited", pages), ("released_bytes", pages * 4096)];
    played.truth.expect(&truth);
    played.run.summary_of(child, 0).expect(&[
        ("faults.first_touch", 0),
        ("faults.zero_page_writes", pages - 1),
        ("faults.unknown", 0),
    ]);
}

#[test]
fn a_child_gets_no_page_of_shared_memory() {
    needs!(Need::Tracing, Need::Btf);
    let (played, _) = child_of("shared");
    played
        .truth
        .expect(&[("inherited", 0), ("released_bytes", 0)]);
}

#[test]
fn pages_under_a_hole_of_what_mremap_moves_stay() {
    needs!(Need::Tracing, Need::MovesSeveral);
    let played = Scenario::of(exe!("mremap_several")).with("gap").play();
    let summary = played.summary();
    let dropped = played.told("dropped_bytes");
    assert_eq!(released(summary, "unmap.mremap", dropped), "derived");
    let basis = released(summary, DONTNEED, played.told("released_bytes"));
    assert_eq!(basis, "derived");
    played.expect_faults(&[
        ("first_touch", played.told("touched")),
        ("refault_dontneed", played.told("pages")),
    ]);
}

#[test]
fn what_a_failed_mremap_had_moved_is_known_where_it_is() {
    needs!(Need::Tracing, Need::MovesSeveral, Need::Userfaultfd);
    let played = Scenario::of(exe!("mremap_several")).with("fail").play();
    let summary = played.summary();
    summary.expect(&[("map.mremap.failed", 1)]);
    // The first mapping was moved, and the second is where it was.
    let half = played.told("pages") * 4096;
    let truth = [("released_bytes", half), ("unmapped_bytes", half)];
    played.truth.expect(&truth);
    released(summary, DONTNEED, half);
    released(summary, "unmap.munmap", half);
    played.expect_faults(&[
        ("first_touch", played.told("touched")),
        ("refault_dontneed", played.told("pages")),
    ]);
}

#[test]
fn what_came_without_a_fault_is_no_bytes_of_the_kernels_reads() {
    let populate = Need::Advice(23, "MADV_POPULATE_WRITE");
    needs!(Need::Tracing, Need::ReclaimCount, populate);
    let dir = TempDir::new();
    let path = dir.join("written");
    let played = Scenario::of(exe!("kernel_reads"))
        .with(path.to_str().expect("ASCII"))
        .traced_with("--exact-bytes")
        .play();
    let summary = played.summary();
    summary.expect(&[
        ("faults.first_touch", played.told("reads")),
        ("unfaulted_bytes", played.told("unfaulted_bytes")),
    ]);
    assert_eq!(populated(summary, "first_touch", 0), "measured");
}

#[test]
fn a_removal_that_is_refused_leaves_pages_as_they_were() {
    needs!(Need::Tracing);
    let played = play(exe!("remove_refused"));
    let (summary, pages) = (played.summary(), played.told("pages"));
    assert_eq!(played.truth.signed("ret"), -i64::from(libc::EINVAL));
    played.expect_faults(&[
        ("first_touch", pages),
        ("zero_page_writes", pages),
        ("refault_dontneed", pages),
    ]);
    assert_eq!(populated(summary, "first_touch", pages * 4096), "exact");
    populated(summary, "refault_dontneed", pages * 4096);
    let basis = released(summary, DONTNEED, played.told("released_bytes"));
    assert_eq!(basis, "derived");
    summary.expect(&[
        ("advice.MADV_REMOVE.failed", 1),
        ("advice.MADV_REMOVE.partial", 0),
        ("advice.MADV_REMOVE.requested_bytes", 0),
    ]);
}

#[test]
fn a_fault_on_a_file_maps_from_the_start_of_its_mapping_on() {
    needs!(Need::Tracing);
    // All of the block; from the mapping's start; over the block's end, since it begins near that.
    for (skipped, pages) in [("0", "16"), ("3", "20"), ("15", "20")] {
        let dir = TempDir::new();
        let path = dir.join("mapped");
        let played = Scenario::of(exe!("fault_around"))
            .with(path.to_str().expect("ASCII"))
            .with(skipped)
            .with(pages)
            .play();
        let (summary, bytes) = (played.summary(), played.told("released_bytes"));
        assert!(bytes > played.told("rounds") * 4096, "{}", played.truth);
        released(summary, DONTNEED, bytes);
        let left = played.told("unmapped_bytes");
        released(summary, "unmap.munmap", left);
        populated(summary, "file", bytes);
        populated(summary, "refault_dontneed", left);
        played.expect_faults(&[
            ("file", played.told("first_faults")),
            ("refault_dontneed", played.told("again_faults")),
        ]);
    }
}

#[test]
fn a_trace_of_a_busy_process_knows_what_it_gives_back() {
    needs!(Need::Tracing);
    for pause_us in ["0", "1000"] {
        let mut workload = Workload::start(&exe!("busy"), &[pause_us]);
        let trace = attach(workload.pid, &[]);
        let begun = workload.go().count("rounds");
        let shown = || trace.output().matches("{\"type\":\"status\"").count();
        wait::until("some status lines", || (shown() >= 3).then_some(()));
        let truth = workload.say("stop");
        workload.end();
        let run = trace.finish();
        let summary = run.summary();
        let (ended, bytes) = (truth.count("rounds"), truth.count("bytes"));
        for path in [DONTNEED, "unmap.munmap"] {
            let calls = summary.count(&format!("{path}.calls"));
            // In the round under way when tracing began it may have been made before.
            let possible = (ended - begun - 1)..=ended;
            let inside = possible.contains(&calls);
            assert!(inside, "{calls} calls, not {possible:?}, in\n{summary}");
            // Of the first it may not be known what was there.
            let most = summary.count(&format!("{path}.released_bytes"));
            let least = summary.count(&format!("{path}.released_at_least_bytes"));
            assert!(most >= (calls - 1) * bytes && least <= calls * bytes);
            assert!(most <= (calls + 1) * bytes && least >= (calls - 1) * bytes);
        }
        for class in ["first_touch", "refault_dontneed"] {
            let basis = summary.text(&format!("faults.class_basis.{class}"));
            assert_eq!(basis, "exact", "{class} in\n{summary}");
        }
        assert_eq!(summary.texts("notes"), [""; 0], "{summary}");
    }
}
