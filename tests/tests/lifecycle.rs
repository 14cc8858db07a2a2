//! Processes that fork, run another image, share their memory or die: one ledger for each address space.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};

use memtrace_tests::needs::Need;
use memtrace_tests::record::Record;
use memtrace_tests::run::{Rules, Run};
use memtrace_tests::scenario::{Scenario, expect_classes, play};
use memtrace_tests::tempdir::TempDir;
use memtrace_tests::tracer::{Trace, command};
use memtrace_tests::wait;
use memtrace_tests::workload::Workload;
use memtrace_tests::{exe, needs};

#[test]
fn writes_to_pages_shared_by_a_fork_are_copies() {
    needs!(Need::Tracing, Need::CountedForks);
    let played = play(exe!("fork_rewrite"));
    let pages = played.told("pages");
    let summary = played.summary();
    // Beside the pages themselves the parent copies what the fork shared of its stack and data;
    // the kernel counted those as well.
    let copies = played.faults.all() - pages;
    assert!(copies >= pages, "{}", played.truth);
    played.expect_faults(&[("first_touch", pages), ("cow", copies)]);
    summary.expect(&[("faults.bytes.cow", copies * 4096)]);
}

#[test]
fn a_followed_child_has_a_ledger_of_its_own() {
    // Where in a task its exit status lies, BTF tells.
    needs!(Need::Tracing, Need::Btf, Need::CountedForks);
    let played = Scenario::of(exe!("fork_rewrite")).traced_with("-f").play();
    let pages = played.told("pages");
    let child_pid = played.told("child_pid");
    assert_eq!(played.run.summaries.len(), 2);
    assert!(played.run.total.is_some(), "two processes have a total");

    let parent = played.run.summary_of(u64::from(played.pid), 0);
    let copies = played.faults.all() - pages;
    expect_classes(parent, &[("first_touch", pages), ("cow", copies)]);

    let child = played.run.summary_of(child_pid, 0);
    let all = played.told("child_minflt") + played.told("child_majflt");
    // Its code is not mapped until it runs, which makes a few file faults.
    let (cow, file) = (child.count("faults.cow"), child.count("faults.file"));
    assert!(cow >= pages, "in\n{child}");
    expect_classes(child, &[("cow", cow), ("file", file)]);
    child.expect(&[("faults.total", all), ("faults.ambiguous", 0)]);

    let forks = process_lines(&played.run.events, "fork");
    assert_eq!(forks.len(), 1, "{forks:#?}");
    forks[0].expect(&[("pid", child_pid), ("parent_pid", u64::from(played.pid))]);
    let exits = process_lines(&played.run.events, "exit");
    let ended: Vec<u64> = exits.iter().map(|line| line.count("pid")).collect();
    assert_eq!(ended, [child_pid, u64::from(played.pid)]);
    for exit in exits {
        exit.expect(&[("exit_status", 0)]);
    }
}

fn process_lines(events: &[Record], event: &str) -> Vec<Record> {
    let lines = events.iter().filter(|line| line.kind() == "process");
    lines
        .filter(|line| line.text("event") == event)
        .cloned()
        .collect()
}

#[test]
fn inherited_give_backs_refault_in_the_child_without_a_ratio() {
    needs!(Need::Tracing, Need::CountedForks);
    let played = Scenario::of(exe!("fork_inherited"))
        .traced_with("-f")
        .play();
    let pages = played.told("pages");

    let parent = played.run.summary_of(u64::from(played.pid), 0);
    parent.expect(&[
        ("advice.MADV_DONTNEED.calls", 1),
        ("advice.MADV_DONTNEED.refaults", pages),
        ("advice.MADV_DONTNEED.refaulted_bytes", pages * 4096),
        ("faults.refault_dontneed", pages),
        ("faults.total", played.faults.all()),
    ]);

    let child = played.run.summary_of(played.told("child_pid"), 0);
    child.expect(&[
        ("advice.MADV_DONTNEED.calls", 0),
        ("advice.MADV_DONTNEED.requested_bytes", 0),
        ("advice.MADV_DONTNEED.refaults", pages),
        ("faults.refault_dontneed", pages),
        ("faults.first_touch", 0),
        (
            "faults.total",
            played.told("child_minflt") + played.told("child_majflt"),
        ),
    ]);
    child.expect_null("advice.MADV_DONTNEED.refault_ratio");
}

