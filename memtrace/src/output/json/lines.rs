//! The keys of every line, in their order: the one place that knows them, with `totals`.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::gctrace::GcTraceRow;
use super::go::GoRow;
use super::judged::{RuntimeRow, VerdictRow};
use super::totals::{AdviceRow, BalanceRow, FaultsRow, MapRow, RssRow, UnmapRow};
use super::what_if::WhatIfRow;
use crate::ledger::advice::Advice;
use crate::ledger::event::{Lost, Op};
use crate::ledger::totals::{Basis, FaultClass};
use crate::output::exit::Exit;
use crate::view::commands::Command;
use crate::view::{
    CallLine, FaultRun, Header, ProcessEvent, ProcessLine, Status, Summary, Target, Total,
};

/// Raised when a key changes its meaning; keys that are only added do not raise it.
const SCHEMA: u32 = 1;

/// The bits of mremap's flags that make it read `new_addr` (mm/mremap.c).
const READS_NEW_ADDR: u32 = (libc::MREMAP_FIXED | libc::MREMAP_DONTUNMAP) as u32;

#[derive(Serialize)]
#[serde(tag = "type", rename = "header")]
pub(super) struct HeaderRow<'a> {
    schema: u32,
    version: &'a str,
    kernel: &'a str,
    arch: &'a str,
    page_bytes: u64,
    started_at: &'a str,
    start_ns: u64,
    fault_source: &'a str,
    targets: Vec<TargetRow<'a>>,
}

#[derive(Serialize)]
struct TargetRow<'a> {
    pid: u32,
    comm: &'a str,
    exe: Option<&'a str>,
    runtime: Option<&'a str>,
}

impl<'a> HeaderRow<'a> {
    pub(super) fn of(header: &'a Header) -> Self {
        let target = |target: &'a Target| TargetRow {
            pid: target.pid,
            comm: &target.comm,
            exe: target.exe.as_deref(),
            runtime: target.runtime.as_deref(),
        };
        Self {
            schema: SCHEMA,
            version: &header.version,
            kernel: &header.kernel,
            arch: &header.arch,
            page_bytes: header.page_bytes,
            started_at: &header.started_at,
            start_ns: header.start_ns,
            fault_source: header.fault_source,
            targets: header.targets.iter().map(target).collect(),
        }
    }
}

/// A call. Each syscall has the same keys in every line, whatever is known of them.
pub(super) struct CallRow<'a>(pub(super) &'a CallLine);

/// What the calls were passed; None for what a call does not have or was not seen.
#[derive(Default)]
struct Args {
    target_pid: Option<u32>,
    advice: Option<Advice>,
    addr: Option<u64>,
    len: Option<u64>,
    range: Option<u32>,
    ranges: Option<u32>,
    prot: Option<u32>,
    flags: Option<u32>,
    fd: Option<i32>,
    new_addr: Option<u64>,
    new_len: Option<u64>,
}

/// The syscall's name and what it was passed.
fn parts(op: &Op) -> (&'static str, Args) {
    let (name, args) = match *op {
        Op::Madvise { advice, len, .. } => (
            "madvise",
            Args {
                advice: Some(advice),
                len: Some(len),
                ..Args::default()
            },
        ),
        Op::ProcessMadvise {
            target_pid,
            advice,
            range,
            index,
            ranges,
            before_bytes: _,
        } => (
            "process_madvise",
            Args {
                target_pid,
                advice: Some(advice),
                len: range.map(|(_, len)| len),
                range: Some(index),
                ranges: Some(ranges),
                ..Args::default()
            },
        ),
        Op::Mmap {
            len,
            prot,
            flags,
            fd,
            ..
        } => (
            "mmap",
            Args {
                len: Some(len),
                prot: Some(prot),
                flags: Some(flags),
                fd: Some(fd),
                ..Args::default()
            },
        ),
        Op::Munmap { len, .. } => (
            "munmap",
            Args {
                len: Some(len),
                ..Args::default()
            },
        ),
        Op::Mremap {
            old_len,
            new_len,
            flags,
            new_addr,
            ..
        } => (
            "mremap",
            Args {
                len: Some(old_len),
                new_addr: (flags & READS_NEW_ADDR != 0).then_some(new_addr),
                new_len: Some(new_len),
                flags: Some(flags),
                ..Args::default()
            },
        ),
        Op::Brk { .. } => ("brk", Args::default()),
        Op::Unseen { syscall } => (syscall, Args::default()),
    };
    let addr = op.addr();
    (name, Args { addr, ..args })
}

