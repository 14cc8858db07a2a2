//! A running `bench-workload`, which does each step when told and measures itself.
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result, anyhow, bail};
use serde_json::Value;

use super::child::Running;
use super::cpus::CpuSet;
use super::wait;

/// It has said `ready` and waits.
pub struct Target {
    running: Running,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

/// What it found out about itself.
#[derive(Debug)]
pub struct Truth(Value);

impl Target {
    pub fn start(workload: &Path, args: &[String], cpus: CpuSet) -> Result<Self> {
        let mut command = Command::new(workload);
        command
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut running = Running::start(cpus.confine(&mut command))?;
        let pipes = (running.child().stdin.take(), running.child().stdout.take());
        let (Some(stdin), Some(stdout)) = pipes else {
            bail!("the workload has no pipes");
        };
        let mut target = Self {
            running,
            stdin,
            stdout: BufReader::new(stdout),
        };
        let line = target.hear()?;
        if line != format!("ready {}", target.pid()) {
            bail!("the workload said {line:?} instead of `ready PID`");
        }
        Ok(target)
    }

    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// Lets it prepare itself.
    pub fn go(&mut self) -> Result<Truth> {
        self.say("go")?;
        self.truth()
    }

    /// Lets it do what is measured.
    pub fn act(&mut self) -> Result<Truth> {
        self.say("act")?;
        self.truth()
    }

    /// Lets it end.
    pub fn end(mut self) -> Result<()> {
        self.say("end")?;
        let status = self.running.end(wait::BACKSTOP)?;
        if !status.success() {
            bail!("the workload ended with {status}");
        }
        Ok(())
    }

    fn say(&mut self, word: &str) -> Result<()> {
        writeln!(self.stdin, "{word}").context("the workload is gone")
    }

    fn truth(&mut self) -> Result<Truth> {
        let line = self.hear()?;
        let value = serde_json::from_str(&line)
            .with_context(|| format!("the workload reported {line:?}"))?;
        Ok(Truth(value))
    }

    fn hear(&mut self) -> Result<String> {
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }
}

impl Truth {
    pub fn number(&self, name: &str) -> Result<u64> {
        self.0[name]
            .as_u64()
            .ok_or_else(|| anyhow!("the workload's report has no {name}: {}", self.0))
    }

    /// All its page faults since `go`.
    pub fn faults(&self) -> Result<u64> {
        Ok(self.number("minflt")? + self.number("majflt")?)
    }

    /// Of the median round.
    pub fn ns_per_event(&self) -> Result<f64> {
        Ok(self.number("median_ns")? as f64 / self.number("events")? as f64)
    }

    /// The same in CPU time.
    pub fn cpu_ns_per_event(&self) -> Result<f64> {
        Ok(self.number("median_cpu_ns")? as f64 / self.number("events")? as f64)
    }

    /// Of the quickest round.
    pub fn best_ns_per_event(&self) -> Result<f64> {
        Ok(self.number("best_ns")? as f64 / self.number("events")? as f64)
    }

    /// In all rounds.
    pub fn events(&self) -> Result<u64> {
        Ok(self.number("events")? * self.number("rounds")?)
    }
}