#[test]
fn an_exec_begins_a_new_ledger_of_the_same_process() {
    needs!(Need::Tracing, Need::PrepareExec);
    let played = play(exe!("exec_again"));
    let (pages, pages_after) = (played.told("pages"), played.told("pages_after"));
    let pid = u64::from(played.pid);
    assert_eq!(played.run.summaries.len(), 2);

    let first = played.run.summary_of(pid, 0);
    expect_classes(
        first,
        &[("first_touch", pages), ("refault_dontneed", pages)],
    );
    let second = played.run.summary_of(pid, 1);
    second.expect(&[
        ("advice.MADV_DONTNEED.calls", 1),
        ("advice.MADV_DONTNEED.refaults", 0),
        ("faults.refault_dontneed", 0),
    ]);
    assert!(second.count("faults.first_touch") >= pages_after);

    // The kernel writes the new image's arguments into its stack without a fault, but counts the
    // pages (SEMANTICS §3): three strings and their pointers fit in two pages. A kernel-mode try
    // that may not sleep is the other way round, and there is none in an exec.
    let traced = first.count("faults.total") + second.count("faults.total");
    let unseen = played.faults.all() - traced;
    assert!(
        unseen <= 2,
        "{unseen} faults were not traced of {:?}",
        played.faults
    );
    assert_eq!(process_lines(&played.run.events, "exec").len(), 1);
}

#[test]
fn a_child_that_shares_the_memory_counts_in_its_parents_ledger() {
    needs!(Need::Tracing);
    let played = play(exe!("vfork_advises"));
    let (pages, by_child) = (played.told("pages"), played.told("by_child"));
    let summary = played.summary();
    expect_classes(summary, &[("refault_dontneed", pages)]);
    summary.expect(&[
        ("pid", u64::from(played.pid)),
        ("advice.MADV_DONTNEED.calls", 1),
        ("advice.MADV_DONTNEED.requested_bytes", pages * 4096),
        ("advice.MADV_DONTNEED.refaults", pages),
    ]);
    // The kernel counts faults by process, and the ledger by memory.
    assert_eq!(played.faults.all() + by_child, pages);
    let children: Vec<u64> = played
        .run
        .lines("madvise")
        .map(|call| call.count("tid"))
        .collect();
    assert_eq!(children, [played.told("child_pid")]);
}

#[test]
fn a_process_killed_in_the_middle_is_counted_to_its_last_step() {
    needs!(Need::Tracing);
    let mut workload = Workload::start(&exe!("killed_child"), &[]);
    let trace = Trace::attach(workload.pid, &[]);
    let truth = workload.go();
    workload.end();
    let run = trace.finish();

    let status = ExitStatus::from_raw(i32::try_from(truth.signed("status")).expect("it is small"));
    assert_eq!(status.signal(), Some(libc::SIGKILL));
    let summary = run.summary();
    let within = |path: &str, done: &str, begun: &str| {
        let (found, possible) = (summary.count(path), truth.count(done)..=truth.count(begun));
        assert!(
            possible.contains(&found),
            "{path} is {found}, not in {possible:?}"
        );
    };
    // It counts each step before and after it, so that the truth is known to within the last one.
    within("advice.MADV_DONTNEED.calls", "rounds_done", "rounds_begun");
    within("faults.refault_dontneed", "touches_done", "touches_begun");
    let exits = process_lines(&run.events, "exit");
    assert_eq!(exits.len(), 1);
    exits[0].expect_null("exit_status");
}

#[test]
fn a_target_that_ends_while_attaching_is_a_normal_end() {
    needs!(Need::Tracing);
    // How far the attaching is shows in the files that memtrace has open.
    for open_files in (4..40).step_by(3) {
        let workload = Workload::start(&exe!("waits"), &[]);
        let dir = TempDir::new();
        let out = dir.join("out");
        let mut tracer = command()
            .args(["-p", &workload.pid.to_string()])
            .args(["--format", "json", "-o"])
            .arg(&out)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("memtrace starts");
        let open = format!("/proc/{}/fd", tracer.id());
        let written = || fs::read_to_string(&out).unwrap_or_default();
        wait::until("memtrace to be so far", || {
            let so_far = fs::read_dir(&open).map_or(0, Iterator::count);
            let attached = written().contains('\n');
            let ended = tracer.try_wait().expect("it is our child").is_some();
            (so_far >= open_files || attached || ended).then_some(())
        });
        workload.kill();

        let output = tracer.wait_with_output().expect("it is our child");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!stderr.contains("panicked"), "{stderr}");
        match output.status.code() {
            Some(0) => {
                Run::parse(&written(), &Rules::default());
            }
            // It was gone before anything could be attached.
            Some(1) => {
                assert_eq!(stderr.lines().count(), 1, "{stderr}");
                assert_eq!(written(), "");
            }
            _ => panic!("memtrace ended with {}:\n{stderr}", output.status),
        }
    }
}
