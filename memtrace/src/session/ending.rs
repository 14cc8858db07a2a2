//! What ends a run: signals, time, or the targets themselves.

use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Why the run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Ctrl-C, SIGTERM or SIGHUP.
    Signal,
    TimeIsUp,
    TargetsGone,
    /// The thread that reads the ring ended; its error comes with its join.
    SourceGone,
}

/// Signals so far, and how many of them may be answered in good order.
static SEEN: AtomicU32 = AtomicU32::new(0);
static ANSWERED: AtomicU32 = AtomicU32::new(1);
/// The number of the first; 0 before it.
static FIRST: AtomicI32 = AtomicI32::new(0);

/// The signals that end a run; None for one that whoever started us wants ignored (nohup, say).
pub struct Signals {
    interrupt: Option<Signal>,
    terminate: Option<Signal>,
    hangup: Option<Signal>,
}

impl Signals {
    /// Handles the signals. The one after those that are answered ends the process at once,
    /// whatever it does: also while it waits for an output that takes nothing.
    ///
    /// With a launched command the first is the command's, and the second ours.
    pub fn new(launches: bool) -> anyhow::Result<Self> {
        ANSWERED.store(if launches { 2 } else { 1 }, Ordering::Relaxed);
        Ok(Self {
            interrupt: handle(libc::SIGINT)?,
            terminate: handle(libc::SIGTERM)?,
            hangup: handle(libc::SIGHUP)?,
        })
    }

    /// The next one's number.
    pub async fn next(&mut self) -> i32 {
        tokio::select! {
            () = received(&mut self.interrupt) => libc::SIGINT,
            () = received(&mut self.terminate) => libc::SIGTERM,
            () = received(&mut self.hangup) => libc::SIGHUP,
        }
    }

    /// True if no more than one has come.
    pub fn is_first(&self) -> bool {
        SEEN.load(Ordering::Relaxed) <= 1
    }
}

/// The first signal that came, for who cannot wait for [`Signals::next`].
pub fn first() -> Option<i32> {
    Some(FIRST.load(Ordering::Relaxed)).filter(|&number| number != 0)
}

/// True for the signals that end a run in good order.
pub fn is_answered(number: i32) -> bool {
    matches!(number, libc::SIGINT | libc::SIGTERM | libc::SIGHUP)
}

fn handle(number: i32) -> anyhow::Result<Option<Signal>> {
    if is_ignored(number) {
        return Ok(None);
    }
    let count = move || {
        let _ = FIRST.compare_exchange(0, number, Ordering::Relaxed, Ordering::Relaxed);
        if SEEN.fetch_add(1, Ordering::Relaxed) >= ANSWERED.load(Ordering::Relaxed) {
            // SAFETY: _exit may be called from a signal handler.
            unsafe { libc::_exit(128 + number) };
        }
    };
    // SAFETY: the action does nothing that a signal handler may not do.
    unsafe { signal_hook_registry::register(number, count) }.context("cannot handle signals")?;
    let signal = signal(SignalKind::from_raw(number)).context("cannot handle signals")?;
    Ok(Some(signal))
}

/// True where the disposition that we were started with is to ignore it.
pub(crate) fn is_ignored(number: i32) -> bool {
    // SAFETY: a zeroed sigaction is a valid one, and is only written to.
    let mut now: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: the new action is null, so that nothing changes; the old one has room.
    let done = unsafe { libc::sigaction(number, std::ptr::null(), &mut now) };
    done == 0 && now.sa_sigaction == libc::SIG_IGN
}

async fn received(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}
