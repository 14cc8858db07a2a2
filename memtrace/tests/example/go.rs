//! What a Go program says of itself in that run: its lines, its MemStats, and its books beside the RSS.

use memtrace::golang::Reading;
use memtrace::golang::books::Books;
use memtrace::golang::gctrace::{Event, GcLine, ScavengerLine};
use memtrace::golang::memstats::MemStats;
use memtrace::golang::profile::InUse;
use memtrace::golang::{Report, Table};
use memtrace::proc::shares::{Named, Share, Shares};

use super::*;

/// What Go's collector and its scavenger say, of a process that is known and of one that is not.
pub fn go_lines() -> Vec<Line> {
    let scavenger = ScavengerLine {
        work_bytes: Some(24 * K),
        background_bytes: Some(16 * K),
        eager_bytes: Some(8 * K),
        released_bytes: Some(401 * M),
        used_percent: Some(96),
        ..ScavengerLine::default()
    };
    let old = ScavengerLine {
        forced: true,
        in_use_bytes: Some(835 * M),
        idle_bytes: Some(188 * M),
        system_bytes: Some(1023 * M),
        released_bytes: Some(17 * M),
        consumed_bytes: Some(1005 * M),
        ..ScavengerLine::default()
    };
    let before_1_18 = GcLine {
        stacks_bytes: None,
        globals_bytes: None,
        cpu_percent: None,
        goal_bytes: None,
        forced: true,
        ..collection()
    };
    [
        (Some(PID), Event::Gc(collection())),
        (Some(PID), Event::Scavenger(scavenger)),
        (None, Event::Gc(before_1_18)),
        (None, Event::Scavenger(old)),
    ]
    .into_iter()
    .zip(85..)
    .map(|((pid, event), at_ms)| {
        Line::Go(GoLine {
            at_ns: START + at_ms * MS,
            pid,
            event,
        })
    })
    .collect()
}

pub(super) fn collection() -> GcLine {
    GcLine {
        cycle: 12,
        since_start_ns: 3_210 * MS,
        cpu_percent: Some(2),
        clock_ns: 1_250_000,
        cpu_ns: 3_400_000,
        heap_before_bytes: 410 * M,
        heap_after_bytes: 412 * M,
        heap_live_bytes: 3 * M,
        goal_bytes: Some(6 * M),
        stacks_bytes: Some(M),
        globals_bytes: Some(0),
        procs: 8,
        forced: false,
    }
}

/// What a Go process said, once.
pub fn memstats() -> MemStatsLine {
    MemStatsLine {
        at_ns: START + 31_000 * MS,
        pid: PID,
        reading: reading(),
    }
}

fn reading() -> Reading {
    Reading {
        stats: MemStats {
            heap_alloc: 118 * M,
            heap_sys: 1050 * M,
            heap_idle: 920 * M,
            heap_inuse: 130 * M,
            heap_released: 850 * M,
            stack_inuse: 2 * M,
            stack_sys: 2 * M,
            mspan_sys: 5 * M,
            mcache_sys: 64 * K,
            buck_hash_sys: M,
            gc_sys: 4 * M,
            other_sys: M,
            sys: 1100 * M,
            next_gc: 236 * M,
            num_gc: 14,
        },
        in_use: Some(InUse {
            bytes: 101 * M,
            rate_bytes: 512 * K,
        }),
    }
}

/// Its books beside the RSS, with C's memory in it.
pub(super) fn books() -> Report {
    let share = |mapped, rss, lazy| Share {
        mapped_bytes: mapped * M,
        rss_bytes: rss * M,
        lazyfree_bytes: lazy * M,
    };
    let shares = Shares {
        go_heap: share(1088, 1010, 812),
        brk: share(3, 2, 0),
        anon: share(60, 41, 0),
        file: share(12, 10, 0),
        stack: share(1, 1, 0),
        largest_files: vec![Named {
            name: HOSTILE.to_owned(),
            rss_bytes: 7 * M,
        }],
        largest_anon: vec![Named {
            name: "7f12a4000000-7f12a7c00000".to_owned(),
            rss_bytes: 41 * M,
        }],
        ..Shares::default()
    };
    let books = Books::of(&reading().stats, &shares).expect("figures that fit");
    Report {
        url: "localhost:6060".to_owned(),
        asked: 31,
        failed: 2,
        problem: Some("http://localhost:6060/debug/vars: no whole answer within 3.00 s".to_owned()),
        last: Some(reading()),
        last_age_ns: 200 * MS,
        released_at_start: Some(M),
        peak_in_use: Some(960 * M),
        table: Some(Table {
            books,
            reading: reading(),
            age_ns: 190 * MS,
            apart_ns: 12 * MS,
        }),
        no_table: None,
        sentences: vec!["HeapReleased is 850M, and 812M of it still counts in RSS".to_owned()],
    }
}
