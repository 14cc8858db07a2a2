//! `--watch`: how much of what was taken comes back by faults, and what these cost.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;

use super::{Out, Round, Took, WRITING, all};
use crate::config::{Format, Reclaim};
use crate::output::{escape, json as lines};
use crate::proc::resolve;
use crate::proc::smaps::{self, Rollup};
use crate::session::watch::{self, Watched};
use crate::units::{Bytes, Nanos, PerSecond, Percent, counted};

/// Columns that a name may take.
const NAME_COLUMNS: usize = 40;

/// Takes, while the processes are traced already; watches; and reports once more.
///
/// # Errors
/// When they cannot be traced, with nothing taken; or a report cannot be written.
pub(super) fn run(config: &Reclaim, time: Duration) -> anyhow::Result<u8> {
    let mut out = Out::new(config);
    let mut pids = Vec::new();
    // What cannot be resolved is told when its turn to be taken from comes.
    for process in config
        .pids
        .iter()
        .filter_map(|&id| resolve::resolve(id).ok())
    {
        if !pids.contains(&process.pid) {
            pids.push(process.pid);
        }
    }
    if pids.is_empty() {
        return Ok(all(config, &mut out)?.status);
    }
    // Before anything is attached.
    out.ready()?;
    let out = Arc::new(Mutex::new(out));
    let job = {
        let (config, out) = (config.clone(), Arc::clone(&out));
        move || {
            let mut out = out.lock().unwrap_or_else(PoisonError::into_inner);
            all(&config, &mut out)
        }
    };
    // One thread is enough, as for a trace; the taking has another of its own.
    let (round, watched) = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(watch::run(&pids, |round| worth_while(round, time), job))
        .context("--watch wants to trace, and cannot, so that nothing was taken")?;
    let round: Round = round?;
    if round.unheard {
        return Ok(round.status);
    }
    let mut out = out.lock().unwrap_or_else(PoisonError::into_inner);
    let sink = out.ready()?;
    for took in round.took {
        let Some(watched) = watched.iter().find(|one| one.pid == took.pid) else {
            continue;
        };
        let view = View {
            now: smaps::rollup(took.pid)
                .ok()
                .flatten()
                .filter(|_| !watched.ended),
            took,
            watched,
        };
        let written = match config.report.format {
            Format::Text => view.text(config.report.color, sink),
            Format::Json => view.json(sink),
        };
        match written.and_then(|()| sink.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break,
            result => result.context(WRITING)?,
        }
    }
    Ok(round.status)
}

/// Where nothing was taken, nothing can come back.
fn worth_while(round: &anyhow::Result<Round>, time: Duration) -> Duration {
    let took = |round: &Round| round.took.iter().any(|took| took.bytes != Some(0));
    match round {
        Ok(round) if took(round) && !round.unheard => time,
        _ => Duration::ZERO,
    }
}

/// What is shown of one process.
struct View<'a> {
    took: Took,
    watched: &'a Watched,
    now: Option<Rollup>,
}

impl View<'_> {
    /// Of what was taken no more than this came back; `None` where faults were lost, or it is not
    /// known what was taken.
    ///
    /// The ranges held memory beside what was taken, such as was never touched, whose faults are
    /// among these.
    fn at_most_bytes(&self) -> Option<u64> {
        let complete = self.watched.lost.faults == 0 && self.watched.exact;
        Some(self.watched.bytes.min(self.took.bytes?)).filter(|_| complete)
    }

    fn cpu_ns(&self) -> Option<u64> {
        Some(self.watched.fault_ns?.saturating_mul(self.watched.faults))
    }

    fn per_second(&self) -> f64 {
        self.watched.faults as f64 * 1e9 / (self.watched.duration_ns.max(1) as f64)
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let watched = self.watched;
        if watched.ended {
            notes.push("the process ended, or began another program, meanwhile".to_owned());
        }
        if watched.lost.faults > 0 {
            notes.push(format!(
                "{} lost: how much came back is not known",
                counted(watched.lost.faults, "fault")
            ));
        }
        notes.extend_from_slice(&watched.notes);
        notes
    }

    fn text(&self, color: bool, out: &mut dyn Write) -> io::Result<()> {
        let (bold, plain) = match color {
            true => ("\x1b[1m", "\x1b[0m"),
            false => ("", ""),
        };
        let watched = self.watched;
        writeln!(
            out,
            "{bold}{} (pid {}){plain} · watched for {}",
            escape(&self.took.comm, NAME_COLUMNS),
            self.took.pid,
            Nanos(watched.duration_ns)
        )?;
        match (self.at_most_bytes(), self.took.bytes) {
            (Some(at_most), Some(taken @ 1..)) => writeln!(
                out,
                "At most {} of the {} taken ({}) was faulted in again: {}, {}",
                Bytes(at_most),
                Bytes(taken),
                Percent(at_most as f64 / taken as f64),
                counted(watched.faults, "fault"),
                PerSecond(self.per_second())
            )?,
            (Some(_), _) => writeln!(out, "Nothing was taken that could be faulted in again")?,
            (None, _) => writeln!(
                out,
                "{} seen where memory was taken, {}",
                counted(watched.faults, "fault"),
                PerSecond(self.per_second())
            )?,
        }
        if let (Some(fault_ns), Some(cpu_ns @ 1..)) = (watched.fault_ns, self.cpu_ns()) {
            writeln!(
                out,
                "That is about {} of CPU time at about {} a fault (calibrated: measured on memtrace itself): {} of one core",
                Nanos(cpu_ns),
                Nanos(fault_ns),
                Percent(cpu_ns as f64 / watched.duration_ns.max(1) as f64)
            )?;
        }
        if let Some(now) = self.now {
            writeln!(
                out,
                "RSS {}, LazyFree {} now",
                Bytes(now.rss_bytes),
                Bytes(now.lazyfree_bytes)
            )?;
        }
        for note in self.notes() {
            writeln!(out, "note: {note}")?;
        }
        Ok(())
    }

    fn json(&self, out: &mut dyn Write) -> io::Result<()> {
        let watched = self.watched;
        let ratio = match (self.at_most_bytes(), self.took.bytes) {
            (Some(at_most), Some(taken @ 1..)) => Some(at_most as f64 / taken as f64),
            _ => None,
        };
        lines::write_line(
            out,
            &json!({
                "type": "reclaim_watch",
                "pid": self.took.pid,
                "comm": self.took.comm,
                "duration_ns": watched.duration_ns,
                "taken_bytes": self.took.bytes,
                "faults": watched.faults,
                "faults_per_second": self.per_second(),
                "refaulted_at_most_bytes": self.at_most_bytes(),
                "refaulted_at_most_ratio": ratio,
                "fault_ns": watched.fault_ns,
                "cpu_ns": self.cpu_ns(),
                "cpu_basis": "calibrated",
                "exact": watched.exact,
                "lost": {"calls": watched.lost.calls, "faults": watched.lost.faults},
                "ended": watched.ended,
                "rss_bytes": self.now.map(|now| now.rss_bytes),
                "lazyfree_bytes": self.now.map(|now| now.lazyfree_bytes),
                "notes": self.notes(),
            }),
        )
    }
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
