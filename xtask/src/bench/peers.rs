//! Other tracers: how each is started, when it is really attached, and what it says it has seen.
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use super::child::Running;
use super::cpus::Cpus;
use super::scratch::Scratch;
use super::seen::Seen;
use super::{program, wait};
use crate::process;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Counts in the kernel, and says nothing of single faults.
    PerfStat,
    PerfRecordSoftware,
    PerfRecordTracepoint,
    /// Prints each fault.
    PerfTraceFaults,
    /// Sums the calls up.
    PerfTraceCalls,
    BpftraceCount,
    /// Prints each fault.
    BpftracePrintf,
    BpftraceCountCalls,
    /// Prints each call.
    Strace,
}

/// Attached and at work.
pub struct Attached {
    pub running: Running,
    peer: Peer,
    output: PathBuf,
    errors: PathBuf,
}

impl Peer {
    pub fn label(self) -> &'static str {
        match self {
            Self::PerfStat => "perf stat -e page-faults",
            Self::PerfRecordSoftware => "perf record -e page-faults -c 1 -d",
            Self::PerfRecordTracepoint => "perf record -e exceptions:page_fault_user",
            Self::PerfTraceFaults => "perf trace -F all --no-syscalls",
            Self::PerfTraceCalls => "perf trace -s -e madvise,mmap,munmap",
            Self::BpftraceCount => "bpftrace, count of page_fault_user",
            Self::BpftracePrintf => "bpftrace, printf of each page_fault_user",
            Self::BpftraceCountCalls => "bpftrace, count of sys_enter_madvise",
            Self::Strace => "strace -f -e trace=memory",
        }
    }

    fn program(self) -> &'static str {
        match self {
            Self::PerfStat
            | Self::PerfRecordSoftware
            | Self::PerfRecordTracepoint
            | Self::PerfTraceFaults
            | Self::PerfTraceCalls => "perf",
            Self::BpftraceCount | Self::BpftracePrintf | Self::BpftraceCountCalls => "bpftrace",
            Self::Strace => "strace",
        }
    }

    /// Where it is, or how to get it.
    pub fn find(self) -> Result<PathBuf, String> {
        let name = self.program();
        program::find(name).ok_or_else(|| {
            let package = match name {
                "perf" => "linux-perf",
                other => other,
            };
            format!("not installed: apt-get install {package}")
        })
    }

    /// Whether it takes so long for each event that fewer are made under it.
    pub fn is_slow(self) -> bool {
        matches!(
            self,
            Self::PerfTraceFaults | Self::BpftracePrintf | Self::Strace | Self::PerfTraceCalls
        )
    }

    fn args(self, pid: u32, output: &Path) -> Vec<String> {
        let pid = pid.to_string();
        let output = output.display().to_string();
        let words: Vec<&str> = match self {
            Self::PerfStat => vec!["stat", "-e", "page-faults", "-o", &output],
            Self::PerfRecordSoftware => {
                vec![
                    "record",
                    "-q",
                    "-e",
                    "page-faults",
                    "-c",
                    "1",
                    "-d",
                    "-o",
                    &output,
                ]
            }
            Self::PerfRecordTracepoint => {
                vec![
                    "record",
                    "-q",
                    "-e",
                    "exceptions:page_fault_user",
                    "-o",
                    &output,
                ]
            }
            Self::PerfTraceFaults => vec!["trace", "-F", "all", "--no-syscalls", "-o", &output],
            Self::PerfTraceCalls => {
                vec!["trace", "-s", "-e", "madvise,mmap,munmap", "-o", &output]
            }
            Self::BpftraceCount | Self::BpftracePrintf | Self::BpftraceCountCalls => {
                let (probe, action) = match self {
                    Self::BpftraceCount => ("exceptions:page_fault_user", "@ = count();"),
                    Self::BpftracePrintf => (
                        "exceptions:page_fault_user",
                        "printf(\"%d %lx %lx\\n\", tid, args->address, args->error_code);",
                    ),
                    _ => ("syscalls:sys_enter_madvise", "@ = count();"),
                };
                let script = format!("tracepoint:{probe} /pid == {pid}/ {{ {action} }}");
                return ["-q", "-o", &output, "-e", &script]
                    .map(String::from)
                    .to_vec();
            }
            Self::Strace => vec!["-f", "-e", "trace=memory", "-o", &output],
        };
        let pid = ["-p", &pid];
        words.into_iter().chain(pid).map(String::from).collect()
    }

    pub fn attach(self, pid: u32, cpus: &Cpus, scratch: &Scratch) -> Result<Attached> {
        let path = self.find().map_err(anyhow::Error::msg)?;
        let output = scratch.path().join("peer.out");
        let errors = scratch.path().join("peer.stderr");
        let mut command = Command::new(path);
        command
            .args(self.args(pid, &output))
            // perf writes its build-id cache below it, strace and bpftrace read nothing there.
            .env("HOME", scratch.path())
            .current_dir(scratch.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&errors)?);
        // strace and its target wake each other for each call.
        let cpus = if self == Self::Strace {
            cpus.all
        } else {
            cpus.others
        };
        let mut running = Running::start(cpus.confine(&mut command))?;
        wait::until(self.label(), wait::BACKSTOP, || {
            running.must_run().with_context(|| said(&errors))?;
            let tracer = running.pid();
            let attached = match self {
                Self::Strace => is_traced_by(pid, tracer) && waits_for_children(tracer),
                _ => waits_for_events(tracer),
            };
            Ok(attached.then_some(()))
        })?;
        Ok(Attached {
            running,
            peer: self,
            output,
            errors,
        })
    }

    /// How its output says what it has seen.
    fn seen(self, output: &Path) -> Result<Seen> {
        let mut seen = Seen::default();
        match self {
            Self::PerfStat => seen.faults = perf_stat(&fs::read_to_string(output)?),
            Self::PerfRecordSoftware | Self::PerfRecordTracepoint => {
                let path = self.find().map_err(anyhow::Error::msg)?;
                let mut report = Command::new(path);
                report.args(["report", "--stats", "-i"]).arg(output);
                let stats = process::stdout(report.stderr(Stdio::null()))?;
                seen.faults = perf_stats_line(&stats, "SAMPLE");
                seen.lost = Some(perf_stats_line(&stats, "LOST_SAMPLES").unwrap_or(0));
            }
            Self::PerfTraceFaults => {
                seen.faults = Some(count_lines(output, |line| line.contains("fault ["))?);
            }
            Self::PerfTraceCalls => {
                seen.madvise_calls = perf_trace_calls(&fs::read_to_string(output)?);
            }
            Self::BpftraceCount => seen.faults = bpftrace_count(&fs::read_to_string(output)?),
            Self::BpftraceCountCalls => {
                seen.madvise_calls = bpftrace_count(&fs::read_to_string(output)?);
            }
            Self::BpftracePrintf => {
                let is_fault = |line: &str| line.starts_with(|c: char| c.is_ascii_digit());
                seen.faults = Some(count_lines(output, is_fault)?);
            }
            Self::Strace => {
                seen.madvise_calls = Some(count_lines(output, |line| line.contains("madvise("))?);
            }
        }
        Ok(seen)
    }
}

