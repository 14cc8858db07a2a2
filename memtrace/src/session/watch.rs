//! Watches processes while something is done to them and for a time afterwards: the pipeline of a trace, without its output.

use std::cell::RefCell;
use std::io;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::oneshot;

use super::ending::Signals;
use super::gctrace::Listener;
use super::returns::{Returned, Returns};
use super::tracker::Tracker;
use super::{calibrate, finish, follow, start, targets};
use crate::clock;
use crate::config::{Config, Format, Report, Sink, Target};
use crate::ledger::event::Lost;
use crate::output::Output;
use crate::proc::{is_gone, lazy};
use crate::source::Source;
use crate::view::commands::Commands;
use crate::view::filter::{Filter, Kinds};
use crate::view::{Header, Line, MemStatsLine, Status, Summary, Total};

/// As `--ringbuf-size` has it unless told otherwise.
const RINGBUF_BYTES: u32 = 8 << 20;

/// What was seen of one process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    pub pid: u32,
    /// From before anything was done to it.
    pub duration_ns: u64,
    /// In the ranges that held lazily free memory at first.
    pub faults: u64,
    /// What these faults can have brought, each page once.
    pub bytes: u64,
    pub lost: Lost,
    /// Nothing lost, and the self-check equal.
    pub exact: bool,
    /// It has ended, or begun another program.
    pub ended: bool,
    /// What a fault costs here, in CPU time: measured on memtrace itself.
    pub fault_ns: Option<u64>,
    /// What limits the figures.
    pub notes: Vec<String>,
}

/// Attaches to processes, does what is to be done, and watches them as long after that as is worth
/// while with what came of it.
///
/// # Errors
/// When they cannot be traced: then nothing was done.
pub async fn run<T: Send + 'static>(
    pids: &[u32],
    time: impl FnOnce(&T) -> Duration,
    job: impl FnOnce() -> T + Send + 'static,
) -> anyhow::Result<(T, Vec<Watched>)> {
    let mut signals = Signals::new(false)?;
    let config = config(pids);
    let running = targets::find(&config.target)?;
    let summaries = Rc::default();
    let output = Box::new(Kept(Rc::clone(&summaries)));
    let mut tracker = Tracker::new(&config, output, Listener::default())?;
    let start::Started {
        mut attached, ends, ..
    } = start::attach(&config, running, None, &mut tracker)?;
    let mut source = Source::start(ends)?;
    let ranges = pids
        .iter()
        .map(|&pid| Ok((pid, ranges(pid)?)))
        .collect::<anyhow::Result<Vec<_>>>()?;
    // A batch of faults has the time of its first: this way none began before that.
    attached.end_epoch();
    let begun_ns = clock::now_ns();
    let watched = ranges
        .into_iter()
        .map(|(pid, ranges)| (pid, Returned::new(ranges)));
    tracker.count_returns(Returns::new(begun_ns, watched));

    let (done, mut answer) = oneshot::channel();
    let worker = std::thread::Builder::new()
        .name("reclaim".to_owned())
        // Whoever waits for it sees its end, be it a panic.
        .spawn(move || drop(done.send(job())))
        .context("cannot start a thread")?;
    let mut told = None;
    let time_is_up = async {
        let told = told.insert((&mut answer).await);
        if let Ok(result) = told {
            tokio::time::sleep(time(result)).await;
        }
    };
    let ending = follow(
        &config,
        &mut tracker,
        &mut attached,
        &mut source,
        &mut None,
        &mut signals,
        time_is_up,
    )
    .await?;
    // A signal, or the end of the process, ends the job too.
    let told = match told {
        Some(told) => told,
        None => answer.await,
    };
    if let Err(panic) = worker.join() {
        std::panic::resume_unwind(panic);
    }
    let result = told.context("the thread has ended without an answer")?;
    let duration_ns = clock::now_ns() - begun_ns;
    finish(&mut tracker, attached, source, &ending).await?;

    let returns = tracker.returns();
    let fault_ns = calibrate::fault_cost().map(|cost| cost.mean_ns);
    let summaries: &[Summary] = &summaries.borrow();
    let watched = pids.iter().filter_map(|&pid| {
        let returned = returns.of(pid)?;
        // The image that it was then.
        let summary = summaries.iter().find(|one| one.pid == pid)?;
        Some(Watched {
            pid,
            duration_ns,
            faults: returned.faults,
            bytes: returned.bytes(),
            lost: summary.lost,
            exact: summary.exact,
            ended: returned.ended,
            fault_ns,
            notes: summary.notes.clone(),
        })
    });
    Ok((result, watched.collect()))
}

/// Where something is lazily free; nothing, for a process that has ended meanwhile.
fn ranges(pid: u32) -> anyhow::Result<Vec<Range<u64>>> {
    match lazy::read(pid) {
        Ok(found) => Ok(found.list.into_iter().map(|one| one.range).collect()),
        Err(error) if is_gone(&error) => Ok(Vec::new()),
        // Without them nothing would seem to come back.
        Err(error) => Err(error).with_context(|| format!("smaps of process {pid}")),
    }
}

fn config(pids: &[u32]) -> Config {
    Config {
        target: Target::Pids(pids.to_vec()),
        follow_forks: false,
        duration: None,
        interval: Duration::from_secs(1),
        stream: false,
        status: false,
        summaries: crate::ledger::folded::KEPT,
        filter: Filter {
            kinds: Kinds::ALL,
            min_bytes: 0,
        },
        lines_per_second: None,
        report: Report {
            format: Format::Text,
            sink: Sink::Stdout,
            terminal: false,
            color: false,
        },
        ringbuf_bytes: RINGBUF_BYTES,
        fault_source: None,
        // What the kernel takes is known by what it is asked for.
        reclaim_tracking: false,
        exact_bytes: false,
        go_pprof: None,
        gctrace: None,
        verbose: 0,
        notes: Vec::new(),
    }
}

/// Keeps the summaries, and shows nothing.
struct Kept(Rc<RefCell<Vec<Summary>>>);

impl Output for Kept {
    fn header(&mut self, _: &Header) -> io::Result<()> {
        Ok(())
    }

    fn line(&mut self, _: &Line) -> io::Result<()> {
        Ok(())
    }

    fn status(&mut self, _: &[Status]) -> io::Result<()> {
        Ok(())
    }

    fn memstats(&mut self, _: &MemStatsLine) -> io::Result<()> {
        Ok(())
    }

    fn lost(&mut self, _: &Lost) -> io::Result<()> {
        Ok(())
    }

    fn summary(&mut self, summary: &Summary) -> io::Result<()> {
        self.0.borrow_mut().push(summary.clone());
        Ok(())
    }

    fn summary_in_brief(&mut self, summary: &Summary) -> io::Result<()> {
        self.summary(summary)
    }

    fn commands(&mut self, _: &Commands) -> io::Result<()> {
        Ok(())
    }

    fn total(&mut self, _: &Total) -> io::Result<()> {
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
