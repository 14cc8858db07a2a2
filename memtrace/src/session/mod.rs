//! One run: attach, read, apply, show, and end in an order that loses nothing.

mod calibrate;
pub(crate) mod ending;
pub mod enrich;
mod flags;
mod gctrace;
mod go;
mod identity;
mod kernel_log;
pub mod pipeline;
mod reclaim;
mod recognise;
mod report;
mod returns;
mod sampler;
mod start;
mod stream;
mod targets;
mod tracker;
pub mod watch;

use anyhow::Context as _;
use tokio::time::MissedTickBehavior;

use crate::attach::Attached;
use crate::clock;
use crate::config::{Config, Target};
use crate::ledger::event::Lost;
use crate::output::Output;
use crate::source::{Chunk, Source};
use ending::{Ending, Signals};
use tracker::Tracker;

/// Traces until the end and returns the exit status. `open` makes the output, once it is known whom
/// to trace; it is given what tells of a signal that has come, for where it has to wait.
///
/// # Errors
/// When nothing could be traced, or the output could not be written.
pub async fn run(
    config: &Config,
    open: impl FnOnce(&dyn Fn() -> Option<i32>) -> anyhow::Result<Box<dyn Output>>,
) -> anyhow::Result<u8> {
    // Before anything else, so that no signal finds us half-way without a handler.
    let launches = !matches!(config.target, Target::Pids(_));
    let signals = Signals::new(launches)?;
    kernel_log::debug(config.verbose);
    let running = targets::find(&config.target)?;
    // A file that can't be written is better known before anything is attached.
    let output = open(&ending::first)?;
    let mut launched = None;
    match trace(config, running, output, signals, &mut launched).await {
        Ok(Some(not_launched)) => return Ok(not_launched),
        Ok(None) => {}
        // Whoever read our output has had enough: a normal end, and nobody is left to tell.
        Err(error) if is_closed_pipe(&error) => {}
        Err(error) => return Err(error),
    }
    Ok(launched.as_mut().map_or(0, start::Launched::exit_status))
}

/// The run itself; an exit status if the command could not be launched.
async fn trace(
    config: &Config,
    running: Vec<targets::Running>,
    output: Box<dyn Output>,
    mut signals: Signals,
    launched: &mut Option<start::Launched>,
) -> anyhow::Result<Option<u8>> {
    // A source that can't be read is better known before anything is attached.
    let gctrace::Started { listener, stderr } = gctrace::start(config.gctrace.as_ref())?;
    let mut tracker = Tracker::new(config, output, listener)?;
    let started = start::attach(config, running, stderr, &mut tracker)?;
    let mut attached = started.attached;
    *launched = started.launched;
    let log = kernel_log::follow(attached.ebpf_mut(), config.verbose)?;
    let mut source = Source::start(started.ends)?;
    if let Some(launched) = launched
        && let Some(code) = launched.exec(&mut tracker, &mut attached)?
    {
        return Ok(Some(code));
    }
    let time_is_up = async {
        match config.duration {
            Some(duration) => tokio::time::sleep(duration).await,
            None => std::future::pending().await,
        }
    };
    let ending = follow(
        config,
        &mut tracker,
        &mut attached,
        &mut source,
        launched,
        &mut signals,
        time_is_up,
    )
    .await?;
    finish(&mut tracker, attached, source, &ending).await?;
    drop(log);
    Ok(None)
}

/// Takes records in and shows them until time is up, or something else ends the run.
async fn follow(
    config: &Config,
    tracker: &mut Tracker,
    attached: &mut Attached,
    source: &mut Source,
    launched: &mut Option<start::Launched>,
    signals: &mut Signals,
    time_is_up: impl Future<Output = ()>,
) -> anyhow::Result<Ending> {
    let mut ticks = tokio::time::interval(config.interval);
    // A late status line is shown once, not as often as it was missed.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    tokio::pin!(time_is_up);
    loop {
        tokio::select! {
            chunk = source.chunks.recv() => {
                let Some(chunk) = chunk else { return Ok(Ending::SourceGone) };
                tracker.take(&chunk, attached)?;
                if launched.is_none() && !tracker.any_alive() {
                    return Ok(Ending::TargetsGone);
                }
            }
            _ = ticks.tick() => {
                let counts = attached.counts();
                tracker.interval(report::lost(clock::now_ns(), &counts), attached)?;
            }
            reply = tracker.sampler.next() => tracker.looked(reply, attached),
            reply = go::answer(&mut tracker.go) => tracker.go_said(reply)?,
            told = tracker.listener.next() => tracker.told(told)?,
            () = &mut time_is_up => return Ok(Ending::TimeIsUp),
            signal = signals.next() => {
                match launched {
                    // Ctrl-C reached the command too, and other signals are passed on: it decides.
                    Some(launched) if signals.is_first() => launched.pass_on(signal),
                    _ => return Ok(Ending::Signal),
                }
            }
            ended = start::ended(launched) => {
                ended.context("waiting for the command")?;
                return Ok(Ending::TargetsGone);
            }
        }
    }
}

/// Stops recording, takes what is left, checks the run against the kernel side's counters, and tells.
async fn finish(
    tracker: &mut Tracker,
    attached: Attached,
    mut source: Source,
    ending: &Ending,
) -> anyhow::Result<()> {
    tracker.note_the_dead();
    tracker.sample_rss();
    tracker.look_last(&attached).await;
    tracker.ask_go_last().await?;
    let mut stopped = attached.stop();
    let end_ns = clock::now_ns();
    source.finish();
    let mut last = Ok(());
    while let Some(chunk) = source.chunks.recv().await {
        // An output that can't be written any more must not keep the ring's reader waiting.
        if last.is_ok() {
            last = tracker.take(&chunk, stopped.kernel());
        }
    }
    last?;
    source.join()?;
    let counts = stopped.counts();
    // Nothing records any more, so the summary need not wait for the programs to be taken off,
    // which the kernel does one after the other: they go with `stopped`.
    let all = Chunk {
        complete_ns: u64::MAX,
        ..Chunk::default()
    };
    tracker.take(&all, stopped.kernel())?;
    tracker.end_listening()?;
    tracker.finish(end_ns, &counts, ending, stopped.kernel())
}

/// True for EPIPE from the output, wherever it is in the chain.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|cause| cause.kind() == std::io::ErrorKind::BrokenPipe)
}

/// Nothing lost, as far as this goes.
fn nothing_lost(lost: &Lost) -> bool {
    lost.calls == 0 && lost.faults == 0 && lost.lifecycle == 0 && lost.populated == 0
}
