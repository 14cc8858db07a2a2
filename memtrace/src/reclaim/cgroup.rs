//! `--method cgroup`: how much is asked of memory.reclaim, how often, and when to stop. The kernel is behind a trait.

mod live;
mod notes;

use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;

pub(super) use live::{Group, Refusal, shown};

use crate::proc::cgroup::place::Charged;
use crate::proc::page_bytes;
use crate::proc::smaps::Rollup;

/// Asked for at a time: Ctrl-C is answered after it.
const STEP: u64 = 64 << 20;
/// So often in a row the kernel may say that it could not take all, and LazyFree be no less.
const MOST_IN_VAIN: u32 = 3;

/// What is asked of a kernel. The process may end at any moment: then its sums are `None`.
pub(super) trait Kernel {
    /// Has so much taken from the cgroup; EAGAIN where it was less.
    fn reclaim(&mut self, bytes: u64) -> io::Result<()>;
    /// Of the process.
    fn sums(&mut self) -> io::Result<Option<Rollup>>;
}

/// Why it stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Nothing is lazily free any more.
    Done,
    /// The kernel could take no more, and what is left does not shrink.
    InVain,
    /// As much was asked for as could be taken before the first byte in use.
    AskedAll,
    /// The process has ended meanwhile.
    Gone,
    /// By whoever watches.
    Interrupted,
}

impl Ending {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Done => "lazyfree_gone",
            Self::InVain => "no_progress",
            Self::AskedAll => "asked_all",
            Self::Gone => "process_ended",
            Self::Interrupted => "signal",
        }
    }
}

/// What was asked, and what came of it for the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Squeeze {
    pub(super) ending: Ending,
    /// `None` where the process has ended.
    pub(super) after: Option<Rollup>,
    pub(super) asked_bytes: u64,
    pub(super) calls: u64,
}

/// Which cgroup it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// Not escaped.
    pub(super) dir: PathBuf,
    /// Processes in it beside the one that is meant.
    pub(super) others: u64,
    /// memtrace is one of them.
    pub(super) ourselves: bool,
    /// The kernel takes swappiness=0, so that nothing is swapped out.
    pub(super) swappiness: bool,
    /// Without --allow-swap it would be refused where this is not 0.
    pub(super) swap_room_bytes: u64,
    pub(super) charged: Charged,
}

/// All of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Work {
    pub(super) plan: Plan,
    pub(super) squeeze: Squeeze,
    pub(super) charged_after: Charged,
}

impl Work {
    /// How much less page cache the cgroup has; `None` where it does not say.
    pub(super) fn cache_lost_bytes(&self) -> Option<u64> {
        let before = self.plan.charged.file_bytes?;
        Some(before.saturating_sub(self.charged_after.file_bytes?))
    }
}

/// Asks until nothing of the process is lazily free any more, or asking changes nothing.
///
/// Lazily freed pages lie on one list with the cgroup's page cache, behind what was there before
/// them: so more may have to be asked for than is lazily free, but never more than the list holds, and a step.
///
/// # Errors
/// Those of memory.reclaim, but for what it says of a single call; and those of reading /proc.
pub(super) fn squeeze(
    kernel: &mut impl Kernel,
    before: Rollup,
    inactive_bytes: Option<u64>,
    mut watch: impl FnMut(u64) -> ControlFlow<()>,
) -> io::Result<Squeeze> {
    let mut squeeze = Squeeze {
        ending: Ending::Done,
        after: Some(before),
        asked_bytes: 0,
        calls: 0,
    };
    let mut lazy = before.lazyfree_bytes;
    let most = inactive_bytes.unwrap_or(0).max(lazy).saturating_add(STEP);
    let mut in_vain = 0;
    // Since the last look.
    let mut asked = 0;
    while lazy > 0 {
        if watch(lazy).is_break() {
            squeeze.ending = Ending::Interrupted;
            break;
        }
        let left = most.saturating_sub(squeeze.asked_bytes);
        if left < page_bytes() {
            squeeze.ending = Ending::AskedAll;
            break;
        }
        // A look walks the process's page tables: not after each of many steps.
        let until_look = (lazy / 4 / STEP * STEP).max(STEP).min(lazy);
        let step = (until_look - asked).min(STEP).min(left);
        let short = match kernel.reclaim(step) {
            Ok(()) => false,
            Err(error) => match error.raw_os_error() {
                Some(libc::EAGAIN) => true,
                // Whoever watches knows of the signal.
                Some(libc::EINTR) => continue,
                _ => return Err(error),
            },
        };
        squeeze.calls += 1;
        squeeze.asked_bytes += step;
        asked += step;
        if !short && asked < until_look {
            continue;
        }
        asked = 0;
        squeeze.after = kernel.sums()?;
        let Some(after) = squeeze.after else {
            squeeze.ending = Ending::Gone;
            return Ok(squeeze);
        };
        in_vain = match short && after.lazyfree_bytes >= lazy {
            true => in_vain + 1,
            false => 0,
        };
        lazy = after.lazyfree_bytes;
        if in_vain == MOST_IN_VAIN {
            squeeze.ending = Ending::InVain;
            break;
        }
    }
    // What was lazily free at the last look may be gone by now.
    squeeze.after = kernel.sums()?;
    if squeeze.after.is_none() {
        squeeze.ending = Ending::Gone;
    }
    Ok(squeeze)
}

#[cfg(test)]
mod tests;
