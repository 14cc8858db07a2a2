//! The three sources of page faults: each gives the same ledger of the same workload.

use std::fs;
use std::process::Stdio;

use memtrace_tests::binary::Exe;
use memtrace_tests::needs::{Need, is_since, not_run};
use memtrace_tests::record::Record;
use memtrace_tests::run::CLASSES;
use memtrace_tests::scenario::Scenario;
use memtrace_tests::tracer::{Trace, command};
use memtrace_tests::workload::Workload;
use memtrace_tests::{exe, needs};

/// From the cheapest to the dearest.
const RUNGS: [&str; 3] = ["tp_btf", "raw_tp", "tracepoint"];

#[test]
fn every_rung_gives_the_same_ledger() {
    needs!(Need::Tracing);
    let mut rungs = Vec::new();
    for rung in RUNGS {
        match works(rung) {
            Ok(()) => rungs.push(rung),
            Err(why) => {
                let test = format!("rungs::every_rung_gives_the_same_ledger with {rung}");
                not_run(&test, &why, "run it on a kernel that has this source");
            }
        }
    }
    for workload in [
        exe!("dontneed_read_write"),
        exe!("free_rewrite"),
        exe!("read_fresh"),
        exe!("mremap_move"),
        exe!("first_read_write"),
        exe!("threads_disjoint"),
        exe!("threads_churn"),
    ] {
        same_on_all(&workload, &rungs);
    }
}

#[test]
fn the_first_rung_that_works_is_taken() {
    needs!(Need::Tracing);
    // Linux 7 may preempt programs on the others, and then leaves out whoever comes next.
    let version = fs::read_to_string("/proc/version").expect("every Linux has one");
    let preempts = version.contains("PREEMPT") && is_since(7, 0);
    let order = match preempts {
        true => ["tracepoint", "tp_btf", "raw_tp"],
        false => RUNGS,
    };
    let expected = order.into_iter().find(|rung| works(rung).is_ok());
    let mut workload = Workload::start(&exe!("waits"), &[]);
    let trace = Trace::attach(workload.pid, &[]);
    workload.go();
    workload.end();
    let run = trace.finish();
    assert_eq!(Some(run.header.text("fault_source")), expected);
}

/// Plays the workload once for each rung.
#[track_caller]
fn same_on_all(workload: &Exe, rungs: &[&str]) {
    let mut first: Option<Vec<(String, u64)>> = None;
    for rung in rungs {
        let played = Scenario::of(workload.clone())
            .traced_with("--fault-source")
            .traced_with(rung)
            .play();
        let summary = played.summary();
        assert_eq!(played.run.header.text("fault_source"), *rung);
        // The kernel's own count of this run.
        assert_eq!(summary.count("faults.total"), played.faults.all());
        let figures = figures(summary);
        let expected = first.get_or_insert_with(|| figures.clone());
        assert_eq!(
            &figures, expected,
            "{workload:?} from {rung}, and before it from {}, in\n{summary}",
            rungs[0]
        );
    }
}

/// Every count of a summary that a workload decides alone.
fn figures(summary: &Record) -> Vec<(String, u64)> {
    let mut paths: Vec<String> = CLASSES
        .iter()
        .flat_map(|class| [format!("faults.{class}"), format!("faults.bytes.{class}")])
        .collect();
    for advice in summary.keys("advice") {
        for key in [
            "calls",
            "failed",
            "requested_bytes",
            "refaults",
            "refaulted_bytes",
        ] {
            paths.push(format!("advice.{advice}.{key}"));
        }
    }
    for how in ["unmap.munmap", "unmap.mremap", "map.mmap", "map.mremap"] {
        paths.push(format!("{how}.calls"));
    }
    paths
        .into_iter()
        .map(|path| {
            let count = summary.count_or_none(&path);
            (path, count)
        })
        .collect()
}

/// Whether memtrace can take faults from this rung here, or what it says.
fn works(rung: &str) -> Result<(), String> {
    let pid = std::process::id().to_string();
    let output = command()
        .args(["-q", "--no-status", "--duration", "0.01"])
        .args(["--fault-source", rung, "-p", &pid])
        .stdin(Stdio::null())
        .output()
        .expect("memtrace runs");
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(stderr
        .lines()
        .next()
        .unwrap_or("it does not say why")
        .to_owned())
}
