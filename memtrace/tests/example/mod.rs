//! A made-up run that has one of everything, for the golden files.

mod commands;
mod go;
mod summaries;

use std::sync::Arc;

use memtrace::golang::gctrace::digest::Digest;
use memtrace::ledger::advice::Advice;
use memtrace::ledger::event::{
    Access, Call, Cgroup, Lost, Mapping, MappingKind, Op, Rollup, VmFlags,
};
use memtrace::ledger::totals::{
    Basis, FaultClass, MapTotals, ReleaseTotals, Released, RssHistory, Totals,
};
use memtrace::runtime::{GivesBack, Kind, Origin, Runtime, Runtimes, Setting};
use memtrace::verdict::{self, Confidence, Verdict};
use memtrace::view::balance::Balance;
use memtrace::view::gctrace::{GcTrace, GoLine};
use memtrace::view::what_if::{FaultCost, Range, ToDontneed, ToFree, WhatIf};
use memtrace::view::{
    CallLine, FaultRun, Header, Line, MemStatsLine, ProcessEvent, ProcessLine, Rates, Status,
    Summary, Target,
};

pub use commands::{folded, many};
pub use go::{go_lines, memstats};
use summaries::busy;
pub use summaries::{complete, idle, lossy, nothing_given_back};

pub const START: u64 = 86_400_000_000_000;
pub const MS: u64 = 1_000_000;
pub const K: u64 = 1024;
pub const M: u64 = 1024 * K;
const PAGE: u64 = 4 * K;

const PID: u32 = 4242;
const TID: u32 = 4250;
const HEAP: u64 = 0x55d0_c0de_0000;
const AREA: u64 = 0x7f12_a400_0000;
/// A name that would clear the screen, turn text round and forge a line.
const HOSTILE: &str = "\u{1b}[2J\u{202e}evil\nfake \u{9b}31m";

pub fn header() -> Header {
    Header {
        version: "0.1.0".to_owned(),
        kernel: "6.18.1-amd64".to_owned(),
        arch: "x86_64".to_owned(),
        page_bytes: PAGE,
        started_at: "2025-11-21T01:43:07.250Z".to_owned(),
        start_ns: START,
        fault_source: "tp_btf",
        targets: vec![
            Target {
                pid: PID,
                comm: "bigmap".to_owned(),
                exe: Some("/usr/local/bin/bigmap".to_owned()),
                runtime: Some("Go 1.22".to_owned()),
            },
            Target {
                pid: 77,
                comm: HOSTILE.to_owned(),
                exe: None,
                runtime: None,
            },
        ],
    }
}

fn mapping(kind: MappingKind, name: Option<&str>) -> Option<Mapping> {
    Some(Mapping {
        kind,
        shared: false,
        flags: VmFlags::default(),
        name: name.map(Arc::from),
    })
}

fn anon() -> Option<Mapping> {
    mapping(MappingKind::Anon, None)
}

/// A call of the main thread that begins at `at_ms` and takes 12 µs.
fn call(at_ms: u64, ret: i64, op: Op, mapping: Option<Mapping>) -> CallLine {
    let enter_ns = START + at_ms * MS;
    CallLine {
        call: Arc::new(Call {
            pid: PID,
            tid: PID,
            enter_ns,
            exit_ns: enter_ns + 12_000,
            ret: Some(ret),
            op,
            released_bytes: None,
        }),
        mapping,
        old_break: None,
    }
}

/// The same with changes that only some calls have.
fn changed(line: CallLine, change: impl FnOnce(&mut Call)) -> CallLine {
    let mut call = (*line.call).clone();
    change(&mut call);
    CallLine {
        call: Arc::new(call),
        ..line
    }
}

fn madvise(advice: Advice, len: u64) -> Op {
    Op::Madvise {
        advice,
        addr: AREA,
        len,
    }
}

