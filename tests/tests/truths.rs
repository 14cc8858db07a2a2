//! The workloads alone, without a tracer: each makes the faults that the other tests rest on.
//!
//! Where one of these fails, it is the kernel that behaves otherwise, not memtrace.

use memtrace_tests::binary::Exe;
use memtrace_tests::exe;
use memtrace_tests::needs;
use memtrace_tests::needs::Need;
use memtrace_tests::record::Record;
use memtrace_tests::tempdir::TempDir;
use memtrace_tests::workload::Workload;

/// Runs a workload to its end: its truth. Nothing but its measured part makes faults.
fn alone(workload: Exe, args: &[&str]) -> Record {
    let mut workload = Workload::start(&workload, args);
    let before = workload.counters();
    let truth = workload.go();
    let faults = workload.counters() - before;
    workload.end();
    // After a fork even the report makes faults, since it writes to pages that the child shared.
    if truth.find("child_pid").is_none() {
        truth.expect(&[("minflt", faults.minor), ("majflt", faults.major)]);
    }
    truth
}

/// All faults of the measured part.
fn all(truth: &Record) -> u64 {
    truth.count("minflt") + truth.count("majflt")
}

#[test]
fn waiting_makes_no_fault() {
    assert_eq!(all(&alone(exe!("waits"), &[])), 0);
}

#[test]
fn freed_pages_fault_again_only_where_the_kernel_took_them() {
    let truth = alone(exe!("free_rewrite"), &[]);
    truth.expect(&[("rewrite_faults", 0)]);
    assert_eq!(all(&truth), truth.count("pages"));

    let truth = alone(exe!("free_pageout"), &[]);
    assert!(truth.count("taken") > 0, "{truth}");
    if truth.count("swapped") == 0 {
        assert_eq!(all(&truth), truth.count("pages") + truth.count("taken"));
        assert_eq!(
            truth.count("taken") + truth.count("kept"),
            truth.count("pages")
        );
    }

    let truth = alone(exe!("free_pageout"), &["read-first"]);
    if truth.count("swapped") == 0 {
        let twice = 2 * truth.count("taken");
        assert_eq!(all(&truth), truth.count("pages") + twice);
    }

    for workload in [exe!("free_twice"), exe!("free_then_dontneed")] {
        let truth = alone(workload, &[]);
        assert_eq!(all(&truth), 2 * truth.count("pages"));
    }

    let truth = alone(exe!("free_mixed"), &[]);
    assert_eq!(truth.signed("ret"), -i64::from(libc::EINVAL));
    truth.expect(&[
        ("taken_first", truth.count("part_pages")),
        ("taken_last", 0),
    ]);

    let truth = alone(exe!("page_out_ranges"), &[]);
    assert_eq!(
        truth.count("ret"),
        truth.count("first_bytes") + truth.count("second_bytes")
    );
}

#[test]
fn pages_given_back_at_once_fault_again() {
    let truth = alone(exe!("dontneed_touch"), &[]);
    assert_eq!(all(&truth), 2 * truth.count("pages"));
    let truth = alone(exe!("dontneed_untouched"), &[]);
    assert_eq!(all(&truth), truth.count("pages"));
    let truth = alone(exe!("dontneed_read_write"), &[]);
    let written = truth.count("pages") - truth.count("only_read");
    assert_eq!(all(&truth), 2 * truth.count("pages") + written);
    let truth = alone(exe!("first_read_write"), &[]);
    assert_eq!(all(&truth), truth.count("pages") + written);
    let truth = alone(exe!("dontneed_partial"), &[]);
    assert_eq!(
        all(&truth),
        truth.count("pages") + truth.count("given_back")
    );
    let truth = alone(exe!("dontneed_huge_range"), &[]);
    assert_eq!(truth.signed("ret"), 0);
    assert_eq!(all(&truth), 2 * truth.count("pages"));
}

#[test]
fn locked_pages_fault_again_only_after_their_own_advice() {
    needs!(Need::Advice(24, "MADV_DONTNEED_LOCKED"));
    let truth = alone(exe!("dontneed_locked"), &[]);
    assert_eq!(truth.signed("dontneed_ret"), -i64::from(libc::EINVAL));
    assert_eq!(all(&truth), 2 * truth.count("pages"));
}

