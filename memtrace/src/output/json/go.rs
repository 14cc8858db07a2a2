//! The keys of Go's own figures.

use serde::Serialize;

use crate::golang::memstats::MemStats;
use crate::golang::{Reading, Report, Table};
use crate::proc::shares::Named;
use crate::view::MemStatsLine;

/// One answer.
#[derive(Serialize)]
#[serde(tag = "type", rename = "memstats")]
pub(super) struct MemStatsRow {
    ts_ns: u64,
    pid: u32,
    #[serde(flatten)]
    figures: Figures,
}

impl MemStatsRow {
    pub(super) fn of(line: &MemStatsLine) -> Self {
        Self {
            ts_ns: line.at_ns,
            pid: line.pid,
            figures: Figures::of(&line.reading),
        }
    }
}

#[derive(Serialize)]
struct Figures {
    heap_alloc_bytes: u64,
    heap_sys_bytes: u64,
    heap_idle_bytes: u64,
    heap_in_use_bytes: u64,
    heap_released_bytes: u64,
    stack_in_use_bytes: u64,
    stack_sys_bytes: u64,
    mspan_sys_bytes: u64,
    mcache_sys_bytes: u64,
    buck_hash_sys_bytes: u64,
    gc_sys_bytes: u64,
    other_sys_bytes: u64,
    sys_bytes: u64,
    next_gc_bytes: u64,
    num_gc: u64,
    pprof_in_use_bytes: Option<u64>,
    pprof_rate_bytes: Option<u64>,
}

impl Figures {
    fn of(reading: &Reading) -> Self {
        let MemStats {
            heap_alloc,
            heap_sys,
            heap_idle,
            heap_inuse,
            heap_released,
            stack_inuse,
            stack_sys,
            mspan_sys,
            mcache_sys,
            buck_hash_sys,
            gc_sys,
            other_sys,
            sys,
            next_gc,
            num_gc,
        } = reading.stats;
        Self {
            heap_alloc_bytes: heap_alloc,
            heap_sys_bytes: heap_sys,
            heap_idle_bytes: heap_idle,
            heap_in_use_bytes: heap_inuse,
            heap_released_bytes: heap_released,
            stack_in_use_bytes: stack_inuse,
            stack_sys_bytes: stack_sys,
            mspan_sys_bytes: mspan_sys,
            mcache_sys_bytes: mcache_sys,
            buck_hash_sys_bytes: buck_hash_sys,
            gc_sys_bytes: gc_sys,
            other_sys_bytes: other_sys,
            sys_bytes: sys,
            next_gc_bytes: next_gc,
            num_gc,
            pprof_in_use_bytes: reading.in_use.map(|in_use| in_use.bytes),
            pprof_rate_bytes: reading.in_use.map(|in_use| in_use.rate_bytes),
        }
    }
}

/// All of a run.
#[derive(Serialize)]
pub(super) struct GoRow<'a> {
    url: &'a str,
    asked: u64,
    failed: u64,
    problem: Option<&'a str>,
    memstats: Option<Figures>,
    memstats_age_ns: Option<u64>,
    heap_released_at_start_bytes: Option<u64>,
    heap_in_use_peak_bytes: Option<u64>,
    table: Option<TableRow<'a>>,
    no_table: Option<&'a str>,
    sentences: &'a [String],
}

impl<'a> GoRow<'a> {
    pub(super) fn of(report: &'a Report) -> Self {
        Self {
            url: &report.url,
            asked: report.asked,
            failed: report.failed,
            problem: report.problem.as_deref(),
            memstats: report.last.as_ref().map(Figures::of),
            memstats_age_ns: report.last.map(|_| report.last_age_ns),
            heap_released_at_start_bytes: report.released_at_start,
            heap_in_use_peak_bytes: report.peak_in_use,
            table: report.table.as_ref().map(TableRow::of),
            no_table: report.no_table.as_deref(),
            sentences: &report.sentences,
        }
    }
}

/// The rows sum to the RSS.
#[derive(Serialize)]
struct TableRow<'a> {
    rss_bytes: u64,
    age_ns: u64,
    apart_ns: u64,
    rows: Vec<BookRow>,
    largest_files: Vec<NamedRow<'a>>,
    largest_anonymous: Vec<NamedRow<'a>>,
}

#[derive(Serialize)]
struct BookRow {
    name: &'static str,
    bytes: i64,
    source: &'static str,
}

#[derive(Serialize)]
struct NamedRow<'a> {
    name: &'a str,
    rss_bytes: u64,
}

impl<'a> TableRow<'a> {
    fn of(table: &'a Table) -> Self {
        let named = |list: &'a [Named]| {
            list.iter()
                .map(|one| NamedRow {
                    name: &one.name,
                    rss_bytes: one.rss_bytes,
                })
                .collect()
        };
        Self {
            rss_bytes: table.books.rss_bytes,
            age_ns: table.age_ns,
            apart_ns: table.apart_ns,
            rows: table
                .books
                .lines
                .iter()
                .map(|line| BookRow {
                    name: line.row.name(),
                    bytes: line.bytes,
                    source: line.source.name(),
                })
                .collect(),
            largest_files: named(&table.books.shares.largest_files),
            largest_anonymous: named(&table.books.shares.largest_anon),
        }
    }
}