impl Attached {
    /// Ends it as Ctrl-C does.
    pub fn stop(mut self) -> Result<Seen> {
        // Some end by the signal itself and others return a status of their own: what counts is
        // whether the output is there.
        self.running.interrupt()?;
        if !self.output.exists() {
            bail!(
                "{} wrote nothing: {}",
                self.peer.label(),
                said(&self.errors)
            );
        }
        self.peer.seen(&self.output)
    }
}

fn said(errors: &Path) -> String {
    format!(
        "it said: {}",
        fs::read_to_string(errors).unwrap_or_default().trim()
    )
}

/// Whether a perf or bpftrace has its events open and waits for the first of them: both wait in
/// poll, epoll or a short sleep, and do so only once all is attached.
fn waits_for_events(tracer: u32) -> bool {
    let opened = fs::read_dir(format!("/proc/{tracer}/fd"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .any(|to| to.to_string_lossy().contains("[perf_event]"));
    opened && WAITING.iter().any(|&call| Some(call) == blocked_in(tracer))
}

fn waits_for_children(tracer: u32) -> bool {
    blocked_in(tracer) == Some(libc::SYS_wait4)
}

const WAITING: &[libc::c_long] = &[
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    libc::SYS_ppoll,
    libc::SYS_epoll_pwait,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
];

/// The system call that a program's first thread is blocked in, by number.
fn blocked_in(pid: u32) -> Option<libc::c_long> {
    let text = fs::read_to_string(format!("/proc/{pid}/syscall")).ok()?;
    text.split_whitespace().next()?.parse().ok()
}

fn is_traced_by(pid: u32, tracer: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status
        .lines()
        .filter_map(|line| line.strip_prefix("TracerPid:"))
        .any(|by| by.trim() == tracer.to_string())
}

fn count_lines(path: &Path, wanted: impl Fn(&str) -> bool) -> Result<u64> {
    let mut count = 0;
    // Names in it may be anything.
    for line in BufReader::new(File::open(path)?).split(b'\n') {
        count += u64::from(wanted(&String::from_utf8_lossy(&line?)));
    }
    Ok(count)
}

/// "  9,351      page-faults"
fn perf_stat(text: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.contains("page-faults"))?;
    line.split_whitespace()
        .next()?
        .replace(',', "")
        .parse()
        .ok()
}

/// "   SAMPLE events:       1024  (89.0%)"
fn perf_stats_line(text: &str, name: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(" events:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// "   madvise               64      0     1.316 ..."
fn perf_trace_calls(text: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("madvise "))?;
    line.split_whitespace().next()?.parse().ok()
}

/// "@: 1024"
fn bpftrace_count(text: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix("@: "))?
        .trim()
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_peers_print_is_understood() {
        assert_eq!(
            perf_stat("\n   9,351      page-faults       \n"),
            Some(9351)
        );
        let stats = "  TOTAL events:  9\n  SAMPLE events:  7  (89.0%)\n\
                     LOST_SAMPLES events:  2\npage-faults stats:\n SAMPLE events: 7\n";
        assert_eq!(perf_stats_line(stats, "SAMPLE"), Some(7));
        assert_eq!(perf_stats_line(stats, "LOST_SAMPLES"), Some(2));
        assert_eq!(perf_stats_line(stats, "LOST"), None);
        let calls = "   mmap      73      0     9.442\n   madvise      64      0     1.316\n";
        assert_eq!(perf_trace_calls(calls), Some(64));
        assert_eq!(bpftrace_count("\n@: 1024\n"), Some(1024));
    }

    #[test]
    fn a_peer_that_prints_something_else_has_seen_nothing_known() {
        for text in ["", "\n\n", "perf: error", "@: many", "madvise"] {
            assert_eq!(perf_stat(text), None);
            assert_eq!(perf_stats_line(text, "SAMPLE"), None);
            assert_eq!(perf_trace_calls(text), None);
            assert_eq!(bpftrace_count(text), None);
        }
    }
}
