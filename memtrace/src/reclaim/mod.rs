//! `memtrace reclaim`: has the kernel take what a process has freed lazily, now, and shows that it did.

mod batch;
mod kernel;
mod outcome;
mod progress;
mod stop;
mod swap;
mod work;
mod write;

use std::fmt;
use std::io::{self, Write};
use std::ops::ControlFlow;

use crate::clock;
use crate::config::{Format, Reclaim};
use crate::proc::resolve::{self, Process, ResolveError};
use crate::units::Bytes;
use kernel::Live;
use outcome::{Outcome, Taken};
use progress::Shown;
pub use progress::Style;
use work::{Kernel as _, Refusal, Work};

/// Why nothing was taken from a process.
#[derive(Debug)]
enum ReclaimError {
    Resolve(ResolveError),
    Ended(u32),
    Refused(u32, Refusal),
    /// There is room for swap, and what is resident of the mappings could go there.
    Swap {
        pid: u32,
        room_bytes: u64,
        other_bytes: u64,
    },
}

impl fmt::Display for ReclaimError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resolve(error) => error.fmt(f),
            Self::Ended(pid) => write!(f, "process {pid} ended before anything was taken"),
            Self::Refused(pid, why) => write!(f, "process {pid} was left as it is: {why}"),
            Self::Swap {
                pid,
                room_bytes,
                other_bytes,
            } => write!(
                f,
                "process {pid} was left as it is: swap has {} free, and the kernel would move up to {} of \
                 memory in use there, out of the same mappings; --allow-swap accepts that, swapoff -a avoids it",
                Bytes(*room_bytes),
                Bytes(*other_bytes)
            ),
        }
    }
}

impl std::error::Error for ReclaimError {}

/// Does it for each process, and returns the exit status: 1 where one of them was left as it is, else 0.
///
/// # Errors
/// When the report cannot be written.
pub fn run(config: &Reclaim) -> anyhow::Result<u8> {
    // Opened first, so that a name that cannot be written is told before anything is taken.
    let mut sink = config.report.sink.open()?;
    stop::listen()?;
    let mut status = 0;
    let mut done = Vec::new();
    for &id in &config.pids {
        if stop::asked() {
            break;
        }
        match resolved(id, &mut done).and_then(|process| match process {
            Some(process) => one(&process, config).map(Some),
            None => Ok(None),
        }) {
            Ok(Some(outcome)) => match written(&outcome, config, &mut sink) {
                // Whoever read it has had enough.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break,
                result => result?,
            },
            Ok(None) => {}
            Err(error) => {
                eprintln!("memtrace: {error}");
                status = 1;
            }
        }
    }
    Ok(status)
}

/// The process of an id; `None` where another id has named it already.
fn resolved(id: u32, done: &mut Vec<u32>) -> Result<Option<Process>, ReclaimError> {
    let process = resolve::resolve(id).map_err(ReclaimError::Resolve)?;
    if process.pid != id {
        eprintln!(
            "memtrace: {id} is a thread of process {}: their memory is the same, and all of it is meant",
            process.pid
        );
    }
    if done.contains(&process.pid) {
        return Ok(None);
    }
    done.push(process.pid);
    Ok(Some(process))
}

/// One process, from the first look to the last.
fn one(process: &Process, config: &Reclaim) -> Result<Outcome, ReclaimError> {
    let pid = process.pid;
    let ended = || ReclaimError::Ended(pid);
    let refused = |why| ReclaimError::Refused(pid, why);
    let unread = |error| refused(Refusal::Read(error));
    let begun_ns = clock::now_ns();
    let mut live = Live::open(process)
        .map_err(|error| refused(Refusal::Other(error)))?
        .ok_or_else(ended)?;
    let before = live.sums().map_err(unread)?.ok_or_else(ended)?;
    let outcome = |taken| Outcome {
        pid,
        comm: process.comm.clone(),
        before,
        duration_ns: clock::now_ns() - begun_ns,
        taken,
    };
    if before.lazyfree_bytes == 0 && !config.dry_run {
        return Ok(outcome(Taken::Nothing));
    }
    let found = live.mappings().map_err(unread)?.ok_or_else(ended)?;
    let room_bytes = match config.allow_swap {
        true => 0,
        false => swap::room(pid),
    };
    let other_bytes = found
        .list
        .iter()
        .map(|one| one.rss_bytes.saturating_sub(one.lazyfree_bytes))
        .fold(0, u64::saturating_add);
    if config.dry_run {
        return Ok(outcome(Taken::DryRun {
            found,
            swap_room_bytes: room_bytes,
        }));
    }
    if room_bytes > 0 && !found.list.is_empty() {
        return Err(ReclaimError::Swap {
            pid,
            room_bytes,
            other_bytes,
        });
    }
    if !work::ask(&mut live).map_err(refused)? {
        return Err(ended());
    }
    let mut shown = Shown::new(config.progress, pid);
    let work: Work = work::take(&mut live, before, found, |progress| {
        shown.show(progress);
        match stop::asked() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    })
    .map_err(refused)?;
    drop(shown);
    Ok(outcome(Taken::Done(work)))
}

fn written(outcome: &Outcome, config: &Reclaim, out: &mut dyn Write) -> io::Result<()> {
    match config.report.format {
        Format::Text => write::text(outcome, config, out)?,
        Format::Json => write::json(outcome, out)?,
    }
    out.flush()
}
