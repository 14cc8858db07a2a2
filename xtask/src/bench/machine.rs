//! What the measurements were made on: values of other machines can't be compared with them.
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::program;
use crate::process;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Machine {
    pub date: String,
    pub commit: String,
    pub cpu: String,
    pub cpus: usize,
    pub memory_bytes: u64,
    pub kernel: String,
    pub virtualised: bool,
    /// The setting of transparent huge pages; the workloads turn them off for themselves.
    pub thp: String,
    /// Runnable tasks over the minute before the start.
    pub load: f64,
    pub pinning: String,
    /// What the peers say of their version, or that they are not installed.
    pub programs: Vec<String>,
}

impl Machine {
    pub fn describe(root: &Path, pinning: String) -> Result<Self> {
        let cpuinfo = read("/proc/cpuinfo");
        let meminfo = read("/proc/meminfo");
        let cpus = cpuinfo.lines().filter(|line| line.starts_with("processor"));
        Ok(Self {
            date: process::stdout(Command::new("date").args(["-u", "+%Y-%m-%d %H:%M UTC"]))?,
            commit: commit(root),
            cpu: field(&cpuinfo, "model name").unwrap_or_else(|| "unknown CPU".to_owned()),
            cpus: cpus.count(),
            memory_bytes: field(&meminfo, "MemTotal")
                .and_then(|text| text.strip_suffix(" kB")?.parse::<u64>().ok())
                .unwrap_or(0)
                * 1024,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            virtualised: field(&cpuinfo, "flags")
                .is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor")),
            thp: chosen(&read("/sys/kernel/mm/transparent_hugepage/enabled")),
            load: load(),
            pinning,
            programs: programs(),
        })
    }

    /// What makes the measurement doubtful from the start.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.load > 0.5 {
            warnings.push(format!(
                "the machine was busy at the start (load average {:.1}): differences of a few per cent are chance",
                self.load
            ));
        }
        if self.cpus < 2 {
            warnings.push("with one CPU, tracers take time from what they measure".to_owned());
        }
        if self.commit.ends_with('+') {
            warnings.push("the checkout had changes that are not committed".to_owned());
        }
        warnings
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn load() -> f64 {
    let text = read("/proc/loadavg");
    text.split(' ')
        .next()
        .and_then(|word| word.parse().ok())
        .unwrap_or(0.0)
}

/// The first "NAME : VALUE" of that name.
fn field(text: &str, name: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim().to_owned())
    })
}

/// The word in brackets.
fn chosen(setting: &str) -> String {
    let word = setting
        .split_once('[')
        .and_then(|(_, rest)| rest.split_once(']'));
    word.map_or("unknown", |(word, _)| word).to_owned()
}

/// The short hash, with a plus sign where the checkout differs from it.
fn commit(root: &Path) -> String {
    let git = |args: &[&str]| process::stdout(Command::new("git").arg("-C").arg(root).args(args));
    let Ok(hash) = git(&["rev-parse", "--short", "HEAD"]) else {
        return "unknown".to_owned();
    };
    match git(&["status", "--porcelain", "--untracked-files=no"]) {
        Ok(changes) if changes.is_empty() => hash,
        _ => hash + "+",
    }
}

fn programs() -> Vec<String> {
    [
        "perf",
        "bpftrace",
        "strace",
        "redis-server",
        "redis-benchmark",
    ]
    .map(|name| {
        let Some(path) = program::find(name) else {
            return format!("{name}: not installed");
        };
        let version = process::stdout(Command::new(path).arg("--version"));
        let version = version.unwrap_or_default();
        let first = version.lines().next().unwrap_or_default();
        // Redis tells a hash and its build too.
        let words: Vec<&str> = first
            .split(' ')
            .filter(|word| !word.contains('=') || word.starts_with("v="))
            .collect();
        words.join(" ")
    })
    .to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_and_fields_are_read_from_their_files() {
        assert_eq!(chosen("always [madvise] never\n"), "madvise");
        assert_eq!(chosen(""), "unknown");
        let cpuinfo = "processor\t: 0\nmodel name\t: A CPU\nflags\t\t: fpu hypervisor\n";
        assert_eq!(field(cpuinfo, "model name").as_deref(), Some("A CPU"));
        assert_eq!(field(cpuinfo, "model"), None);
    }
}
