//! What a workload is measured under: nothing, an empty program, memtrace in one of its modes, or a peer.
use std::thread;

use anyhow::Result;

use super::child::{Running, SETTLING};
use super::empty::{self, Hook};
use super::memtrace::Memtrace;
use super::peers::{self, Peer};
use super::seen::Seen;
use super::setup::Setup;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Variant {
    /// Nothing is attached.
    Untraced,
    /// Nothing either: what differs between the two differs by chance.
    UntracedAgain,
    Empty(Hook),
    /// With these options.
    Memtrace(&'static str),
    Peer(Peer),
}

/// A variant that is attached.
pub enum Attached {
    Nothing,
    Empty(#[expect(dead_code, reason = "held for what its drop does")] empty::Attached),
    Memtrace(Box<Memtrace>),
    Peer(Box<peers::Attached>),
}

impl Variant {
    pub fn label(&self) -> String {
        match self {
            Self::Untraced => "nothing".to_owned(),
            Self::UntracedAgain => "nothing, again (what chance adds)".to_owned(),
            Self::Empty(Hook::FaultTpBtf) => "empty program, tp_btf (the floor)".to_owned(),
            Self::Empty(Hook::FaultTracepoint) => "empty program, classic tracepoint".to_owned(),
            Self::Empty(Hook::MadviseTracepoints) => {
                "empty programs, sys_enter/exit_madvise (the floor)".to_owned()
            }
            Self::Memtrace("") => "**memtrace --format json -o FILE**".to_owned(),
            Self::Memtrace(options) => format!("**memtrace {options}**"),
            Self::Peer(peer) => peer.label().to_owned(),
        }
    }

    pub fn is_slow(&self) -> bool {
        matches!(self, Self::Peer(peer) if peer.is_slow())
    }

    /// Why it cannot be measured here, and what to do about it.
    pub fn missing(&self) -> Option<String> {
        match self {
            Self::Peer(peer) => peer.find().err(),
            _ => None,
        }
    }

    /// Whether memtrace counts reclaim only while something is lazily free.
    pub fn switches_reclaim_tracking(&self) -> bool {
        let Self::Memtrace(options) = self else {
            return false;
        };
        let mut words = options.split(' ');
        !words.any(|word| word == "--no-reclaim-tracking" || word == "--exact-bytes")
    }

    /// Attaches it to a process; when this returns, it is at work.
    pub fn attach(&self, pid: u32, setup: &Setup) -> Result<Attached> {
        Ok(match self {
            Self::Untraced | Self::UntracedAgain => Attached::Nothing,
            Self::Empty(hook) => Attached::Empty(empty::attach(*hook)?),
            Self::Memtrace(options) => {
                let args: Vec<String> = options.split_whitespace().map(String::from).collect();
                let (program, cpus) = (&setup.memtrace, setup.cpus.others);
                let memtrace = Memtrace::attach(program, &args, pid, cpus, &setup.scratch)?;
                Attached::Memtrace(Box::new(memtrace))
            }
            Self::Peer(peer) => {
                Attached::Peer(Box::new(peer.attach(pid, &setup.cpus, &setup.scratch)?))
            }
        })
    }
}

impl Attached {
    /// Waits until the tracer has worked off what it was behind with: its CPU time so far. Where
    /// there is none, waits a little all the same.
    pub fn settle(&self) -> Result<Option<u64>> {
        match self.running() {
            Some(tracer) => Ok(Some(tracer.settled_cpu_ns()?)),
            None => {
                thread::sleep(SETTLING);
                Ok(None)
            }
        }
    }

    /// The tracer's own process.
    pub fn running(&self) -> Option<&Running> {
        match self {
            Self::Nothing | Self::Empty(_) => None,
            Self::Memtrace(memtrace) => Some(&memtrace.running),
            Self::Peer(peer) => Some(&peer.running),
        }
    }

    pub fn stop(self) -> Result<Seen> {
        match self {
            Self::Nothing | Self::Empty(_) => Ok(Seen::default()),
            Self::Memtrace(memtrace) => memtrace.stop(),
            Self::Peer(peer) => peer.stop(),
        }
    }
}