impl Serialize for CallRow<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let call = &*self.0.call;
        let unseen = matches!(call.op, Op::Unseen { .. });
        let (name, args) = parts(&call.op);
        let mut row = serializer.serialize_map(None)?;
        row.serialize_entry("type", name)?;
        row.serialize_entry("ts_ns", &call.enter_ns)?;
        row.serialize_entry("pid", &call.pid)?;
        row.serialize_entry("tid", &call.tid)?;
        if name == "process_madvise" {
            row.serialize_entry("target_pid", &args.target_pid)?;
        }
        if matches!(name, "madvise" | "process_madvise") {
            row.serialize_entry("advice", &args.advice.map(|advice| advice.to_string()))?;
        }
        row.serialize_entry("addr", &args.addr)?;
        row.serialize_entry("len_bytes", &args.len)?;
        match name {
            "process_madvise" => {
                row.serialize_entry("range", &args.range)?;
                row.serialize_entry("ranges", &args.ranges)?;
            }
            "mmap" => {
                row.serialize_entry("prot", &args.prot)?;
                row.serialize_entry("flags", &args.flags)?;
                row.serialize_entry("fd", &args.fd)?;
            }
            "mremap" => {
                row.serialize_entry("new_addr", &args.new_addr)?;
                row.serialize_entry("new_len_bytes", &args.new_len)?;
                row.serialize_entry("flags", &args.flags)?;
            }
            "brk" => row.serialize_entry("old_break", &self.0.old_break)?,
            _ => {}
        }
        row.serialize_entry("ret", &call.ret)?;
        // How long it took is known only of a call that was seen to enter and to come back.
        let duration = call.exit_ns.saturating_sub(call.enter_ns);
        let whole = !unseen && call.ret.is_some();
        row.serialize_entry("duration_ns", &whole.then_some(duration))?;
        if unseen {
            row.serialize_entry("note", "only its end was seen")?;
        }
        row.end()
    }
}

#[derive(Serialize)]
#[serde(tag = "type", rename = "fault")]
pub(super) struct FaultRow {
    ts_ns: u64,
    pid: u32,
    tid: u32,
    addr: u64,
    len_bytes: u64,
    faults: u64,
    class: &'static str,
    access: &'static str,
    age_ns: Option<u64>,
    zero_page_write: bool,
}

impl FaultRow {
    pub(super) fn of(run: &FaultRun) -> Self {
        Self {
            ts_ns: run.at_ns,
            pid: run.pid,
            tid: run.tid,
            addr: run.addr,
            len_bytes: run.len_bytes,
            faults: run.faults,
            class: class_key(run.class),
            access: run.access.name(),
            age_ns: run.age_ns,
            zero_page_write: run.zero_page_write,
        }
    }
}

/// The name of a class as a key and as a value.
pub(super) fn class_key(class: FaultClass) -> &'static str {
    match class {
        FaultClass::FirstTouch => "first_touch",
        FaultClass::RefaultDontneed => "refault_dontneed",
        FaultClass::RefaultFree => "refault_free",
        FaultClass::RefaultOther => "refault_other",
        FaultClass::Cow => "cow",
        FaultClass::SwapIn => "swap_in",
        FaultClass::File => "file",
        FaultClass::Unknown => "unknown",
    }
}

#[derive(Serialize)]
#[serde(tag = "type", rename = "process")]
pub(super) struct ProcessRow<'a> {
    ts_ns: u64,
    pid: u32,
    event: &'static str,
    parent_pid: Option<u32>,
    comm: Option<&'a str>,
    exit_status: Option<i32>,
    exit_signal: Option<i32>,
}

