//! A made-up run that has one of everything, for the golden files.

mod go;

use std::sync::Arc;

use memtrace::golang::gctrace::digest::Digest;
use memtrace::ledger::advice::Advice;
use memtrace::ledger::event::{Access, Call, Cgroup, Lost, Mapping, MappingKind, Op, Rollup};
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

use go::{books, collection};
pub use go::{go_lines, memstats};

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
        huge_advised: false,
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

/// Faults of every class.
pub fn fault_runs() -> Vec<Line> {
    let mut runs: Vec<FaultRun> = FaultClass::ALL
        .into_iter()
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

fn release(calls: u64, failed: u64, requested_bytes: u64) -> ReleaseTotals {
    ReleaseTotals {
        calls,
        failed,
        requested_bytes,
        ..ReleaseTotals::default()
    }
}

fn mapped(calls: u64, failed: u64, bytes: u64) -> MapTotals {
    MapTotals {
        calls,
        failed,
        bytes,
    }
}

fn class(totals: &mut Totals, class: FaultClass, faults: u64, basis: Basis) {
    let one = totals.faults.class_mut(class);
    one.faults = faults;
    one.bytes = faults * PAGE;
    one.basis = basis;
    totals.faults.total += faults;
}

/// The totals of a process that does a bit of everything.
fn busy() -> Totals {
    let mut totals = Totals::default();
    let mut free = release(1_240, 0, 1024 * M);
    free.refaults = 3_148;
    free.refaulted_bytes = 3_148 * PAGE;
    for nth in 0..100 {
        free.ages.record(nth * 62 * MS, 1);
    }
    let mut dontneed = release(12, 1, 24 * M);
    dontneed.partial = 1;
    dontneed.refaults = 4_984;
    dontneed.refaulted_bytes = 4_984 * PAGE;
    dontneed.ages.record(12 * MS, 1);
    totals.advice.insert(Advice::FREE, free);
    totals.advice.insert(Advice::DONTNEED, dontneed);
    totals.advice.insert(Advice::HUGEPAGE, release(2, 0, 4 * M));
    totals.unmap.munmap = release(31, 0, 48 * M);
    totals.map.mmap = mapped(40, 1, 1_200 * M);
    totals.map.brk = mapped(3, 0, 132 * K);
    class(
        &mut totals,
        FaultClass::FirstTouch,
        262_144,
        Basis::LowerBound,
    );
    class(&mut totals, FaultClass::RefaultFree, 3_148, Basis::Exact);
    class(
        &mut totals,
        FaultClass::RefaultDontneed,
        4_984,
        Basis::Exact,
    );
    class(&mut totals, FaultClass::Cow, 3, Basis::Exact);
    class(&mut totals, FaultClass::File, 41_725, Basis::LowerBound);
    totals.faults.zero_page_writes = 7;
    totals.faults.total += 7;
    totals
}

/// A complete run of a process that exits.
pub fn complete() -> Summary {
    Summary {
        pid: PID,
        image: 0,
        start_ns: START,
        duration_ns: 31_200 * MS,
        comm: "bigmap".to_owned(),
        exact: true,
        lost: Lost::default(),
        notes: Vec::new(),
        totals: busy(),
        rss: RssHistory {
            start_bytes: Some(12 * M),
            last_bytes: Some(1064 * M),
            last_at_ns: Some(START + 31_000 * MS),
            peak_bytes: Some(1084 * M),
            virtual_bytes: Some(4096 * M),
            first_rollup: Some(rollup(0, 12 * M, 0)),
            last_rollup: Some(rollup(30_000, 1064 * M, 812 * M)),
            rollups: 31,
            cgroup: Some(Cgroup {
                version: 2,
                path: "/kubepods.slice/pod-1".to_owned(),
                usage_bytes: 1900 * M,
                inactive_file_bytes: 1000 * M,
                limit_bytes: Some(2048 * M),
            }),
            ..RssHistory::default()
        },
        balance: Some(Balance {
            marked_bytes: 1024 * M,
            before_bytes: Some(24 * M),
            still_lazy_bytes: Some(812 * M),
            still_lazy_error_bytes: 248 * K,
            reclaimed_bytes: Some(100 * M),
            reclaimed_basis: Basis::Exact,
            reclaimed_at_least_bytes: 100 * M,
            reclaimed_at_most_bytes: Some(100 * M),
            reused_silently_bytes: Some(80 * M),
            dropped_bytes: 32 * M,
        }),
        reclaim_unknown: None,
        rss_age_ns: Some(200 * MS),
        exit: Some(0),
        runtimes: Runtimes {
            list: vec![
                runtime(
                    Kind::Go,
                    "go1.14.15",
                    GivesBack::Free,
                    &[("GODEBUG", "madvdontneed=0")],
                ),
                runtime(Kind::Glibc, "2.36", GivesBack::DontNeed, &[]),
            ],
            problems: Vec::new(),
        },
        effects: vec!["GODEBUG=madvdontneed=0 is set, and so it is: 1,240 calls".to_owned()],
        go: Some(books()),
        verdict: Some(Verdict {
            kind: verdict::Kind::LazilyFree,
            confidence: Confidence::High,
            evidence: vec!["812M of 1.04G RSS (76.3%) is lazily free".to_owned()],
            doubts: Vec::new(),
            advice: vec!["watch RSS less LazyFree instead of RSS".to_owned()],
        }),
        what_if: Some(WhatIf {
            to_dontneed: Some(ToDontneed {
                rss_less_bytes: Some(range(812 * M, Some(812 * M + 248 * K))),
                rss_less_mean_bytes: Some(700 * M),
                rss_less_peak_bytes: Some(830 * M),
                more_faults: range(20_418, Some(28_672)),
                more_cpu_ns: Some(range(18_376_200, Some(34_406_400))),
            }),
            to_free: Some(ToFree {
                rss_more_bytes: range(0, None),
                fewer_faults: range(0, Some(4_984)),
                less_cpu_ns: Some(range(0, Some(5_980_800))),
            }),
            fault: Some(FaultCost {
                mean_ns: 1_000,
                least_ns: 900,
                most_ns: 1_200,
            }),
            larger_folios: true,
        }),
        gctrace: Some(GcTrace {
            source: "/var/log/bigmap\u{1b}[2J.log".to_owned(),
            digest: Digest {
                cycles: 12,
                cycles_before: 9,
                forced: 1,
                last: Some(collection()),
                peak_live_bytes: Some(412 * M),
                scavenger_lines: 3,
                scavenged_bytes: Some(420 * M),
                released_bytes: Some(401 * M),
                consumed_bytes: None,
                passed_over: 240,
                too_long: 1,
                steps_back: 2,
            },
        }),
    }
}

fn range(least: u64, most: Option<u64>) -> Range {
    Range { least, most }
}

fn rollup(at_ms: u64, rss_bytes: u64, lazyfree_bytes: u64) -> Rollup {
    Rollup {
        at_ns: START + at_ms * MS,
        rss_bytes,
        lazyfree_bytes,
        pss_bytes: rss_bytes - M,
        swap_bytes: 3 * M,
        anonymous_bytes: rss_bytes - 4 * M,
        anon_huge_bytes: 2 * M,
        lazyfree_error_bytes: 248 * K,
        cost_ns: 9_200_000,
    }
}

fn runtime(kind: Kind, version: &str, gives_back: GivesBack, settings: &[(&str, &str)]) -> Runtime {
    let settings = settings.iter().map(|(name, value)| Setting {
        name: (*name).to_owned(),
        value: (*value).to_owned(),
        origin: Origin::Environment,
    });
    Runtime {
        kind,
        version: Some(version.to_owned()),
        settings: settings.collect(),
        gives_back,
        linkage: None,
    }
}

/// A process that was killed, after an exec, with losses and everything that limits its figures.
pub fn lossy() -> Summary {
    let mut totals = Totals::default();
    let mut locked = release(2, 0, 2 * M);
    locked.refaults = 100;
    locked.refaulted_bytes = 100 * PAGE;
    totals.advice.insert(Advice::DONTNEED_LOCKED, locked);
    let mut pageout = release(1, 0, 8 * M);
    pageout.released = Some(Released {
        bytes: 2 * M,
        basis: Basis::Measured,
    });
    pageout.refaults = 20;
    pageout.refaulted_bytes = 20 * PAGE;
    pageout.inherited_refaulted_bytes = 10 * PAGE;
    totals.advice.insert(Advice::PAGEOUT, pageout);
    totals.advice.insert(Advice(77), release(1, 1, 0));
    totals.unmap.map_fixed = release(2, 0, 16 * K);
    totals.unmap.mremap = release(1, 0, 4 * K);
    totals.unmap.brk = release(1, 0, 128 * K);
    totals.map.mremap = mapped(1, 0, M);
    class(
        &mut totals,
        FaultClass::RefaultDontneed,
        100,
        Basis::LowerBound,
    );
    class(&mut totals, FaultClass::RefaultOther, 20, Basis::Measured);
    class(&mut totals, FaultClass::SwapIn, 5, Basis::Exact);
    class(&mut totals, FaultClass::Unknown, 9, Basis::Derived);
    totals.faults.ambiguous = 2;
    totals.unseen_calls = 1;
    Summary {
        pid: 77,
        image: 1,
        start_ns: START + 5_000 * MS,
        duration_ns: 72_000 * MS,
        comm: HOSTILE.to_owned(),
        exact: false,
        lost: lost(0),
        notes: vec![
            "1 calls were under way when tracing began: what they did is not known".to_owned(),
            "a name: \u{1b}[2J".to_owned(),
        ],
        totals,
        rss: RssHistory::default(),
        balance: Some(Balance {
            marked_bytes: 64 * M,
            before_bytes: None,
            still_lazy_bytes: None,
            still_lazy_error_bytes: 0,
            reclaimed_bytes: None,
            reclaimed_basis: Basis::Exact,
            reclaimed_at_least_bytes: 4 * M,
            reclaimed_at_most_bytes: Some(200 * M),
            reused_silently_bytes: None,
            dropped_bytes: 8 * M,
        }),
        reclaim_unknown: Some(
            "Linux before 6.2 does not tell which pages reclaim takes".to_owned(),
        ),
        rss_age_ns: None,
        exit: Some(9),
        runtimes: Runtimes {
            list: vec![runtime(
                Kind::Jemalloc,
                "5.\u{1b}[31m3",
                GivesBack::Unknown,
                &[("MALLOC_CONF", HOSTILE)],
            )],
            problems: Vec::new(),
        },
        effects: Vec::new(),
        go: None,
        verdict: Some(Verdict {
            kind: verdict::Kind::Churn,
            confidence: Confidence::Low,
            evidence: vec![format!("set by {HOSTILE}")],
            doubts: vec!["events were lost".to_owned()],
            advice: vec![format!("unset {HOSTILE}")],
        }),
        what_if: Some(WhatIf {
            to_dontneed: Some(ToDontneed {
                rss_less_bytes: None,
                rss_less_mean_bytes: None,
                rss_less_peak_bytes: None,
                more_faults: range(0, None),
                more_cpu_ns: None,
            }),
            to_free: None,
            fault: None,
            larger_folios: false,
        }),
        gctrace: Some(GcTrace {
            source: "stderr".to_owned(),
            digest: Digest {
                passed_over: 1,
                ..Digest::default()
            },
        }),
    }
}

/// A process that gave nothing back: its one attempt failed.
pub fn nothing_given_back() -> Summary {
    let mut totals = Totals::default();
    totals.advice.insert(Advice::FREE, release(1, 1, 0));
    totals.advice.insert(Advice::HUGEPAGE, release(1, 0, 2 * M));
    totals.map.mmap = mapped(1, 0, 2 * M);
    class(&mut totals, FaultClass::FirstTouch, 512, Basis::Exact);
    Summary {
        pid: 78,
        comm: "hoarder".to_owned(),
        exact: true,
        lost: Lost::default(),
        notes: Vec::new(),
        image: 0,
        start_ns: START,
        duration_ns: 850_000,
        totals,
        rss: RssHistory {
            start_bytes: Some(3 * M),
            last_bytes: Some(3 * M),
            last_at_ns: Some(START),
            peak_bytes: Some(3 * M),
            ..RssHistory::default()
        },
        balance: None,
        reclaim_unknown: None,
        rss_age_ns: Some(850_000),
        exit: None,
        runtimes: Runtimes::default(),
        effects: Vec::new(),
        go: None,
        verdict: Some(Verdict {
            kind: verdict::Kind::NotEnoughData,
            confidence: Confidence::Low,
            evidence: vec!["traced for 850 µs".to_owned()],
            doubts: Vec::new(),
            advice: vec!["trace longer".to_owned()],
        }),
        what_if: None,
        gctrace: None,
    }
}

/// A process that did nothing, with a self-check that failed.
pub fn idle() -> Summary {
    Summary {
        pid: 79,
        comm: "idle".to_owned(),
        exact: false,
        notes: vec!["self-check failed: the kernel side counted 1 faults, 0 came".to_owned()],
        totals: Totals::default(),
        rss: RssHistory::default(),
        rss_age_ns: None,
        ..nothing_given_back()
    }
}
