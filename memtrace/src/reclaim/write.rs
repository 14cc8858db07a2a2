//! The report, for people and for programs.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::cgroup::shown;
use super::outcome::{DryRun, Outcome, Plan, Taken};
use crate::config::{Method, Reclaim};
use crate::output::{escape, json as lines};
use crate::proc::lazy::{LazyMapping, LazyMappings};
use crate::proc::page_bytes;
use crate::proc::smaps::Rollup;
use crate::units::{Bytes, Nanos, counted};

/// Mappings that a terminal is shown: the largest.
const TERMINAL_ROWS: usize = 20;
/// Columns that a name may take.
const NAME_COLUMNS: usize = 40;

/// For people.
pub(super) fn text(outcome: &Outcome, config: &Reclaim, out: &mut dyn Write) -> io::Result<()> {
    let (bold, plain) = match config.report.color {
        true => ("\x1b[1m", "\x1b[0m"),
        false => ("", ""),
    };
    let who = format!(
        "{bold}{} (pid {}){plain}",
        escape(&outcome.comm, NAME_COLUMNS),
        outcome.pid
    );
    let before = &outcome.before;
    match &outcome.taken {
        Taken::Nothing => writeln!(
            out,
            "{who}: nothing is lazily free, so there is nothing to take (RSS {})",
            Bytes(before.rss_bytes)
        )?,
        Taken::DryRun(DryRun { found, plan }) => {
            writeln!(out, "{who} · dry run, nothing was touched")?;
            listing(found, config, out)?;
            writeln!(
                out,
                "Would take up to {} of {} RSS, from {}.",
                Bytes(found.lazyfree_bytes()),
                Bytes(before.rss_bytes),
                counted(found.list.len() as u64, "mapping")
            )?;
            planned(plan, before, out)?;
        }
        Taken::Done(_) | Taken::Cgroup(_) | Taken::Balloon(_) => {
            let took = match outcome.taken_bytes() {
                Some(bytes) => format!("{} taken", Bytes(bytes)),
                None => "ended".to_owned(),
            };
            writeln!(out, "{who} · {} · {took}", Nanos(outcome.duration_ns))?;
            if let Some(after) = outcome.after() {
                samples(before, &after, out)?;
            }
            if let Some(bytes @ 1..) = outcome.taken_bytes() {
                writeln!(
                    out,
                    "Using that memory again costs a page fault for each page, up to {}.",
                    counted(bytes.div_ceil(page_bytes()), "fault")
                )?;
            }
        }
    }
    for note in outcome.notes() {
        writeln!(out, "note: {note}")?;
    }
    Ok(())
}

/// How a method would go about it, where that is more than to ask for the mappings.
fn planned(plan: &Plan, before: &Rollup, out: &mut dyn Write) -> io::Result<()> {
    match plan {
        Plan::Pageout { .. } => Ok(()),
        Plan::Cgroup { plan, .. } => {
            let how = match plan.swappiness {
                true => " with swappiness=0",
                false => "",
            };
            let cache = plan.charged.file_bytes.map_or(String::new(), |bytes| {
                format!(", whose page cache ({}) may go first", Bytes(bytes))
            });
            writeln!(
                out,
                "By memory.reclaim{how} of {}{cache}.",
                shown(&plan.dir)
            )
        }
        Plan::Balloon(plan) => {
            let own = plan
                .binding_limit(before.lazyfree_bytes)
                .map_or(String::new(), |limit| {
                    format!(", the limit of memtrace's own cgroup {}", Bytes(limit))
                });
            writeln!(
                out,
                "By a balloon of up to {} (--max {}, MemAvailable {}{own}): page cache goes first. Beside what is lazily \
                 free, {} stays available.",
                Bytes(plan.reach_bytes(before.lazyfree_bytes)),
                Bytes(plan.max_bytes),
                Bytes(plan.room.available_bytes),
                Bytes(plan.room.floor_bytes),
            )
        }
    }
}

/// The sums in two columns. Swap is there where there is some.
fn samples(before: &Rollup, after: &Rollup, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{:8}  {:>7}  {:>7}", "", "before", "after")?;
    for (name, old, new) in [
        ("RSS", before.rss_bytes, after.rss_bytes),
        ("LazyFree", before.lazyfree_bytes, after.lazyfree_bytes),
        ("Swap", before.swap_bytes, after.swap_bytes),
    ] {
        if name != "Swap" || old > 0 || new > 0 {
            writeln!(out, "{name:8}  {:>7}  {:>7}", Bytes(old), Bytes(new))?;
        }
    }
    Ok(())
}

/// The mappings, the one with the most to take first.
fn listing(found: &LazyMappings, config: &Reclaim, out: &mut dyn Write) -> io::Result<()> {
    if found.list.is_empty() {
        return Ok(());
    }
    let mut rows: Vec<&LazyMapping> = found.list.iter().collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.lazyfree_bytes));
    let shown = match config.report.terminal && !config.list_all {
        true => TERMINAL_ROWS,
        false => usize::MAX,
    };
    let width = 2 * 12 + 1;
    writeln!(
        out,
        "{:width$}  {:>7}  {:>8}  {:>8}  name",
        "addresses", "size", "resident", "LazyFree"
    )?;
    for row in rows.iter().take(shown) {
        let addresses = format!("{:x}-{:x}", row.range.start, row.range.end);
        let name = escape(row.name.as_deref().unwrap_or("(anonymous)"), NAME_COLUMNS);
        writeln!(
            out,
            "{addresses:width$}  {:>7}  {:>8}  {:>8}  {name}",
            Bytes(row.range.end - row.range.start),
            Bytes(row.rss_bytes),
            Bytes(row.lazyfree_bytes),
        )?;
    }
    let more = rows.len().saturating_sub(shown);
    if more > 0 {
        writeln!(
            out,
            "{} not shown (-v shows all)",
            counted(more as u64, "mapping")
        )?;
    }
    Ok(())
}