#[test]
fn a_call_that_fails_halfway_has_done_the_first_half() {
    for advice in ["dontneed", "free"] {
        let truth = alone(exe!("advise_holes"), &[advice]);
        assert_eq!(truth.signed("ret"), -i64::from(libc::ENOMEM));
        truth.expect(&[("taken", truth.count("mapped"))]);
        assert_eq!(all(&truth), truth.count("pages") + truth.count("mapped"));
    }
    let truth = alone(exe!("advise_errors"), &[]);
    assert_eq!(all(&truth), 2 * truth.count("pages"));
    let truth = alone(exe!("advise_keeps"), &[]);
    truth.expect(&[("again_faults", 0)]);
}

#[test]
fn mapped_files_and_shared_memory_fault_again_after_dontneed() {
    let dir = TempDir::new();
    let file = dir.join("shared");
    let private = dir.join("private");
    for truth in [
        alone(exe!("dontneed_mapped"), &[]),
        alone(exe!("dontneed_mapped"), &[file.to_str().expect("ASCII")]),
        alone(
            exe!("dontneed_private_file"),
            &[private.to_str().expect("ASCII")],
        ),
        alone(exe!("remove_shared"), &[]),
    ] {
        assert!(truth.count("again_faults") > 0, "{truth}");
    }
}

#[test]
fn pages_follow_their_mappings() {
    for (workload, args) in [
        (exe!("munmap_again"), &[][..]),
        (exe!("map_fixed_over"), &[]),
        (exe!("mremap_dontunmap"), &[]),
        (exe!("brk_cycle"), &[]),
        (exe!("populate"), &["mmap"]),
    ] {
        let truth = alone(workload, args);
        assert_eq!(all(&truth), 2 * truth.count("pages"), "{truth}");
    }
    for advice in ["dontneed", "free"] {
        let truth = alone(exe!("mremap_move"), &[advice]);
        truth.expect(&[("taken", truth.count("given_back"))]);
        assert_eq!(all(&truth), truth.count("pages") + truth.count("taken"));
    }
    let truth = alone(exe!("mremap_shrink"), &[]);
    let grown_back = truth.count("pages") - truth.count("kept");
    assert_eq!(all(&truth), truth.count("pages") + grown_back);
    let truth = alone(exe!("stack_growth"), &[]);
    assert_eq!(all(&truth), truth.count("grown"));
}

#[test]
fn populating_ahead_makes_no_fault() {
    needs!(Need::Advice(23, "MADV_POPULATE_WRITE"));
    let truth = alone(exe!("populate"), &[]);
    assert_eq!(all(&truth), 2 * truth.count("pages"), "{truth}");
}

#[test]
fn guard_pages_lose_their_content() {
    needs!(Need::Advice(102, "MADV_GUARD_INSTALL"));
    let truth = alone(exe!("guard"), &[]);
    assert_eq!(all(&truth), 2 * truth.count("pages"));
}

#[test]
fn threads_make_as_many_faults_as_their_work_says() {
    needs!(Need::LockedMemory);
    let truth = alone(exe!("threads_disjoint"), &[]);
    assert_eq!(all(&truth), truth.count("refaults"));
    let truth = alone(exe!("threads_churn"), &[]);
    assert_eq!(
        all(&truth),
        truth.count("first_touches") + truth.count("refaults")
    );
    let truth = alone(exe!("threads_race"), &[]);
    assert!(all(&truth) >= truth.count("pages") * truth.count("rounds"));
    let truth = alone(exe!("threads_overlap"), &[]);
    assert!(all(&truth) >= truth.count("pages"));
}

#[test]
fn the_kernels_own_touches_are_faults_too() {
    let truth = alone(exe!("read_fresh"), &[]);
    assert_eq!(all(&truth), truth.count("pages"));
    let dir = TempDir::new();
    let path = dir.join("written");
    let truth = alone(exe!("pwrite_fresh"), &[path.to_str().expect("ASCII")]);
    assert_eq!(all(&truth), truth.count("pages"));
    truth.expect(&[("written_bytes", truth.count("bytes"))]);
}

#[test]
fn processes_copy_what_they_share() {
    let truth = alone(exe!("fork_rewrite"), &[]);
    assert!(truth.count("child_minflt") >= truth.count("pages"));
    let truth = alone(exe!("fork_inherited"), &[]);
    assert!(truth.count("child_minflt") >= truth.count("pages"));
    let truth = alone(exe!("vfork_advises"), &[]);
    truth.expect(&[("child_minflt", truth.count("by_child"))]);
    assert_eq!(
        all(&truth) + truth.count("by_child"),
        truth.count("pages"),
        "{truth}"
    );
}
