//! The keys of what Go's runtime told: a line of the stream, and the sum in the summary.

use serde::Serialize;

use crate::golang::gctrace::{Event, GcLine, ScavengerLine};
use crate::view::gctrace::{GcTrace, GoLine};

/// A line of the collector or the scavenger; the keys of the other are null.
#[derive(Default, Serialize)]
#[serde(tag = "type", rename = "gctrace")]
pub(super) struct GoRow {
    ts_ns: u64,
    pid: Option<u32>,
    event: &'static str,
    forced: bool,
    cycle: Option<u64>,
    since_start_ns: Option<u64>,
    cpu_percent: Option<u64>,
    clock_ns: Option<u64>,
    cpu_ns: Option<u64>,
    heap_before_bytes: Option<u64>,
    heap_after_bytes: Option<u64>,
    heap_live_bytes: Option<u64>,
    goal_bytes: Option<u64>,
    stacks_bytes: Option<u64>,
    globals_bytes: Option<u64>,
    procs: Option<u64>,
    generation: Option<u64>,
    work_bytes: Option<u64>,
    background_bytes: Option<u64>,
    eager_bytes: Option<u64>,
    released_bytes: Option<u64>,
    in_use_bytes: Option<u64>,
    idle_bytes: Option<u64>,
    system_bytes: Option<u64>,
    consumed_bytes: Option<u64>,
    used_percent: Option<u64>,
}

impl GoRow {
    pub(super) fn of(line: &GoLine) -> Self {
        let row = match &line.event {
            Event::Gc(line) => Self::gc(line),
            Event::Scavenger(line) => Self::scavenger(line),
        };
        Self {
            ts_ns: line.at_ns,
            pid: line.pid,
            ..row
        }
    }

    fn gc(line: &GcLine) -> Self {
        Self {
            event: "gc",
            forced: line.forced,
            cycle: Some(line.cycle),
            since_start_ns: Some(line.since_start_ns),
            cpu_percent: line.cpu_percent,
            clock_ns: Some(line.clock_ns),
            cpu_ns: Some(line.cpu_ns),
            heap_before_bytes: Some(line.heap_before_bytes),
            heap_after_bytes: Some(line.heap_after_bytes),
            heap_live_bytes: Some(line.heap_live_bytes),
            goal_bytes: line.goal_bytes,
            stacks_bytes: line.stacks_bytes,
            globals_bytes: line.globals_bytes,
            procs: Some(line.procs),
            ..Self::default()
        }
    }

    fn scavenger(line: &ScavengerLine) -> Self {
        Self {
            event: "scavenger",
            forced: line.forced,
            generation: line.generation,
            work_bytes: line.work_bytes,
            background_bytes: line.background_bytes,
            eager_bytes: line.eager_bytes,
            released_bytes: line.released_bytes,
            in_use_bytes: line.in_use_bytes,
            idle_bytes: line.idle_bytes,
            system_bytes: line.system_bytes,
            consumed_bytes: line.consumed_bytes,
            used_percent: line.used_percent,
            ..Self::default()
        }
    }
}

/// The sum of all lines.
#[derive(Serialize)]
pub(super) struct GcTraceRow<'a> {
    source: &'a str,
    cycles: u64,
    cycles_before: u64,
    forced: u64,
    last_cycle: Option<u64>,
    last_since_start_ns: Option<u64>,
    heap_live_bytes: Option<u64>,
    heap_live_peak_bytes: Option<u64>,
    goal_bytes: Option<u64>,
    scavenger_lines: u64,
    scavenged_bytes: Option<u64>,
    released_bytes: Option<u64>,
    consumed_bytes: Option<u64>,
    lines_passed_over: u64,
    lines_too_long: u64,
    steps_back: u64,
}

impl<'a> GcTraceRow<'a> {
    pub(super) fn of(trace: &'a GcTrace) -> Self {
        let digest = &trace.digest;
        let last = digest.last.as_ref();
        Self {
            source: &trace.source,
            cycles: digest.cycles,
            cycles_before: digest.cycles_before,
            forced: digest.forced,
            last_cycle: last.map(|last| last.cycle),
            last_since_start_ns: last.map(|last| last.since_start_ns),
            heap_live_bytes: last.map(|last| last.heap_live_bytes),
            heap_live_peak_bytes: digest.peak_live_bytes,
            goal_bytes: last.and_then(|last| last.goal_bytes),
            scavenger_lines: digest.scavenger_lines,
            scavenged_bytes: digest.scavenged_bytes,
            released_bytes: digest.released_bytes,
            consumed_bytes: digest.consumed_bytes,
            lines_passed_over: digest.passed_over,
            lines_too_long: digest.too_long,
            steps_back: digest.steps_back,
        }
    }
}