impl<'a> ProcessRow<'a> {
    pub(super) fn of(line: &'a ProcessLine) -> Self {
        let row = Self {
            ts_ns: line.at_ns,
            pid: line.pid,
            event: "fork",
            parent_pid: None,
            comm: None,
            exit_status: None,
            exit_signal: None,
        };
        match &line.event {
            ProcessEvent::Fork { parent_pid } => Self {
                parent_pid: Some(*parent_pid),
                ..row
            },
            ProcessEvent::Exec { comm } => Self {
                event: "exec",
                comm: Some(comm),
                ..row
            },
            ProcessEvent::Exit { status } => {
                let exit = status.map(Exit::of);
                Self {
                    event: "exit",
                    exit_status: exit.and_then(Exit::code),
                    exit_signal: exit.and_then(Exit::signal),
                    ..row
                }
            }
        }
    }
}

#[derive(Serialize)]
struct LostCounts {
    calls: u64,
    faults: u64,
    lifecycle: u64,
    populated: u64,
}

impl LostCounts {
    fn of(lost: &Lost) -> Self {
        Self {
            calls: lost.calls,
            faults: lost.faults,
            lifecycle: lost.lifecycle,
            populated: lost.populated,
        }
    }
}

#[derive(Serialize)]
#[serde(tag = "type", rename = "lost")]
pub(super) struct LostRow {
    ts_ns: u64,
    calls: u64,
    faults: u64,
    lifecycle: u64,
    populated: u64,
}

impl LostRow {
    pub(super) fn of(lost: &Lost) -> Self {
        Self {
            ts_ns: lost.at_ns,
            calls: lost.calls,
            faults: lost.faults,
            lifecycle: lost.lifecycle,
            populated: lost.populated,
        }
    }
}

#[derive(Serialize)]
#[serde(tag = "type", rename = "status")]
pub(super) struct StatusRow<'a> {
    ts_ns: u64,
    pid: u32,
    comm: &'a str,
    rss_bytes: Option<u64>,
    lazyfree_bytes: Option<u64>,
    lazyfree_age_ns: Option<u64>,
    effective_rss_bytes: Option<u64>,
    sample_cost_ns: Option<u64>,
    advice: AdviceRow<'a>,
    faults: FaultsRow<'a>,
    lost: LostCounts,
}

impl<'a> StatusRow<'a> {
    pub(super) fn of(status: &'a Status) -> Self {
        Self {
            ts_ns: status.at_ns,
            pid: status.pid,
            comm: &status.comm,
            rss_bytes: status.rss_bytes,
            lazyfree_bytes: status.lazyfree_bytes,
            lazyfree_age_ns: status.lazyfree_age_ns,
            effective_rss_bytes: status.effective_rss_bytes,
            sample_cost_ns: status.sample_cost_ns,
            advice: AdviceRow::without_ages(&status.totals),
            faults: FaultsRow(&status.totals.faults),
            lost: LostCounts::of(&status.lost),
        }
    }
}

#[derive(Serialize)]
#[serde(tag = "type", rename = "summary")]
pub(super) struct SummaryRow<'a> {
    pid: u32,
    image: u32,
    start_ns: u64,
    comm: &'a str,
    duration_ns: u64,
    exit_status: Option<i32>,
    exit_signal: Option<i32>,
    exact: bool,
    lost: LostCounts,
    stray_events: u64,
    notes: &'a [String],
    advice: AdviceRow<'a>,
    unmap: UnmapRow<'a>,
    map: MapRow,
    unseen_calls: u64,
    faults: FaultsRow<'a>,
    rss: RssRow<'a>,
    unfaulted_bytes: Option<u64>,
    unfaulted_basis: Option<&'static str>,
    lazy_balance: Option<BalanceRow>,
    runtimes: Vec<RuntimeRow<'a>>,
    runtime_effects: &'a [String],
    verdict: Option<VerdictRow<'a>>,
    go: Option<GoRow<'a>>,
    what_if: Option<WhatIfRow>,
    gctrace: Option<GcTraceRow<'a>>,
}