/// For programs: one object on one line. What is not known is null.
pub(super) fn json(outcome: &Outcome, out: &mut dyn Write) -> io::Result<()> {
    let sums = |sums: Rollup| {
        json!({
            "rss_bytes": sums.rss_bytes,
            "lazyfree_bytes": sums.lazyfree_bytes,
            "swap_bytes": sums.swap_bytes,
        })
    };
    let (dry_run, mappings) = match &outcome.taken {
        Taken::DryRun(dry) => (true, listed(&dry.found)),
        _ => (false, Value::Null),
    };
    // Of MADV_PAGEOUT alone.
    let (ranges, advised, passes) = match &outcome.taken {
        Taken::Done(work) => (
            Some(work.ranges),
            Some(work.advised_bytes),
            Some(work.passes),
        ),
        taken if outcome.method == Method::Pageout => {
            let found = match taken {
                Taken::DryRun(dry) => dry.found.list.len() as u64,
                _ => 0,
            };
            (Some(found), Some(0), Some(0))
        }
        _ => (None, None, None),
    };
    lines::write_line(
        out,
        &json!({
            "type": "reclaim",
            "pid": outcome.pid,
            "comm": outcome.comm,
            "dry_run": dry_run,
            "method": outcome.method.name(),
            "ranges": ranges,
            "before": sums(outcome.before),
            "after": outcome.after().map(sums),
            "taken_bytes": outcome.taken_bytes(),
            "swap_grown_bytes": outcome.swap_grown_bytes(),
            "duration_ns": outcome.duration_ns,
            "advised_bytes": advised,
            "passes": passes,
            "cgroup": of_cgroup(&outcome.taken),
            "balloon": of_balloon(&outcome.taken, &outcome.before),
            "notes": outcome.notes(),
            "mappings": mappings,
        }),
    )
}

/// What a cgroup was asked for, or would be.
fn of_cgroup(taken: &Taken) -> Value {
    let (plan, work) = match taken {
        Taken::Cgroup(work) => (&work.plan, Some(work)),
        Taken::DryRun(DryRun {
            plan: Plan::Cgroup { plan, .. },
            ..
        }) => (plan, None),
        _ => return Value::Null,
    };
    let after = work.map(|work| work.charged_after);
    json!({
        "path": plan.dir.to_string_lossy(),
        "other_processes": plan.others,
        "swappiness": plan.swappiness.then_some(0),
        "asked_bytes": work.map(|work| work.squeeze.asked_bytes),
        "calls": work.map(|work| work.squeeze.calls),
        "stopped_by": work.map(|work| work.squeeze.ending.name()),
        "current_before_bytes": plan.charged.current_bytes,
        "current_after_bytes": after.and_then(|after| after.current_bytes),
        "page_cache_before_bytes": plan.charged.file_bytes,
        "page_cache_after_bytes": after.and_then(|after| after.file_bytes),
    })
}

/// What a balloon was, or would be.
fn of_balloon(taken: &Taken, before: &Rollup) -> Value {
    let (plan, work) = match taken {
        Taken::Balloon(work) => (&work.plan, Some(work)),
        Taken::DryRun(DryRun {
            plan: Plan::Balloon(plan),
            ..
        }) => (plan, None),
        _ => return Value::Null,
    };
    let blown = work.map(|work| work.blown);
    json!({
        "max_bytes": plan.max_bytes,
        "reach_bytes": plan.reach_bytes(before.lazyfree_bytes),
        "floor_bytes": plan.room.floor_bytes,
        "cgroup_limit_bytes": plan.room.group.map(|group| group.limit_bytes),
        "held_bytes": blown.map(|blown| blown.held_bytes),
        "stopped_by": blown.map(|blown| blown.ending.name()),
        "available_before_bytes": plan.room.available_bytes,
        "available_lowest_bytes": blown.and_then(|blown| blown.available_bytes),
        "page_cache_before_bytes": work.map(|work| work.cached_before_bytes),
        "page_cache_after_bytes": work.map(|work| work.cached_after_bytes),
        "stalled_ns": blown.and_then(|blown| blown.stalled_ns),
    })
}

fn listed(found: &LazyMappings) -> Value {
    let one = |mapping: &LazyMapping| {
        json!({
            "addr": mapping.range.start,
            "len_bytes": mapping.range.end - mapping.range.start,
            "rss_bytes": mapping.rss_bytes,
            "lazyfree_bytes": mapping.lazyfree_bytes,
            "name": mapping.name,
        })
    };
    found.list.iter().map(one).collect()
}

#[cfg(test)]
#[path = "write_tests.rs"]
mod tests;