fn remote(target_pid: Option<u32>, range: Option<(u64, u64)>, index: u32, before_bytes: u64) -> Op {
    Op::ProcessMadvise {
        target_pid,
        advice: Advice::PAGEOUT,
        range,
        index,
        ranges: 3,
        before_bytes,
    }
}

fn mmap(addr: u64, flags: i32, prot: i32, name: Option<&str>) -> Op {
    Op::Mmap {
        addr,
        len: 64 * M,
        prot: prot as u32,
        flags: flags as u32,
        fd: if name.is_some() { 3 } else { -1 },
        name: name.map(Arc::from),
    }
}

fn mremap(new_len: u64, flags: i32, new_addr: u64) -> Op {
    Op::Mremap {
        addr: AREA,
        old_len: M,
        new_len,
        flags: flags as u32,
        new_addr,
    }
}

fn brk(at_ms: u64, addr: u64, ret: u64, old_break: Option<u64>) -> CallLine {
    CallLine {
        old_break,
        ..call(
            at_ms,
            ret as i64,
            Op::Brk { addr },
            mapping(MappingKind::Heap, None),
        )
    }
}

/// Calls of every kind, that succeed and that fail.
pub fn calls() -> Vec<Line> {
    let private = libc::MAP_PRIVATE;
    let anonymous = private | libc::MAP_ANONYMOUS;
    let rw = libc::PROT_READ | libc::PROT_WRITE;
    let area = AREA as i64;
    let libc_so = "/usr/lib/x86_64-linux-gnu/libc.so.6";
    vec![
        call(31, area, mmap(0, anonymous, rw, None), None),
        call(
            32,
            area,
            mmap(AREA, anonymous | libc::MAP_FIXED, 0, None),
            anon(),
        ),
        call(
            33,
            area,
            mmap(0, private, libc::PROT_READ | libc::PROT_EXEC, Some(libc_so)),
            None,
        ),
        call(34, -12, mmap(0, anonymous, rw, None), None),
        call(35, 0, madvise(Advice::FREE, M), anon()),
        changed(
            call(36, 0, madvise(Advice::DONTNEED, 64 * K), anon()),
            |call| call.tid = TID,
        ),
        call(37, -12, madvise(Advice::DONTNEED, 2 * M), anon()),
        call(
            38,
            -22,
            madvise(Advice::FREE, PAGE),
            mapping(MappingKind::File, Some(HOSTILE)),
        ),
        call(
            39,
            0,
            madvise(Advice(77), PAGE),
            mapping(MappingKind::Anon, Some("Go: heap")),
        ),
        call(
            40,
            3 * M as i64,
            remote(Some(77), Some((AREA, 2 * M)), 0, 0),
            None,
        ),
        call(
            40,
            3 * M as i64,
            remote(Some(77), Some((HEAP, 2 * M)), 1, 2 * M),
            None,
        ),
        call(40, 3 * M as i64, remote(Some(77), None, 2, 4 * M), None),
        call(41, -1, remote(None, Some((AREA, M)), 0, 0), None),
        call(
            42,
            0,
            Op::Munmap {
                addr: AREA,
                len: 48 * M,
            },
            anon(),
        ),
        call(43, area, mremap(512 * K, 0, 0xdead), anon()),
        call(
            44,
            area + M as i64,
            mremap(2 * M, libc::MREMAP_MAYMOVE, 0xdead),
            anon(),
        ),
        call(45, HEAP as i64, mremap(M, 7, HEAP), anon()),
        brk(46, 0, HEAP, None),
        brk(47, HEAP + 132 * K, HEAP + 132 * K, Some(HEAP)),
        brk(48, HEAP + 4 * K, HEAP + 4 * K, Some(HEAP + 132 * K)),
        brk(49, HEAP << 8, HEAP + 4 * K, Some(HEAP + 4 * K)),
        changed(call(50, 0, madvise(Advice::FREE, M), anon()), |call| {
            call.ret = None;
        }),
        changed(
            call(51, 0, Op::Unseen { syscall: "munmap" }, None),
            |call| {
                call.tid = TID;
                call.exit_ns = call.enter_ns;
            },
        ),
        call(
            52,
            -22,
            Op::Unseen {
                syscall: "process_madvise",
            },
            None,
        ),
    ]
    .into_iter()
    .map(Line::Call)
    .collect()
}

