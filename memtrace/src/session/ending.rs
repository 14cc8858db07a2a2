//! What ends a run: signals, time, or the targets themselves.

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

/// The signals that end a run.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    seen: u32,
}

impl Signals {
    pub fn new() -> anyhow::Result<Self> {
        let handle = |kind| signal(kind).context("cannot handle signals");
        Ok(Self {
            interrupt: handle(SignalKind::interrupt())?,
            terminate: handle(SignalKind::terminate())?,
            hangup: handle(SignalKind::hangup())?,
            seen: 0,
        })
    }

    /// The next one's number.
    pub async fn next(&mut self) -> i32 {
        let number = tokio::select! {
            _ = self.interrupt.recv() => libc::SIGINT,
            _ = self.terminate.recv() => libc::SIGTERM,
            _ = self.hangup.recv() => libc::SIGHUP,
        };
        self.seen += 1;
        number
    }

    /// True if no more than one has come.
    pub fn is_first(&self) -> bool {
        self.seen <= 1
    }

    /// From here on a signal ends the process as if it were not handled.
    pub fn let_the_next_one_kill(&self) {
        for number in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
            // SAFETY: the default action is set for a signal whose handler may be dropped at any time.
            unsafe { libc::signal(number, libc::SIG_DFL) };
        }
    }
}
