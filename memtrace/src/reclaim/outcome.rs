//! What came of one process: the figures, and the sentences that go with them.

use super::work::{Ending, Work};
use super::{balloon, cgroup};
use crate::config::Method;
use crate::proc::lazy::LazyMappings;
use crate::proc::smaps::Rollup;
use crate::units::{Bytes, counted};

/// A difference between two samples of a process that works on is worth a sentence from here on, in bytes.
pub(super) const WORTH_TELLING: u64 = 1 << 20;

/// One process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) pid: u32,
    /// Not escaped.
    pub(super) comm: String,
    pub(super) method: Method,
    pub(super) before: Rollup,
    pub(super) duration_ns: u64,
    pub(super) taken: Taken,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// Nothing was lazily free.
    Nothing,
    DryRun(DryRun),
    /// By MADV_PAGEOUT.
    Done(Work),
    Cgroup(cgroup::Work),
    Balloon(balloon::Work),
}

/// What would be done, and to what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DryRun {
    pub(super) found: LazyMappings,
    pub(super) plan: Plan,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    Pageout {
        /// Without --allow-swap it would be refused where this is not 0.
        swap_room_bytes: u64,
    },
    Cgroup {
        plan: cgroup::Plan,
        /// Why it would be, without the option that accepts it.
        refused: Option<String>,
    },
    Balloon(balloon::Plan),
}

impl Outcome {
    /// `None` where nothing was to be done, or the process has ended.
    pub(super) fn after(&self) -> Option<Rollup> {
        match &self.taken {
            Taken::Nothing => Some(self.before),
            Taken::DryRun(_) => None,
            Taken::Done(work) => work.after,
            Taken::Cgroup(work) => work.squeeze.after,
            Taken::Balloon(work) => work.blown.after,
        }
    }

    /// How much less is resident, as far as it was lazily free. `None` where that is not known.
    ///
    /// Neither sample alone tells: LazyFree falls too when the program writes to the memory again,
    /// and RSS falls too when it unmaps.
    pub(super) fn taken_bytes(&self) -> Option<u64> {
        let after = self.after()?;
        let lazy = self
            .before
            .lazyfree_bytes
            .saturating_sub(after.lazyfree_bytes);
        let rss = self.before.rss_bytes.saturating_sub(after.rss_bytes);
        Some(lazy.min(rss))
    }

    pub(super) fn swap_grown_bytes(&self) -> Option<u64> {
        let after = self.after()?;
        Some(after.swap_bytes.saturating_sub(self.before.swap_bytes))
    }

    /// What limits the figures, and what was left.
    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        match &self.taken {
            Taken::Nothing => {}
            Taken::DryRun(dry) => {
                notes.extend(out_of_reach(&dry.found));
                match &dry.plan {
                    Plan::Pageout { swap_room_bytes: 0 } => {}
                    Plan::Pageout { swap_room_bytes } => notes.push(format!(
                        "swap has {} free, so that memory in use could go there too: without --allow-swap it will be refused",
                        Bytes(*swap_room_bytes)
                    )),
                    Plan::Cgroup { refused, .. } => {
                        notes.extend(refused.iter().map(|why| format!("it will be refused: {why}")));
                    }
                    Plan::Balloon(plan) => notes.extend(plan.notes(self.before.lazyfree_bytes)),
                }
            }
            Taken::Done(work) => {
                let ended = match work.ending {
                    Ending::Interrupted => Some(INTERRUPTED.to_owned()),
                    Ending::Done | Ending::Gone => None,
                };
                self.seen(ended, &mut notes, |after| of_work(work, after));
            }
            Taken::Cgroup(work) => {
                let ended = (work.squeeze.ending == cgroup::Ending::Interrupted)
                    .then(|| INTERRUPTED.to_owned());
                self.seen(ended, &mut notes, |after| work.notes(after));
            }
            Taken::Balloon(work) => {
                let ended = (work.blown.ending == balloon::Ending::Interrupted)
                    .then(|| INTERRUPTED.to_owned());
                self.seen(ended, &mut notes, |after| work.notes(after));
            }
        }
        notes
    }

    /// What the two samples tell, whatever the method, and what the method itself has to say.
    fn seen(
        &self,
        ended: Option<String>,
        notes: &mut Vec<String>,
        own: impl FnOnce(&Rollup) -> Vec<String>,
    ) {
        let Some(after) = self.after() else {
            notes.push("the process ended meanwhile, and its memory went with it".to_owned());
            return;
        };
        notes.extend(ended);
        let (before, grown) = (&self.before, self.swap_grown_bytes().unwrap_or(0));
        if grown > 0 {
            notes.push(format!(
                "Swap grew by {}: memory in use went there with the rest",
                Bytes(grown)
            ));
        }
        let lazy = before.lazyfree_bytes.saturating_sub(after.lazyfree_bytes);
        let rss = before.rss_bytes.saturating_sub(after.rss_bytes);
        if lazy >= rss.saturating_add(WORTH_TELLING) {
            notes.push(format!(
                "RSS fell by {} less than LazyFree: the program wrote to that memory, or took other memory, meanwhile",
                Bytes(lazy - rss)
            ));
        }
        notes.extend(own(&after));
    }
}

const INTERRUPTED: &str = "stopped by a signal before the end";

/// What MADV_PAGEOUT left.
fn of_work(work: &Work, after: &Rollup) -> Vec<String> {
    let mut notes = Vec::new();
    if work.refused > 0 {
        notes.push(format!(
            "{} had been unmapped or changed meanwhile",
            counted(work.refused, "range")
        ));
    }
    let known = work
        .found
        .locked_bytes
        .saturating_add(work.found.other_bytes);
    let left = after.lazyfree_bytes.saturating_sub(known);
    if left > 0 && work.ending == Ending::Done {
        notes.push(format!(
            "{} is still lazily free: freed only now, shared with a forked child, or in a CPU's batch where the kernel does not take it",
            Bytes(left)
        ));
    }
    notes.extend(out_of_reach(&work.found));
    notes
}

/// What is lazily free and cannot be asked for.
fn out_of_reach(found: &LazyMappings) -> Vec<String> {
    let mut notes = Vec::new();
    if found.locked_bytes > 0 {
        notes.push(format!(
            "{} is lazily free in locked memory (mlock), of which the kernel takes nothing",
            Bytes(found.locked_bytes)
        ));
    }
    if found.other_bytes > 0 {
        notes.push(format!(
            "{} is lazily free in mappings that are not private and anonymous, which were left out",
            Bytes(found.other_bytes)
        ));
    }
    if found.skipped > 0 {
        notes.push(format!(
            "{} beyond the first were left out",
            counted(found.skipped, "mapping")
        ));
    }
    notes
}
