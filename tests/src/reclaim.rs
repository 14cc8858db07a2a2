//! `memtrace reclaim` as tests call it, and what they assert of it.

use std::process::{Output, Stdio};

use crate::record::Record;
use crate::smaps::Memory;
use crate::tracer::command;

/// The kernel's batches of pages on their way between lists: up to 31 for each CPU and list.
pub const BATCHES: u64 = 4 * 31 * 4096;

/// Runs it to its end.
pub fn reclaim(args: &[&str]) -> Output {
    command()
        .arg("reclaim")
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("memtrace starts")
}

/// The lines of a run as JSON, which must have succeeded and said nothing else.
#[track_caller]
pub fn lines(args: &[&str]) -> Vec<Record> {
    let output = reclaim(&[args, &["--format", "json"]].concat());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert_eq!(stderr, "");
    let stdout = String::from_utf8(output.stdout).expect("JSON is UTF-8");
    let parse = |line| Record::parse(line).unwrap_or_else(|why| panic!("{why}"));
    stdout.lines().map(parse).collect()
}

/// The one line of a run.
#[track_caller]
pub fn line(args: &[&str]) -> Record {
    let mut lines = lines(args);
    assert_eq!(lines.len(), 1, "{lines:#?}");
    lines.remove(0)
}

/// Asserts exit status 1 and one line on stderr that names something, and nothing on stdout.
#[track_caller]
pub fn refused(output: &Output, named: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains(named), "{named} is not named in: {stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
}

/// Asserts that a figure is right but for what CPUs hold back in batches.
#[track_caller]
pub fn assert_near(found: u64, expected: u64, what: &str) {
    assert!(
        found.abs_diff(expected) <= BATCHES,
        "{what}: {found}, expected {expected}"
    );
}

/// Asserts that a process is as it was, but for pages that have left a batch meanwhile.
#[track_caller]
pub fn assert_untouched(pid: u32, before: Memory) {
    let now = Memory::of(pid);
    assert_eq!(now.rss_bytes, before.rss_bytes);
    assert!(
        now.lazyfree_bytes >= before.lazyfree_bytes,
        "{now:?}, before {before:?}"
    );
}

/// Asserts that no byte in use was lost, though threads went on writing.
#[track_caller]
pub fn assert_intact(truth: &Record) {
    assert!(
        truth.count("written_meanwhile") > 0,
        "nobody wrote: {truth}"
    );
    truth.expect(&[
        ("written_wrong", 0),
        ("kept_wrong", 0),
        ("rewritten_wrong", 0),
        ("freed_wrong", 0),
    ]);
}
