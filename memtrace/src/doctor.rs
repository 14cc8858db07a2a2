//! `memtrace doctor`: what works on this machine, and what to do about each thing that does not.

mod checks;
mod kernel;
mod own_file;

use std::io::{self, Write};

use anyhow::Context as _;
use serde_json::json;

use crate::attach::Tried;
use crate::config::{Format, Report};

/// What a check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Ok,
    /// Something that tracing wants is missing. Whether it works all the same, the fault source tells.
    No,
    /// It works, and this is worth knowing.
    Note,
}

impl Verdict {
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::No => "no",
            Self::Note => "note",
        }
    }

    /// The escape sequence of its colour.
    fn color(self) -> &'static str {
        match self {
            Self::Ok => "\x1b[32m",
            Self::No => "\x1b[31m",
            Self::Note => "\x1b[33m",
        }
    }
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    pub name: &'static str,
    pub verdict: Verdict,
    /// What was found, and what that means.
    pub detail: String,
    /// What to do about it.
    pub advice: Option<String>,
}

impl Check {
    fn new(name: &'static str, verdict: Verdict, detail: impl Into<String>) -> Self {
        Self {
            name,
            verdict,
            detail: detail.into(),
            advice: None,
        }
    }

    fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self::new(name, Verdict::Ok, detail)
    }

    fn no(name: &'static str, detail: impl Into<String>) -> Self {
        Self::new(name, Verdict::No, detail)
    }

    fn note(name: &'static str, detail: impl Into<String>) -> Self {
        Self::new(name, Verdict::Note, detail)
    }

    fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }
}

/// How one way of taking page faults went when it was really loaded and attached.
pub type Probe = (&'static str, Result<(), String>);

/// All that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Findings {
    pub checks: Vec<Check>,
    /// The fault source that a trace would use. Without one nothing can be traced.
    pub fault_source: Option<&'static str>,
}

/// Looks at everything. `probe` loads and attaches each fault source, the cheapest first.
pub fn examine(probe: impl Fn() -> Tried) -> Findings {
    let mut checks = kernel::checks();
    let Tried {
        fault_sources: probes,
        counting,
    } = probe();
    let fault_source = probes
        .iter()
        .find_map(|(name, result)| result.is_ok().then_some(*name));
    checks.push(checks::fault_source(&probes));
    checks.push(checks::counting(fault_source.is_some(), counting));
    checks.extend(checks::memory());
    Findings {
        checks,
        fault_source,
    }
}

/// Looks at everything, writes the report, and returns the exit status: 0 where tracing can work, else 1.
///
/// # Errors
/// When the report cannot be written.
pub fn run(report: &Report, probe: impl Fn() -> Tried) -> anyhow::Result<u8> {
    // First, so that a name that cannot be written is told before the machine is looked at. A signal
    // ends the process, which handles none here.
    let mut sink = report.sink.open(&|| None)?;
    let findings = examine(probe);
    let written = match report.format {
        Format::Text => findings.write_text(&mut sink, report.color),
        Format::Json => findings.write_json(&mut sink),
    };
    match written.and_then(|()| sink.flush()) {
        // Whoever read it has had enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        result => result.context("cannot write the report")?,
    }
    Ok(u8::from(findings.fault_source.is_none()))
}

impl Findings {
    /// For people: a line for each check, and what to do under those that want it.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn write_text(&self, out: &mut dyn Write, color: bool) -> io::Result<()> {
        let width = self.checks.iter().map(|check| check.name.len()).max();
        let width = width.unwrap_or(0);
        for check in &self.checks {
            let verdict = format!("{:4}", check.verdict.name());
            let (on, off) = match color {
                true => (check.verdict.color(), "\x1b[0m"),
                false => ("", ""),
            };
            let name = check.name.replace('_', " ");
            writeln!(out, "{on}{verdict}{off}  {name:width$}  {}", check.detail)?;
            if let Some(advice) = &check.advice {
                writeln!(out, "{:4}  {:width$}  -> {advice}", "", "")?;
            }
        }
        writeln!(out)?;
        match self.fault_source {
            Some(source) => writeln!(
                out,
                "Tracing works here; page faults are taken from {source}."
            ),
            None => writeln!(
                out,
                "Tracing cannot work here yet: see the lines that begin with \"no\"."
            ),
        }
    }

    /// For programs: one object on one line. `ok` is false for a "no" only; `status` tells a note from an ok.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn write_json(&self, out: &mut dyn Write) -> io::Result<()> {
        let checks: Vec<_> = self
            .checks
            .iter()
            .map(|check| {
                json!({
                    "name": check.name,
                    "ok": check.verdict != Verdict::No,
                    "status": check.verdict.name(),
                    "detail": check.detail,
                    "advice": check.advice,
                })
            })
            .collect();
        let line = json!({
            "type": "doctor",
            "version": env!("CARGO_PKG_VERSION"),
            "works": self.fault_source.is_some(),
            "fault_source": self.fault_source,
            "checks": checks,
        });
        writeln!(out, "{line}")
    }
}

#[cfg(test)]
mod tests;
