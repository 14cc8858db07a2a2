//! What tests of allocators and runtimes share: looking at a process that holds still, and an entry of its summary.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::programs::jemalloc;
use crate::record::Record;
use crate::run::{Rules, Run};
use crate::tempdir::TempDir;
use crate::tracer::Trace;
use crate::workload::{Workload, without_huge_pages};

/// As MALLOC_CONF of jemalloc: gives all back by MADV_FREE, and never by MADV_DONTNEED.
pub const LAZILY: &str = "dirty_decay_ms:1,muzzy_decay_ms:-1";

/// Starts a Go program with that GODEBUG, or without any.
pub fn start_go(program: &Path, setting: Option<&str>) -> Workload {
    let mut command = Command::new(program);
    command
        .env_remove("GODEBUG")
        .env_remove("GOGC")
        .env_remove("GOMEMLIMIT");
    if let Some(setting) = setting {
        command.env("GODEBUG", setting);
    }
    without_huge_pages(&mut command);
    Workload::start_command(&mut command)
}

/// Attaches without a stream.
pub fn attach(pid: u32) -> Trace {
    let mut trace = Trace::attach(pid, &["-q", "--interval", "0.2"]);
    trace.rules = Rules {
        whole_stream: false,
        ..Rules::default()
    };
    trace
}

/// Looks at a program while it does its work; what it says of that comes first.
pub fn look_at_work(workload: &mut Workload) -> (Record, Run) {
    let trace = attach(workload.pid);
    let truth = workload.go();
    trace.signal(libc::SIGINT);
    (truth, trace.finish())
}

/// Looks at a program that holds still.
pub fn look(workload: Workload) -> Run {
    let trace = attach(workload.pid);
    trace.signal(libc::SIGINT);
    let run = trace.finish();
    workload.kill();
    run
}

/// The entry of that name.
#[track_caller]
pub fn runtime(summary: &Record, name: &str) -> Record {
    let all = summary.list("runtimes");
    let mut found = all.into_iter().filter(|one| one.text("name") == name);
    match (found.next(), found.next()) {
        (Some(one), None) => one,
        (first, _) => panic!("{name}: {first:?} and perhaps others in\n{summary}"),
    }
}

/// An entry's settings: name, value and origin.
pub fn settings(runtime: &Record) -> Vec<(String, String, String)> {
    let all = runtime.list("settings").into_iter();
    let text = |one: &Record, key| one.text(key).to_owned();
    all.map(|one| {
        (
            text(&one, "name"),
            text(&one, "value"),
            text(&one, "origin"),
        )
    })
    .collect()
}

/// One that the environment made.
pub fn set(name: &str, value: &str) -> [(String, String, String); 1] {
    [(name.to_owned(), value.to_owned(), "environment".to_owned())]
}

/// What jemalloc says of itself: `5.3.0` of `5.3.0-0-g54eaed1d...`.
pub fn jemalloc_version() -> String {
    let output = Command::new("true")
        .env("LD_PRELOAD", jemalloc())
        .env("MALLOC_CONF", "stats_print:true")
        .output()
        .expect("true runs");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let version = text.lines().find_map(|line| {
        let version = line.trim().strip_prefix("Version: ")?.trim_matches('"');
        version.split_once("-0-g").map(|(release, _)| release)
    });
    version
        .unwrap_or_else(|| panic!("jemalloc told no version:\n{text}"))
        .to_owned()
}

/// What the C library says of itself.
pub fn glibc_version() -> String {
    // SAFETY: it returns a string that lives as long as the program.
    let version = unsafe { std::ffi::CStr::from_ptr(libc::gnu_get_libc_version()) };
    version.to_str().expect("ASCII").to_owned()
}

/// Asserts that a note has this part.
#[track_caller]
pub fn is_noted(summary: &Record, part: &str) {
    let notes = summary.texts("notes");
    assert!(notes.iter().any(|note| note.contains(part)), "{notes:#?}");
}

/// A copy of a file under another name.
pub fn copy(dir: &TempDir, from: &Path, name: &str) -> PathBuf {
    let to = dir.join(name);
    fs::copy(from, &to).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    to
}
