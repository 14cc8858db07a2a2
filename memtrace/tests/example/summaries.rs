//! The summaries of that run: a busy process, one of which records were lost, and quiet ones.

use super::go::{books, collection};
use super::*;

pub(super) fn release(calls: u64, failed: u64, requested_bytes: u64) -> ReleaseTotals {
    ReleaseTotals {
        calls,
        failed,
        requested_bytes,
        ..ReleaseTotals::default()
    }
}

pub(super) fn mapped(calls: u64, failed: u64, bytes: u64) -> MapTotals {
    MapTotals {
        calls,
        failed,
        bytes,
    }
}

pub(super) fn class(totals: &mut Totals, class: FaultClass, faults: u64, basis: Basis) {
    let one = totals.faults.class_mut(class);
    one.faults = faults;
    one.bytes = faults * PAGE;
    match basis {
        Basis::Derived => one.derived_bytes = one.bytes,
        Basis::Measured => (one.measured, one.measured_bytes) = (true, one.bytes),
        // Each may have brought a huge page.
        Basis::LowerBound => {
            one.loose_bytes = one.bytes;
            one.extra_bytes = faults * 511 * PAGE;
        }
        _ => {}
    }
    totals.faults.total += faults;
}

/// The totals of a process that does a bit of everything.
pub(super) fn busy() -> Totals {
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
        stray_events: 0,
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
            reused_at_least_bytes: Some(48 * M),
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
    locked.refaulted_extra_bytes = 511 * 400 * 1024;
    locked.refaulted_bytes = 100 * PAGE;
    locked.inherited_refaulted_bytes = 50 * PAGE;
    locked.released = Some(Released {
        least_bytes: M,
        bytes: M,
        basis: Basis::Measured,
    });
    totals.advice.insert(Advice::DONTNEED_LOCKED, locked);
    let mut pageout = release(1, 0, 8 * M);
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
        stray_events: 0,
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
            reused_at_least_bytes: None,
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
        stray_events: 0,
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
        notes: vec!["self-check failed: faults: kernel counted 1, received 0, lost 0".to_owned()],
        totals: Totals::default(),
        rss: RssHistory::default(),
        rss_age_ns: None,
        ..nothing_given_back()
    }
}
