//! The balance of MADV_FREE in one address space: what was marked, and what is known to have become of it.

use super::event::Rollup;
use super::states::Found;
use super::totals::{Basis, Released, add};

/// Running sums, in bytes. What is still lazily free is sampled; what the kernel took comes with
/// [`Taken`](super::event::Taken); what is left of the sum was written again without a fault.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lazy {
    /// Lazily free when the trace began, as smaps showed it; None where it was not read in time.
    pub before_bytes: Option<u64>,
    /// By how much that look may have been too low: what CPUs held back. 0 where none was needed.
    pub before_error_bytes: u64,
    /// There are or were MAP_DROPPABLE mappings, whose pages reclaim takes like lazily free ones.
    pub droppable: bool,
    /// There may be larger folios, of which reclaim takes pages that hold only zeroes as well.
    pub zeroes: bool,
    /// Lazily free on pages that are not known, and not known to be gone: from before the trace, or by a
    /// call that took effect nobody knows how far.
    pub unplaced_bytes: u64,
    /// Marked by the parent, before the fork.
    pub inherited_bytes: u64,
    /// Marked for the first time: pages that were, or may have been, populated, and not marked
    /// before. An upper bound: the kernel skips pages that are locked, shared, or not on its lists
    /// yet (mm/madvise.c:madvise_free_pte_range).
    pub marked_bytes: u64,
    /// The part of it that may never have been there: populated before the trace, if at all.
    pub perhaps_bytes: u64,
    /// Given to MADV_FREE while marked. What had been written again by then, without a fault, is marked
    /// once more, and else nothing changes: an upper bound of what was reused before it.
    pub marked_again_bytes: u64,
    /// Ended while marked: dropped by DONTNEED and the like, unmapped, or gone by exec or exit.
    /// An upper bound of what was lazily free at that time.
    pub dropped_bytes: u64,
    /// The part of `dropped_bytes` that was marked to the end of the address space.
    pub ended_bytes: u64,
    /// Written again without a fault, as far as looks in the course of the trace showed: what was
    /// neither lazily free then, nor taken, nor dropped. A lower bound.
    pub reused_bytes: u64,
    /// Marked, and not seen to be gone since: an upper bound of what is lazily free now.
    pub outstanding_bytes: u64,
    /// When the first MADV_FREE entered that marked something while nothing was marked.
    pub since_ns: Option<u64>,
    /// When the last MADV_FREE came back that marked something.
    pub last_marked_ns: Option<u64>,
    /// What the kernel took, as far as that was counted.
    pub taken: Option<super::event::Taken>,
}

impl Lazy {
    /// A FREE marked what it found.
    pub(super) fn mark(&mut self, found: Found, enter_ns: u64, exit_ns: u64) {
        // What is lazily free nobody knows where is in the sum already.
        let again = found.perhaps.min(self.unplaced_bytes);
        self.unplaced_bytes -= again;
        add(
            &mut self.marked_bytes,
            found.populated + found.perhaps - again,
        );
        add(&mut self.perhaps_bytes, found.perhaps - again);
        add(&mut self.marked_again_bytes, found.lazy + again);
        if found.most() > 0 {
            self.since_ns.get_or_insert(enter_ns);
            self.last_marked_ns = self.last_marked_ns.max(Some(exit_ns));
        }
    }

    /// A FREE marked a part of what it found, or nothing, and nothing tells which.
    pub(super) fn perhaps_mark(&mut self, found: Found, enter_ns: u64, exit_ns: u64) {
        self.mark(found, enter_ns, exit_ns);
        add(&mut self.perhaps_bytes, found.populated);
        add(&mut self.unplaced_bytes, found.most());
    }

    /// A call, or the end of the address space, dropped what it found.
    pub(super) fn drop(&mut self, found: Found) {
        let before = found.perhaps.min(self.unplaced_bytes);
        self.unplaced_bytes -= before;
        add(&mut self.dropped_bytes, found.lazy + before);
    }

    /// What was lazily free before the trace, by the first look.
    pub(super) fn found_before(&mut self, bytes: u64, error_bytes: u64) {
        if self.before_bytes.is_none() {
            self.before_error_bytes = error_bytes;
            self.before_bytes = Some(bytes);
            self.unplaced_bytes = bytes;
        }
    }

    /// A look at smaps tells what of it was written again.
    pub(super) fn look(&mut self, rollup: &Rollup) {
        let Some(taken) = self.taken else { return };
        // What was marked since the look began it does not show.
        if self
            .last_marked_ns
            .is_some_and(|marked| marked >= rollup.at_ns)
        {
            return;
        }
        let elsewhere = [
            rollup.lazyfree_bytes,
            rollup.lazyfree_error_bytes,
            taken.dropped_bytes,
            taken.uncounted_bytes,
            self.dropped_bytes,
        ]
        .into_iter()
        .fold(0, u64::saturating_add);
        // It can't be more than there is.
        let there = rollup.anonymous_bytes.saturating_sub(rollup.lazyfree_bytes);
        let reused = self.ever_bytes().saturating_sub(elsewhere).min(there);
        self.reused_bytes = self.reused_bytes.max(reused);
    }

    /// What looks showed to be written again, less what may never have been there.
    pub fn reused_at_least_bytes(&self) -> u64 {
        self.reused_bytes.saturating_sub(self.perhaps_bytes)
    }

    /// The most that was marked in all, each time that it was.
    pub fn marks_bytes(&self) -> u64 {
        self.ever_bytes().saturating_add(self.marked_again_bytes)
    }

    /// The most that may have been lazily free at some time: 0 says that nothing ever was.
    pub fn ever_bytes(&self) -> u64 {
        self.before_bytes
            .unwrap_or(0)
            .saturating_add(self.inherited_bytes)
            .saturating_add(self.marked_bytes)
    }
}

/// What a call released that drops pages at once.
pub(super) fn dropped(found: Found) -> Released {
    let doubtful = found.perhaps + found.lazy;
    Released {
        bytes: found.most(),
        least_bytes: found.populated,
        basis: if doubtful > 0 {
            Basis::UpperBound
        } else {
            Basis::Derived
        },
    }
}

/// What a FREE released: what it newly marked. What was marked before may have been written
/// again without a fault, and then it is marked anew.
pub(super) fn marked(found: Found) -> Released {
    Released {
        bytes: found.most(),
        // Each may be locked, shared, or not on the kernel's lists yet.
        least_bytes: 0,
        basis: Basis::UpperBound,
    }
}
