//! The end of a run: the self-check, and the summaries with what limits them.

use std::collections::HashMap;

use super::ending::Ending;
use super::nothing_lost;
use crate::attach::Counts;
use crate::decode::Delivered;
use crate::ledger::event::Lost;
use crate::ledger::{Ledger, Mm};
use crate::view::Summary;

/// What the kernel side could not deliver, as the ledger and the outputs take it.
pub fn lost(at_ns: u64, counts: &Counts) -> Lost {
    Lost {
        at_ns,
        calls: counts.calls_lost + counts.join_overflow,
        faults: counts.faults_lost,
        lifecycle: counts.lives_lost + counts.targets_overflow,
    }
}

/// The two sides of the self-check, and what else can make a run inexact.
pub struct Check {
    pub counts: Counts,
    pub delivered: Delivered,
    pub late: u64,
    pub malformed: u64,
    /// Traced processes that live on.
    pub alive: u64,
    pub ending: Ending,
}

impl Check {
    /// Nothing lost, and every record that the kernel side counted has come.
    pub fn exact(&self) -> bool {
        nothing_lost(&lost(0, &self.counts))
            && self.counts.missed == 0
            && self.malformed == 0
            && self.differences().is_empty()
    }

    /// The classes in which seen is not delivered + lost.
    fn differences(&self) -> Vec<String> {
        let (counts, delivered) = (&self.counts, &self.delivered);
        [
            (
                "faults",
                counts.faults_seen,
                delivered.faults,
                counts.faults_lost,
            ),
            (
                "calls",
                counts.calls_seen,
                delivered.calls,
                counts.calls_lost,
            ),
            (
                "lifecycle events",
                counts.lives_seen,
                delivered.lives,
                counts.lives_lost,
            ),
        ]
        .into_iter()
        .filter(|(_, seen, delivered, lost)| *seen != delivered + lost)
        .map(|(what, seen, delivered, lost)| {
            format!(
                "self-check failed: the kernel side counted {seen} {what}, {delivered} came and \
                 {lost} are known to be lost"
            )
        })
        .collect()
    }

    /// Sentences on what limits every figure of the run.
    fn notes(&self) -> Vec<String> {
        let mut notes = self.differences();
        if self.counts.missed > 0 {
            notes.push(format!(
                "the kernel skipped a program {} times because another was running on that CPU: \
                 calls or faults are missing",
                self.counts.missed
            ));
        }
        if self.late > 0 {
            notes.push(format!(
                "{} records came later than expected: where threads overlapped, the order may be off",
                self.late
            ));
        }
        if self.counts.join_overflow > 0 {
            notes.push(format!(
                "{} calls have no arguments: too many threads were inside calls at once",
                self.counts.join_overflow
            ));
        }
        if self.counts.targets_overflow > 0 {
            notes.push(format!(
                "{} children are not traced: too many processes at once",
                self.counts.targets_overflow
            ));
        }
        if self.malformed > 0 {
            notes.push(format!(
                "{} chunks of records could not be read",
                self.malformed
            ));
        }
        if self.ending == Ending::TargetsGone && self.alive > 0 {
            notes.push(format!(
                "{} of the command's children run on, and are not traced any more",
                self.alive
            ));
        }
        notes
    }
}

/// One summary for each address space.
pub fn summaries(ledger: &Ledger, check: &Check, unfollowed: &HashMap<u32, u64>) -> Vec<Summary> {
    let exact = check.exact();
    let notes = check.notes();
    ledger
        .mms()
        .iter()
        .map(|mm| {
            let end_ns = mm.end_ns.unwrap_or(mm.start_ns);
            let mut notes = notes.clone();
            notes.extend(own_notes(mm, unfollowed));
            Summary {
                pid: mm.pid,
                image: mm.image,
                start_ns: mm.start_ns,
                duration_ns: end_ns.saturating_sub(mm.start_ns),
                comm: mm.comm.clone(),
                exact,
                lost: ledger.lost(),
                notes,
                totals: mm.totals.clone(),
                rss: mm.rss,
                rss_age_ns: mm.rss.last_at_ns.map(|at_ns| end_ns.saturating_sub(at_ns)),
                exit: mm.exit,
            }
        })
        .collect()
}

/// Sentences on what limits the figures of one address space.
fn own_notes(mm: &Mm, unfollowed: &HashMap<u32, u64>) -> Vec<String> {
    let mut notes = Vec::new();
    if !mm.mappings_known && mm.totals.faults.total > 0 {
        notes.push(
            "its mappings could not be read in time: faults on what exec mapped have no class"
                .to_owned(),
        );
    }
    if mm.totals.unseen_calls > 0 {
        notes.push(format!(
            "{} calls were under way when tracing began: what they did is not known",
            mm.totals.unseen_calls
        ));
    }
    if let Some(children) = unfollowed.get(&mm.pid) {
        notes.push(format!(
            "it forked {children} children that were not traced (-f follows them)"
        ));
    }
    notes
}
