//! How a trace ends: by a signal, after a time, with its target or its reader, and what status it returns.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::process::Stdio;

use memtrace_tests::needs::Need;
use memtrace_tests::run::Run;
use memtrace_tests::tracer::{Trace, command};
use memtrace_tests::wait;
use memtrace_tests::workload::Workload;
use memtrace_tests::{exe, needs};

/// Traces a workload through its measured part, ends the trace while it still runs, and checks
/// that it was left unharmed.
fn end_by(extra: &[&str], end: impl FnOnce(&Trace)) -> Run {
    let mut workload = Workload::start(&exe!("dontneed_touch"), &[]);
    let trace = Trace::attach(workload.pid, extra);
    let truth = workload.go();
    end(&trace);
    let run = trace.finish();
    // It still answers and ends by itself.
    workload.end();
    let pages = truth.count("pages");
    run.summary().expect(&[
        ("faults.first_touch", pages),
        ("faults.refault_dontneed", pages),
        ("faults.total", 2 * pages),
    ]);
    run
}

#[test]
fn the_first_interrupt_ends_with_a_summary() {
    needs!(Need::Tracing);
    end_by(&[], |trace| trace.signal(libc::SIGINT));
}

#[test]
fn a_termination_ends_with_a_summary() {
    needs!(Need::Tracing);
    end_by(&[], |trace| trace.signal(libc::SIGTERM));
}

#[test]
fn a_duration_ends_with_a_summary() {
    needs!(Need::Tracing);
    let mut workload = Workload::start(&exe!("waits"), &[]);
    let trace = Trace::attach(workload.pid, &["--duration", "1"]);
    let run = trace.finish();
    let _ = workload.go();
    workload.end();
    run.summary().expect(&[("faults.total", 0)]);
}

#[test]
fn the_targets_end_ends_with_a_summary() {
    needs!(Need::Tracing);
    let workload = Workload::start(&exe!("waits"), &[]);
    let pid = u64::from(workload.pid);
    let trace = Trace::attach(workload.pid, &[]);
    workload.kill();
    let run = trace.finish();
    run.summary().expect(&[("pid", pid), ("faults.total", 0)]);
}

#[test]
fn a_closed_stdout_is_a_normal_end() {
    needs!(Need::Tracing);
    for format in ["json", "text"] {
        let workload = Workload::start(&exe!("waits"), &[]);
        let pid = workload.pid.to_string();
        let mut tracer = command()
            .args(["-p", &pid, "--format", format])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("memtrace starts");
        let mut first = String::new();
        let stdout = tracer.stdout.take().expect("stdout is piped");
        let read = BufReader::new(stdout).read_line(&mut first);
        assert!(read.expect("it writes text") > 0, "no first line");
        // The reader is gone, as after `| head -1`; the next status line finds that out.
        let status = wait::until("memtrace's end", || {
            tracer.try_wait().expect("it is our child")
        });
        let output = tracer.wait_with_output().expect("it is our child");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(status.code(), Some(0), "{format}: {stderr}");
        assert!(!stderr.contains("panicked"), "{format}: {stderr}");
        drop(workload);
    }
}

#[test]
fn an_output_that_nobody_reads_from_the_first_is_a_normal_end() {
    needs!(Need::Tracing);
    let workload = Workload::start(&exe!("waits"), &[]);
    let pid = workload.pid.to_string();
    for stderr_too in [false, true] {
        let (reader, writer) = io::pipe().expect("a pipe can be made");
        drop(reader);
        let mut tracer = command();
        tracer
            .args(["-v", "-p", &pid])
            .stdin(Stdio::null())
            .stderr(Stdio::piped());
        if stderr_too {
            tracer.stderr(writer.try_clone().expect("it is open"));
        }
        let tracer = tracer.stdout(writer).spawn().expect("memtrace starts");
        // A panic would end it with 101, whether its words can be written or not.
        let output = tracer.wait_with_output().expect("it is our child");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{said}");
    }
}

#[test]
fn a_demo_that_is_ended_early_is_a_success_and_leaves_nothing() {
    needs!(Need::Tracing);
    for (end, extra) in [
        (Some(libc::SIGTERM), &[][..]),
        (None, &["--duration", "0.001"]),
    ] {
        let args: Vec<&str> = ["demo"].iter().chain(extra).copied().collect();
        let trace = Trace::with(&args);
        if let Some(signal) = end {
            trace.signal(signal);
        }
        let run = trace.finish();
        let program = run.summary().count("pid") as u32;
        wait::until("the end of its program", || {
            has_ended(program).then_some(())
        });
    }
}

/// Gone, or waiting for whoever is its parent now to notice.
fn has_ended(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .ok()
        .and_then(|stat| Some(stat.rsplit_once(") ")?.1.starts_with(['Z', 'X'])))
        .unwrap_or(true)
}
