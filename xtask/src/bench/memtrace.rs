//! memtrace under measurement: attached when its header says so, and what its summary says at the end.
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use serde_json::Value;

use super::child::Running;
use super::cpus::CpuSet;
use super::scratch::Scratch;
use super::seen::Seen;
use super::wait;

/// Attached and at work.
pub struct Memtrace {
    pub running: Running,
    output: PathBuf,
    errors: PathBuf,
    /// From its start to its header.
    pub start: Duration,
    links: usize,
}

impl Memtrace {
    pub fn attach(
        program: &Path,
        args: &[String],
        pid: u32,
        cpus: CpuSet,
        scratch: &Scratch,
    ) -> Result<Self> {
        let output = scratch.path().join("memtrace.json");
        let errors = scratch.path().join("memtrace.stderr");
        let mut command = Command::new(program);
        command
            .args(["--format", "json", "-o"])
            .arg(&output)
            .args(args)
            .args(["-p", &pid.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&errors)?);
        let begun = Instant::now();
        let mut running = Running::start(cpus.confine(&mut command))?;
        let header = wait::until("memtrace's header", wait::BACKSTOP, || {
            if let Some(header) = first_line(&output)? {
                return Ok(Some(header));
            }
            running.must_run().with_context(|| said(&errors))?;
            Ok(None)
        })?;
        let start = begun.elapsed();
        let header: Value = serde_json::from_str(&header).context("memtrace's first line")?;
        if header["type"] != "header" {
            bail!("memtrace's first line is no header: {header}");
        }
        let links = links(running.pid())?;
        Ok(Self {
            running,
            output,
            errors,
            start,
            links,
        })
    }

    /// Waits until it has also attached what counts reclaim, some time after the first MADV_FREE.
    pub fn await_reclaim_tracking(&mut self) -> Result<()> {
        let (running, before) = (&mut self.running, self.links);
        wait::until("memtrace to count reclaim", Duration::from_secs(5), || {
            running.must_run()?;
            Ok((links(running.pid())? > before).then_some(()))
        })
    }

    /// Ends it as Ctrl-C does.
    pub fn stop(mut self) -> Result<Seen> {
        self.running.signal(libc::SIGINT)?;
        let status = self.running.end(wait::BACKSTOP)?;
        if !status.success() {
            bail!("memtrace ended with {status}: {}", said(&self.errors));
        }
        seen(BufReader::new(File::open(&self.output)?))
    }
}

/// A file's first line, once it is whole.
fn first_line(path: &Path) -> Result<Option<String>> {
    let Ok(file) = File::open(path) else {
        return Ok(None);
    };
    let mut line = String::new();
    BufReader::new(file).take(1 << 16).read_line(&mut line)?;
    Ok(line.ends_with('\n').then_some(line))
}

/// How many programs a process has attached by links.
fn links(pid: u32) -> Result<usize> {
    let folder = format!("/proc/{pid}/fdinfo");
    let entries = fs::read_dir(&folder).with_context(|| folder.clone())?;
    Ok(entries
        .flatten()
        // A file that was closed meanwhile holds nothing.
        .filter_map(|entry| fs::read_to_string(entry.path()).ok())
        .filter(|info| info.lines().any(|line| line.starts_with("link_type:")))
        .count())
}

fn said(errors: &Path) -> String {
    let text = fs::read_to_string(errors).unwrap_or_default();
    format!("memtrace said: {}", text.trim())
}

/// Reads the summaries: one for each address space, all of one target here.
fn seen(output: impl std::io::BufRead) -> Result<Seen> {
    let mut seen: Option<Seen> = None;
    for line in output.lines() {
        let line = line?;
        // Of a long stream only the few summaries are parsed.
        if !line.starts_with("{\"type\":\"summary\"") {
            continue;
        }
        let summary: Value = serde_json::from_str(&line).context("memtrace's summary")?;
        let sum = seen.get_or_insert_with(|| Seen {
            exact: Some(true),
            ..Seen::default()
        });
        add(&mut sum.faults, number(&summary["faults"]["total"])?);
        add(&mut sum.lost, number(&summary["lost"]["faults"])?);
        add(&mut sum.lost, number(&summary["lost"]["calls"])?);
        let advice = summary["advice"].as_object().into_iter().flatten();
        for (_, figures) in advice {
            add(&mut sum.madvise_calls, number(&figures["calls"])?);
        }
        if summary["exact"] != true {
            sum.exact = Some(false);
        }
    }
    seen.ok_or_else(|| anyhow!("memtrace wrote no summary"))
}

fn add(sum: &mut Option<u64>, more: u64) {
    *sum = Some(sum.unwrap_or(0) + more);
}

fn number(value: &Value) -> Result<u64> {
    value
        .as_u64()
        .ok_or_else(|| anyhow!("memtrace's summary has {value} where a number should be"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUMMARY: &str = r#"{"type":"summary","exact":true,"lost":{"calls":1,"faults":2},"advice":{"MADV_FREE":{"calls":3},"MADV_DONTNEED":{"calls":4}},"faults":{"total":50}}"#;

    #[test]
    fn what_memtrace_has_seen_is_summed_over_its_summaries() {
        let output = format!("{{\"type\":\"header\"}}\n{SUMMARY}\n{SUMMARY}\n");
        let seen = seen(output.as_bytes()).expect("both are whole");
        assert_eq!(seen.faults, Some(100));
        assert_eq!(seen.madvise_calls, Some(14));
        assert_eq!(seen.lost, Some(6));
        assert_eq!(seen.exact, Some(true));
    }

    #[test]
    fn an_output_without_a_summary_is_an_error() {
        assert!(seen(b"{\"type\":\"header\"}\n".as_slice()).is_err());
        assert!(seen(b"{\"type\":\"summary\"}\n".as_slice()).is_err());
    }
}
