//! Whom a run is about once everything is attached: not who got a target's pid meanwhile, and also who
//! shares a target's memory.

use anyhow::bail;

use super::targets::Running;
use super::tracker::Tracker;
use crate::attach::{Attached, Sharing};
use crate::proc;
use crate::say::say;

/// The targets that live. From here on the kernel side sees each end; what it recorded under the
/// pid of one that had ended before is somebody else's.
///
/// # Errors
/// When none is left.
pub fn still_there(
    targets: Vec<Running>,
    tracker: &mut Tracker,
    attached: &mut Attached,
) -> anyhow::Result<Vec<Running>> {
    let (there, gone): (Vec<_>, Vec<_>) = targets.into_iter().partition(Running::lives);
    let ended: Vec<String> = gone
        .iter()
        .map(|target| {
            format!(
                "process {} ended while memtrace attached",
                target.process.pid
            )
        })
        .collect();
    if there.is_empty() {
        bail!("{}: there is nothing to trace", ended.join("; "));
    }
    for (target, why) in gone.iter().zip(ended) {
        attached.leave(target.process.pid);
        tracker.pass_over(target.process.pid);
        say(format_args!("{why}: the others are traced"));
        tracker.notes.push(format!("{why} and is not traced"));
    }
    Ok(there)
}

/// Who shares the memory of which target.
pub struct Beside {
    sharing: Sharing,
}

impl Beside {
    /// Takes what attaching found, and leaves alone whom it does not concern (any more).
    pub fn of(
        mut sharing: Sharing,
        targets: &[Running],
        tracker: &mut Tracker,
        attached: &mut Attached,
    ) -> Self {
        for pid in sharing.left.drain(..) {
            tracker.pass_over(pid);
        }
        let is_target = |pid: &u32| targets.iter().any(|one| one.process.pid == *pid);
        sharing.groups.retain_mut(|group| {
            // A target that ended is in it no more, nor are others for its sake.
            let concerned = group.iter().any(is_target);
            if !concerned {
                for pid in group.drain(..) {
                    attached.leave(pid);
                    tracker.pass_over(pid);
                }
            }
            // The first target stands for all of them.
            group.sort_by_key(|pid| {
                targets
                    .iter()
                    .position(|one| one.process.pid == *pid)
                    .unwrap_or(usize::MAX)
            });
            concerned
        });
        Self { sharing }
    }

    /// The other process that a target's memory goes by, if there is one before it.
    pub fn stands_for(&self, pid: u32) -> Option<u32> {
        let group = self
            .sharing
            .groups
            .iter()
            .find(|group| group.contains(&pid))?;
        group.first().copied().filter(|first| *first != pid)
    }

    /// Tells the ledger of all of them, once it knows the targets that stand for them.
    pub fn begin(self, targets: &[Running], begin_ns: u64, tracker: &mut Tracker) {
        for group in &self.sharing.groups {
            let Some((first, others)) = group.split_first() else {
                continue;
            };
            for pid in others {
                let named = targets.iter().find(|one| one.process.pid == *pid);
                let start_ticks = named.map_or_else(
                    || proc::stat::read(*pid).ok().map(|stat| stat.start_ticks),
                    |named| Some(named.process.start_ticks),
                );
                if let Some(start_ticks) = start_ticks {
                    tracker.remember(*pid, start_ticks);
                }
                tracker.begin_beside(*pid, *first, begin_ns, named.is_some());
            }
        }
        for (pid, why) in self.sharing.doubts {
            tracker.doubt(pid, why);
        }
    }
}
