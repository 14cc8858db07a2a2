//! `memtrace reclaim`: has the kernel take what a process has freed lazily, now, and shows that it did.

mod balloon;
mod batch;
mod cgroup;
mod error;
mod kernel;
mod methods;
mod outcome;
mod progress;
mod stop;
mod swap;
mod watch;
mod work;
mod write;

use std::io::{self, Write};

use anyhow::Context as _;

use crate::clock;
use crate::config::{Format, Method, Reclaim, Sink};
use crate::proc::resolve::{self, Process};
use crate::say::say;
pub use balloon::be_worker as be_balloon;
use error::ReclaimError;
use kernel::Live;
use methods::Subject;
use outcome::{Outcome, Taken};
pub use progress::Style;
use work::{Kernel as _, Refusal};

/// Does it for each process, and returns the exit status: 1 where one of them was left as it is, else 0.
///
/// # Errors
/// When the report cannot be written, or with `--watch` the processes cannot be traced.
pub fn run(config: &Reclaim) -> anyhow::Result<u8> {
    stop::listen()?;
    if matches!(config.method, Method::Balloon { .. }) {
        stop::listen_to_suspension()?;
    }
    match config.watch {
        Some(time) => watch::run(config, time),
        None => Ok(all(config, &mut Out::new(config))?.status),
    }
}

/// Where the reports go.
struct Out {
    sink: Sink,
    open: Option<Box<dyn Write + Send>>,
}

impl Out {
    fn new(config: &Reclaim) -> Self {
        Self {
            sink: config.report.sink.clone(),
            open: None,
        }
    }

    /// To be asked once there is a process to take from, and before anything is taken: a name that
    /// cannot be written is told then.
    fn ready(&mut self) -> anyhow::Result<&mut (dyn Write + Send)> {
        let open = match self.open.take() {
            Some(open) => open,
            None => self.sink.open(&stop::asked_by)?,
        };
        Ok(&mut **self.open.insert(open))
    }
}

/// What came of all processes.
#[derive(Debug, Default)]
struct Round {
    status: u8,
    took: Vec<Took>,
    /// Whoever read the report has had enough.
    unheard: bool,
}

/// What came of one, for who watches it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Took {
    pid: u32,
    /// Not escaped.
    comm: String,
    /// `None` where that is not known.
    bytes: Option<u64>,
}

const WRITING: &str = "cannot write the report";

/// Each process in turn, each with its report.
fn all(config: &Reclaim, out: &mut Out) -> anyhow::Result<Round> {
    let mut round = Round::default();
    let mut done = Vec::new();
    for &id in &config.pids {
        if stop::asked() {
            break;
        }
        let outcome = match resolved(id, &mut done) {
            Ok(Some(process)) => {
                out.ready()?;
                one(&process, config)
            }
            Ok(None) => continue,
            Err(error) => Err(error),
        };
        match outcome {
            Ok(outcome) => {
                match written(&outcome, config, out.ready()?) {
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                        round.unheard = true;
                        break;
                    }
                    result => result.context(WRITING)?,
                }
                round.took.push(Took {
                    pid: outcome.pid,
                    bytes: outcome.taken_bytes(),
                    comm: outcome.comm,
                });
            }
            Err(error) => {
                say(error);
                round.status = 1;
            }
        }
    }
    Ok(round)
}

/// The process of an id; `None` where another id has named it already.
fn resolved(id: u32, done: &mut Vec<u32>) -> Result<Option<Process>, ReclaimError> {
    let process = resolve::resolve(id).map_err(ReclaimError::Resolve)?;
    if process.pid != id {
        say(format_args!(
            "{id} is a thread of process {}: reclaiming from the whole process",
            process.pid
        ));
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
    let taken = if before.lazyfree_bytes == 0 && !config.dry_run {
        Taken::Nothing
    } else {
        let subject = Subject {
            pid,
            live: &mut live,
            before,
            config,
        };
        subject.take()?
    };
    Ok(Outcome {
        pid,
        comm: process.comm.clone(),
        method: config.method,
        before,
        duration_ns: clock::now_ns() - begun_ns,
        taken,
    })
}

fn written(outcome: &Outcome, config: &Reclaim, out: &mut dyn Write) -> io::Result<()> {
    match config.report.format {
        Format::Text => write::text(outcome, config, out)?,
        Format::Json => write::json(outcome, out)?,
    }
    out.flush()
}
