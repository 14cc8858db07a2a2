//! A target that ends while memtrace attaches, and another process that gets its pid: nothing of that one is told.

use std::fs;
use std::process::{Child, Command, Output, Stdio};

use memtrace_tests::needs::Need;
use memtrace_tests::run::{Rules, Run};
use memtrace_tests::tempdir::TempDir;
use memtrace_tests::tracer::command;
use memtrace_tests::workload::Workload;
use memtrace_tests::{exe, needs, wait};

const LAST_PID: &str = "/proc/sys/kernel/ns_last_pid";

/// A process with a given pid; None where others were always faster.
fn with_pid(pid: u32) -> Option<Child> {
    for _ in 0..100 {
        let _ = fs::write(LAST_PID, (pid - 1).to_string());
        let mut child = Command::new("sleep")
            .arg("1000")
            .spawn()
            .expect("sleep runs");
        if child.id() == pid {
            return Some(child);
        }
        child.kill().expect("it is our child");
        child.wait().expect("it is our child");
    }
    None
}

/// Lets the target end, and another process get its pid, once memtrace has so many files open; what
/// memtrace wrote to its file and how it ended. None where nobody got the pid.
fn reuse_at(open_files: usize, others: &[u32]) -> Option<(String, Output, u32)> {
    let workload = Workload::start(&exe!("waits"), &[]);
    let pid = workload.pid;
    let dir = TempDir::new();
    let out = dir.join("out");
    let pids = std::iter::once(pid).chain(others.iter().copied());
    let pids: Vec<String> = pids.map(|pid| pid.to_string()).collect();
    let mut tracer = command()
        .args(["-p", &pids.join(","), "--format", "json", "-o"])
        .arg(&out)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("memtrace starts");
    let open = format!("/proc/{}/fd", tracer.id());
    let written = || fs::read_to_string(&out).unwrap_or_default();
    wait::until("memtrace to be so far", || {
        let files: Vec<_> = fs::read_dir(&open)
            .into_iter()
            .flatten()
            .flatten()
            .collect();
        // When it knows whom to trace it holds a pidfd.
        let knows = files.iter().any(|file| {
            let link = fs::read_link(file.path()).unwrap_or_default();
            link.to_string_lossy().contains("pidfd")
        });
        let so_far = files.len();
        let ended = tracer.try_wait().expect("it is our child").is_some();
        (knows && so_far >= open_files || written().contains('\n') || ended).then_some(())
    });
    workload.kill();
    let new = with_pid(pid);
    let reused = new.is_some();
    // The others end it, or it has nobody left.
    if !others.is_empty() {
        wait::until("memtrace's header", || {
            let ended = tracer.try_wait().expect("it is our child").is_some();
            (written().contains('\n') || ended).then_some(())
        });
        let memtrace = i32::try_from(tracer.id()).expect("pids are small");
        // SAFETY: it has not been waited for, so that the pid is its own.
        unsafe { libc::kill(memtrace, libc::SIGINT) };
    }
    let output = tracer.wait_with_output().expect("it is our child");
    if let Some(mut new) = new {
        new.kill().expect("it is our child");
        new.wait().expect("it is our child");
    }
    reused.then(|| (written(), output, pid))
}

#[test]
fn a_target_whose_pid_is_anothers_by_now_is_gone() {
    needs!(Need::Tracing, Need::Btf);
    let mut gone = 0;
    for open_files in (4..120).step_by(2) {
        if gone > 1 {
            break;
        }
        let Some((written, output, _)) = reuse_at(open_files, &[]) else {
            continue;
        };
        let stderr = String::from_utf8_lossy(&output.stderr);
        match output.status.code() {
            // Everything was attached: its end was seen, and is its own.
            Some(0) => {
                let run = Run::parse(&written, &Rules::default());
                run.summary().expect(&[("exit_signal", 9)]);
            }
            Some(1) => {
                assert_eq!(stderr.lines().count(), 1, "{stderr}");
                assert_eq!(written, "");
                gone += usize::from(stderr.contains("ended while memtrace attached"));
            }
            _ => panic!("memtrace ended with {}:\n{stderr}", output.status),
        }
    }
    assert!(gone > 0, "no target ended at the right time");
}

#[test]
fn the_other_targets_are_traced_on() {
    needs!(Need::Tracing, Need::Btf);
    let other = Workload::start(&exe!("waits"), &[]);
    let mut gone = 0;
    for open_files in (8..120).step_by(2) {
        if gone > 1 {
            break;
        }
        let Some((written, output, pid)) = reuse_at(open_files, &[other.pid]) else {
            continue;
        };
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{stderr}");
        let run = Run::parse(&written, &Rules::default());
        if !stderr.contains("ended while memtrace attached") {
            continue;
        }
        gone += 1;
        let why = format!("process {pid} ended while memtrace attached");
        assert_eq!(stderr, format!("memtrace: {why}: the others are traced\n"));
        let summary = run.summary();
        summary.expect(&[("pid", u64::from(other.pid))]);
        let note = format!("{why} and is not traced");
        assert!(summary.texts("notes").contains(&&*note), "{summary}");
        assert_eq!(run.header.list("targets").len(), 1);
    }
    assert!(gone > 0, "no target ended at the right time");
    other.kill();
}