/// `faults` neighbouring faults of a class.
pub fn faults(at_ms: u64, class: FaultClass, faults: u64) -> FaultRun {
    FaultRun {
        at_ns: START + at_ms * MS,
        pid: PID,
        tid: PID,
        addr: AREA,
        len_bytes: faults * PAGE,
        faults,
        class,
        access: Access::Write,
        age_ns: class.is_refault().then_some(3_100 * MS),
        zero_page_write: false,
        mapping: anon(),
    }
}

/// Faults of every class but swap-in, which nothing proves.
pub fn fault_runs() -> Vec<Line> {
    let mut runs: Vec<FaultRun> = FaultClass::ALL
        .into_iter()
        .filter(|class| *class != FaultClass::SwapIn)
        .zip(60..)
        .map(|(class, at_ms)| faults(at_ms, class, at_ms - 56))
        .collect();
    // The examples in the documentation come from here: a refault first.
    runs.swap(0, 2);
    let file = FaultRun {
        access: Access::Exec,
        mapping: mapping(
            MappingKind::File,
            Some("/usr/lib/x86_64-linux-gnu/libc.so.6"),
        ),
        ..faults(70, FaultClass::File, 1)
    };
    let zero_page = FaultRun {
        zero_page_write: true,
        tid: TID,
        ..faults(71, FaultClass::RefaultFree, 2)
    };
    let nowhere = FaultRun {
        access: Access::Read,
        mapping: None,
        ..faults(72, FaultClass::Unknown, 1)
    };
    runs.extend([file, zero_page, nowhere]);
    runs.into_iter().map(Line::Faults).collect()
}

pub fn processes() -> Vec<Line> {
    let exit = |status| ProcessEvent::Exit { status };
    let comm = HOSTILE.to_owned();
    [
        (4300, ProcessEvent::Fork { parent_pid: PID }),
        (4300, ProcessEvent::Exec { comm }),
        (4300, exit(Some(9))),
        (PID, exit(Some(3 << 8))),
        (77, exit(None)),
    ]
    .into_iter()
    .zip(80..)
    .map(|((pid, event), at_ms)| {
        Line::Process(ProcessLine {
            at_ns: START + at_ms * MS,
            pid,
            event,
        })
    })
    .collect()
}

/// A process with lazily free memory that was sampled, and one of which nothing could be read.
pub fn status(at_ms: u64) -> Vec<Status> {
    let at_ns = START + at_ms * MS;
    let known = Status {
        at_ns,
        pid: PID,
        comm: "bigmap".to_owned(),
        rss_bytes: Some(1064 * M),
        lazyfree_bytes: Some(812 * M),
        lazyfree_age_ns: Some(240 * MS),
        effective_rss_bytes: Some(252 * M),
        sample_cost_ns: Some(9_200_000),
        rates: Rates {
            free_bytes: 120.0 * M as f64,
            dontneed_bytes: 3.0 * M as f64,
            refaulted_bytes: 12.3 * M as f64,
            faults: 12_004.2,
        },
        totals: busy(),
        lost: Lost::default(),
    };
    let unknown = Status {
        at_ns,
        pid: 77,
        comm: HOSTILE.to_owned(),
        rss_bytes: None,
        lazyfree_bytes: None,
        lazyfree_age_ns: None,
        effective_rss_bytes: None,
        sample_cost_ns: None,
        rates: Rates::default(),
        totals: Totals::default(),
        lost: lost(at_ms),
    };
    vec![known, unknown]
}

pub fn lost(at_ms: u64) -> Lost {
    Lost {
        at_ns: START + at_ms * MS,
        calls: 12,
        faults: 3_004,
        lifecycle: 1,
        populated: 0,
    }
}
