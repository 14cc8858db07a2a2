//! The three ways to have the kernel take what is lazily free in one process: what each looks at, refuses and does.

use super::error::ReclaimError;
use super::kernel::Live;
use super::outcome::{DryRun, Plan, Taken};
use super::progress::Shown;
use super::work::{self, Kernel as _, Refusal};
use super::{balloon, cgroup, stop, swap};
use crate::config::{Method, Reclaim};
use crate::proc::lazy::{LazyMapping, LazyMappings};
use crate::proc::pressure;
use crate::proc::smaps::Rollup;
use crate::say::say;
use crate::units::Bytes;

/// A process that holds something, and what was asked for.
pub(super) struct Subject<'a> {
    pub(super) pid: u32,
    pub(super) live: &'a mut Live,
    pub(super) before: Rollup,
    pub(super) config: &'a Reclaim,
}

impl Subject<'_> {
    /// By the method that was asked for.
    pub(super) fn take(self) -> Result<Taken, ReclaimError> {
        match self.config.method {
            Method::Pageout => self.page_out(),
            Method::Cgroup { whole } => self.by_cgroup(whole),
            Method::Balloon { max_bytes } => self.by_balloon(max_bytes),
        }
    }

    fn found(&mut self) -> Result<LazyMappings, ReclaimError> {
        let read = self.live.mappings().map_err(Refusal::Read);
        read.map_err(|why| ReclaimError::Refused(self.pid, why))?
            .ok_or(ReclaimError::Ended(self.pid))
    }

    fn page_out(mut self) -> Result<Taken, ReclaimError> {
        let pid = self.pid;
        let refused = |why| ReclaimError::Refused(pid, why);
        let found = self.found()?;
        let swap_room_bytes = match self.config.allow_swap {
            true => 0,
            false => swap::room(pid),
        };
        if self.config.dry_run {
            return Ok(Taken::DryRun(DryRun {
                found,
                plan: Plan::Pageout { swap_room_bytes },
            }));
        }
        if swap_room_bytes > 0 && !found.list.is_empty() {
            let in_use = |one: &LazyMapping| one.rss_bytes.saturating_sub(one.lazyfree_bytes);
            return Err(ReclaimError::Swap {
                pid,
                room_bytes: swap_room_bytes,
                other_bytes: found.list.iter().map(in_use).fold(0, u64::saturating_add),
            });
        }
        if !work::ask(self.live).map_err(refused)? {
            return Err(ReclaimError::Ended(pid));
        }
        let mut shown = Shown::new(self.config.progress, pid);
        let work = work::take(self.live, self.before, found, |progress| {
            shown.show(progress);
            stop::flow()
        })
        .map_err(refused)?;
        Ok(Taken::Done(work))
    }

    fn by_cgroup(mut self, whole: bool) -> Result<Taken, ReclaimError> {
        let pid = self.pid;
        let refused = |why| ReclaimError::Cgroup(pid, why);
        let mut group = cgroup::Group::of(pid)
            .map_err(refused)?
            .ok_or(ReclaimError::Ended(pid))?;
        let allowed = group.allowed(whole, self.config.allow_swap);
        if self.config.dry_run {
            let plan = group.plan.clone();
            return Ok(Taken::DryRun(DryRun {
                found: self.found()?,
                plan: Plan::Cgroup {
                    plan,
                    refused: allowed.err().map(|why| why.to_string()),
                },
            }));
        }
        allowed.map_err(refused)?;
        let mut shown = Shown::new(self.config.progress, pid);
        let whole_bytes = self.before.lazyfree_bytes;
        let inactive_bytes = group.plan.charged.inactive_file_bytes;
        let dir = group.plan.dir.clone();
        let mut kernel = group.with(self.live);
        let squeeze = cgroup::squeeze(&mut kernel, self.before, inactive_bytes, |left| {
            shown.say(|| {
                let taken = whole_bytes.saturating_sub(left);
                format!(
                    "{} of {} is not lazily free any more",
                    Bytes(taken),
                    Bytes(whole_bytes)
                )
            });
            stop::flow()
        })
        .map_err(|error| refused(cgroup::Refusal::Failed(dir, error)))?;
        drop(kernel);
        Ok(Taken::Cgroup(cgroup::Work {
            charged_after: group.charged(),
            plan: group.plan,
            squeeze,
        }))
    }

    fn by_balloon(mut self, max_bytes: u64) -> Result<Taken, ReclaimError> {
        let pid = self.pid;
        let refused = |why| ReclaimError::Balloon(pid, why);
        let read = |error| refused(balloon::Refusal::Failed(error));
        let (room, info) = balloon::rooms().map_err(read)?;
        let plan = balloon::Plan {
            max_bytes,
            room,
            swap_room_bytes: match self.config.allow_swap {
                true => 0,
                false => swap::room_of_all(),
            },
            pressure_known: pressure::memory().is_ok(),
        };
        if self.config.dry_run {
            return Ok(Taken::DryRun(DryRun {
                found: self.found()?,
                plan: Plan::Balloon(plan),
            }));
        }
        if plan.swap_room_bytes > 0 {
            return Err(refused(balloon::Refusal::Swap(plan.swap_room_bytes)));
        }
        for warning in plan.warnings(self.before.lazyfree_bytes) {
            say(warning);
        }
        let mut shown = Shown::new(self.config.progress, pid);
        let blown = balloon::blow_live(self.live, self.before, &plan, |held| {
            shown.say(|| format!("the balloon holds {} of {}", Bytes(held), Bytes(max_bytes)));
            stop::flow()
        })
        .map_err(refused)?;
        drop(shown);
        let (_, after) = balloon::rooms().map_err(read)?;
        Ok(Taken::Balloon(balloon::Work {
            plan,
            blown,
            cached_before_bytes: info.cached_bytes,
            cached_after_bytes: after.cached_bytes,
        }))
    }
}