impl<'a> SummaryRow<'a> {
    pub(super) fn of(summary: &'a Summary) -> Self {
        let exit = summary.exit.map(Exit::of);
        Self {
            pid: summary.pid,
            image: summary.image,
            start_ns: summary.start_ns,
            comm: &summary.comm,
            duration_ns: summary.duration_ns,
            exit_status: exit.and_then(Exit::code),
            exit_signal: exit.and_then(Exit::signal),
            exact: summary.exact,
            lost: LostCounts::of(&summary.lost),
            stray_events: summary.stray_events,
            notes: &summary.notes,
            advice: AdviceRow::with_ages(&summary.totals),
            unmap: UnmapRow::of(&summary.totals.unmap),
            map: MapRow::of(&summary.totals.map),
            unseen_calls: summary.totals.unseen_calls,
            faults: FaultsRow(&summary.totals.faults),
            rss: RssRow::of(summary),
            unfaulted_bytes: summary.totals.unfaulted_bytes,
            unfaulted_basis: summary.totals.unfaulted_bytes.map(|_| {
                if summary.totals.unfaulted_late {
                    Basis::LowerBound.name()
                } else {
                    Basis::Measured.name()
                }
            }),
            lazy_balance: summary.balance.as_ref().map(BalanceRow::of),
            runtimes: summary.runtimes.list.iter().map(RuntimeRow::of).collect(),
            runtime_effects: &summary.effects,
            verdict: summary.verdict.as_ref().map(VerdictRow::of),
            go: summary.go.as_ref().map(GoRow::of),
            what_if: summary.what_if.as_ref().map(WhatIfRow::of),
            gctrace: summary.gctrace.as_ref().map(GcTraceRow::of),
        }
    }
}

/// Address spaces without a summary, by name.
#[derive(Serialize)]
#[serde(tag = "type", rename = "folded")]
pub(super) struct FoldedRow<'a> {
    comm: Option<&'a str>,
    exe: Option<&'a str>,
    images: u64,
    start_ns: u64,
    duration_ns: u64,
    exact: bool,
    notes: &'a [String],
    peak_rss_bytes: Option<u64>,
    advice: AdviceRow<'a>,
    unmap: UnmapRow<'a>,
    map: MapRow,
    unseen_calls: u64,
    faults: FaultsRow<'a>,
}

impl<'a> FoldedRow<'a> {
    pub(super) fn of(command: &'a Command) -> Self {
        Self {
            comm: command.comm.as_deref(),
            exe: command.exe.as_deref(),
            images: command.images,
            start_ns: command.start_ns,
            duration_ns: command.end_ns.saturating_sub(command.start_ns),
            exact: command.exact,
            notes: &command.notes,
            peak_rss_bytes: command.peak_rss_bytes,
            advice: AdviceRow::with_ages(&command.totals),
            unmap: UnmapRow::of(&command.totals.unmap),
            map: MapRow::of(&command.totals.map),
            unseen_calls: command.totals.unseen_calls,
            faults: FaultsRow(&command.totals.faults),
        }
    }
}

#[derive(Serialize)]
#[serde(tag = "type", rename = "total")]
pub(super) struct TotalRow<'a> {
    processes: u64,
    duration_ns: u64,
    exact: bool,
    lost: LostCounts,
    notes: &'a [String],
    advice: AdviceRow<'a>,
    unmap: UnmapRow<'a>,
    map: MapRow,
    unseen_calls: u64,
    faults: FaultsRow<'a>,
}

impl<'a> TotalRow<'a> {
    pub(super) fn of(total: &'a Total) -> Self {
        Self {
            processes: total.processes,
            duration_ns: total.duration_ns,
            exact: total.exact,
            lost: LostCounts::of(&total.lost),
            notes: &total.notes,
            advice: AdviceRow::with_ages(&total.totals),
            unmap: UnmapRow::of(&total.totals.unmap),
            map: MapRow::of(&total.totals.map),
            unseen_calls: total.totals.unseen_calls,
            faults: FaultsRow(&total.totals.faults),
        }
    }
}
