//! What is shown, as plain data: the outputs turn these into text or JSON and decide nothing.

pub mod balance;
pub mod commands;
pub mod filter;
pub mod gctrace;
pub mod runs;
pub mod status;
pub mod summary;
pub mod what_if;

use std::sync::Arc;

use crate::runtime::Runtimes;
use crate::verdict::Verdict;
use balance::Balance;
use gctrace::{GcTrace, GoLine};
use what_if::WhatIf;

use crate::golang;
use crate::ledger::event::{Access, Call, Lost, Mapping, Op};
use crate::ledger::totals::{FaultClass, RssHistory, Totals};

/// What is traced and how, known once everything is attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub version: String,
    pub kernel: String,
    pub arch: String,
    pub page_bytes: u64,
    /// RFC 3339.
    pub started_at: String,
    /// CLOCK_MONOTONIC at `started_at`, so that every other stamp can be placed in calendar time.
    pub start_ns: u64,
    pub fault_source: &'static str,
    pub targets: Vec<Target>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub pid: u32,
    pub comm: String,
    /// The path of the executable, where readable. Not escaped.
    pub exe: Option<String>,
    /// The allocator or language runtime, where recognised.
    pub runtime: Option<String>,
}

/// One line of the live stream.
#[derive(Clone, Debug, PartialEq)]
pub enum Line {
    Call(CallLine),
    Faults(FaultRun),
    Process(ProcessLine),
    Go(GoLine),
}

impl Line {
    /// When it began; for a call that was seen only as it came back, that.
    pub fn at_ns(&self) -> u64 {
        match self {
            Self::Call(line) => line.call.enter_ns,
            Self::Faults(run) => run.at_ns,
            Self::Process(line) => line.at_ns,
            Self::Go(line) => line.at_ns,
        }
    }

    /// The bytes that it is about; None where it has no size or the size is not known.
    pub fn size_bytes(&self) -> Option<u64> {
        match self {
            Self::Call(line) => line.size_bytes(),
            Self::Faults(run) => Some(run.len_bytes),
            Self::Process(_) | Self::Go(_) => None,
        }
    }
}

/// A call, with the mapping it fell on.
#[derive(Clone, Debug, PartialEq)]
pub struct CallLine {
    pub call: Arc<Call>,
    /// The mapping at the call's address as it was when the call entered.
    pub mapping: Option<Mapping>,
    /// For brk: the break before it, where known.
    pub old_break: Option<u64>,
}

impl CallLine {
    /// The bytes that the call is about, as the program passed them; for brk, by how much the
    /// break moved, and for mremap the larger of the two lengths.
    pub fn size_bytes(&self) -> Option<u64> {
        match self.call.op {
            Op::Madvise { len, .. } | Op::Mmap { len, .. } | Op::Munmap { len, .. } => Some(len),
            Op::ProcessMadvise { range, .. } => range.map(|(_, len)| len),
            Op::Mremap {
                old_len, new_len, ..
            } => Some(old_len.max(new_len)),
            Op::Brk { .. } => {
                let new_break = u64::try_from(self.call.ret?).ok()?;
                Some(new_break.abs_diff(self.old_break?))
            }
            Op::Unseen { .. } => None,
        }
    }
}

/// Neighbouring faults of one thread, class and access, run together.
#[derive(Clone, Debug, PartialEq)]
pub struct FaultRun {
    /// When the first of them happened.
    pub at_ns: u64,
    pub pid: u32,
    pub tid: u32,
    /// The lowest address of the span.
    pub addr: u64,
    pub len_bytes: u64,
    pub faults: u64,
    pub class: FaultClass,
    pub access: Access,
    /// Since the release, of the first fault; refaults only, and None where it is not known which release it was.
    pub age_ns: Option<u64>,
    /// The first writes after reads that mapped the zero page: the reads were counted in `class`,
    /// these count in the total of faults and in no class.
    pub zero_page_write: bool,
    pub mapping: Option<Mapping>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessLine {
    pub at_ns: u64,
    pub pid: u32,
    pub event: ProcessEvent,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProcessEvent {
    Fork {
        parent_pid: u32,
    },
    Exec {
        comm: String,
    },
    /// `status` as wait(2) gives it.
    Exit {
        status: Option<i32>,
    },
}

/// One answer of a Go process about its memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MemStatsLine {
    pub at_ns: u64,
    pub pid: u32,
    pub reading: golang::Reading,
}

/// One address space at the end of an interval.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    pub at_ns: u64,
    pub pid: u32,
    pub comm: String,
    pub rss_bytes: Option<u64>,
    pub lazyfree_bytes: Option<u64>,
    pub lazyfree_age_ns: Option<u64>,
    pub effective_rss_bytes: Option<u64>,
    /// What the last look at smaps_rollup cost, in CPU time of ours.
    pub sample_cost_ns: Option<u64>,
    pub rates: Rates,
    pub totals: Totals,
    pub lost: Lost,
}

/// What happened in the interval, per second; derived from two successive totals.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// Bytes a second given back by MADV_FREE (requested).
    pub free_bytes: f64,
    /// Bytes a second given back by MADV_DONTNEED and MADV_DONTNEED_LOCKED (requested).
    pub dontneed_bytes: f64,
    pub refaulted_bytes: f64,
    pub faults: f64,
}

/// One address space, when all is over.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Its first owner.
    pub pid: u32,
    /// 0, and one more for each exec of that pid.
    pub image: u32,
    pub start_ns: u64,
    pub duration_ns: u64,
    pub comm: String,
    /// Nothing lost and the self-check equal.
    pub exact: bool,
    pub lost: Lost,
    /// Events of the whole run that came of processes that nobody told of, or after their end.
    pub stray_events: u64,
    /// What limits the figures, in plain sentences.
    pub notes: Vec<String>,
    pub totals: Totals,
    pub rss: RssHistory,
    /// What became of what MADV_FREE marked; None where it marked nothing.
    pub balance: Option<Balance>,
    /// Why it is not known what the kernel took, where it is not.
    pub reclaim_unknown: Option<String>,
    /// How old the last RSS sample was at the end.
    pub rss_age_ns: Option<u64>,
    /// How it ended, where it did: as wait(2) gives it.
    pub exit: Option<i32>,
    /// The allocators and runtimes in it. Not escaped.
    pub runtimes: Runtimes,
    /// Whether they give back as they are set to, a sentence for each.
    pub effects: Vec<String>,
    /// What its RSS is. None where nobody judged.
    pub verdict: Option<Verdict>,
    /// What it said itself, by `--go-pprof`. None where nobody asked.
    pub go: Option<golang::Report>,
    /// What the other advice would have come to; None where there is nothing to switch.
    pub what_if: Option<WhatIf>,
    /// What Go's runtime told of it; None where nobody listened, or to another process.
    pub gctrace: Option<GcTrace>,
}

impl Summary {
    /// How old the last LazyFree sample was at the end.
    pub fn lazyfree_age_ns(&self) -> Option<u64> {
        let end_ns = self.start_ns + self.duration_ns;
        Some(end_ns.saturating_sub(self.rss.last_rollup?.at_ns))
    }
}

/// The sum over several processes.
#[derive(Clone, Debug, PartialEq)]
pub struct Total {
    pub processes: u64,
    pub duration_ns: u64,
    pub exact: bool,
    pub lost: Lost,
    /// What the summaries do not show, in plain sentences.
    pub notes: Vec<String>,
    pub totals: Totals,
}
