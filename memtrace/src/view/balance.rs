//! The sum of MADV_FREE: marked = still lazy + taken by the kernel + reused silently + dropped.

use crate::ledger::lazy::Lazy;
use crate::ledger::totals::{Basis, RssHistory};

/// What became of the memory that MADV_FREE marked, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Balance {
    /// Lazily free before the trace or marked in it; an upper bound.
    pub marked_bytes: u64,
    /// The part that was lazily free before the trace; None where that was not read in time.
    pub before_bytes: Option<u64>,
    /// Lazily free at the last look; None where nobody looked, 0 where the process has ended.
    pub still_lazy_bytes: Option<u64>,
    /// How much more or less it may be, at the time of the look.
    pub still_lazy_error_bytes: u64,
    /// What the kernel took; None where that was not counted.
    pub reclaimed_bytes: Option<u64>,
    /// `Exact` where the machine's own count agrees; `Measured`, which may be a few pages off where
    /// several CPUs changed the counters at once; or `LowerBound` where some may have been taken
    /// before anyone counted.
    pub reclaimed_basis: Basis,
    /// Refaults prove this much, counted or not.
    pub reclaimed_at_least_bytes: u64,
    /// More the whole machine has not lost; None where the kernel does not count it.
    pub reclaimed_at_most_bytes: Option<u64>,
    /// Written again without a fault, or never there when it was marked; None unless all other parts
    /// are known and the last look came after the last MADV_FREE. An upper bound.
    pub reused_silently_bytes: Option<u64>,
    /// Dropped or unmapped while marked, or gone with the process; an upper bound.
    pub dropped_bytes: u64,
}

/// What a balance is made of beside the ledger's sums.
#[derive(Clone, Copy, Debug)]
pub struct Outside {
    /// What came back by a refault after MADV_FREE.
    pub refaulted_bytes: u64,
    /// What reclaim took of all processes' lazily freed memory during the run.
    pub machine_bytes: Option<u64>,
    /// The address space has ended.
    pub ended: bool,
}

impl Balance {
    /// None where nothing was ever marked, as far as is known.
    pub fn of(lazy: &Lazy, rss: &RssHistory, outside: &Outside) -> Option<Self> {
        let marked = lazy.ever_bytes();
        let sampled = rss.lazyfree_bytes();
        let taken = lazy.taken.map_or(0, |taken| taken.dropped_bytes);
        if marked == 0 && taken == 0 && sampled.unwrap_or(0) == 0 {
            return None;
        }
        // What smaps shows was marked by someone, seen or not.
        let marked = marked.max(sampled.unwrap_or(0));
        let taken = lazy.taken;
        let reclaimed = taken.map(|taken| taken.dropped_bytes.min(marked));
        let basis = match taken {
            Some(taken) if taken.uncounted_bytes > 0 => Basis::LowerBound,
            Some(taken) if outside.machine_bytes != Some(taken.dropped_bytes) => Basis::Measured,
            _ => Basis::Exact,
        };
        let exact = taken.filter(|_| basis == Basis::Exact);
        // Where several CPUs change the counters at once, a few pages pass for others' doing: less
        // than half a percent where it was tried.
        let at_least = match (exact, taken) {
            (Some(taken), _) => taken.dropped_bytes,
            (None, Some(taken)) => taken.dropped_bytes - taken.dropped_bytes / 100,
            (None, None) => 0,
        };
        let at_least = at_least.max(outside.refaulted_bytes);
        let at_most = match exact {
            Some(taken) => Some(taken.dropped_bytes),
            // More than the whole machine has lost it can't be.
            None => outside.machine_bytes,
        };
        // Where the machine lost nothing, neither did this process.
        let reclaimed = reclaimed.or((at_most == Some(0)).then_some(0));
        let rest = marked
            .saturating_sub(sampled.unwrap_or(0))
            .saturating_sub(reclaimed.unwrap_or(0));
        // What went with the process was lazily free as far as the last look showed it.
        let dropped = lazy
            .dropped_bytes
            .saturating_sub(lazy.ended_bytes)
            .min(rest.saturating_sub(lazy.reused_bytes));
        // What was marked after the last look nobody looked at.
        let seen = rss.last_rollup.filter(|rollup| {
            lazy.last_marked_ns
                .is_none_or(|marked| marked < rollup.at_ns)
        });
        let reused = seen.filter(|_| reclaimed.is_some()).map(|_| rest - dropped);
        let gone_lazy = if outside.ended {
            sampled.unwrap_or(0)
        } else {
            0
        };
        Some(Self {
            marked_bytes: marked,
            before_bytes: lazy.before_bytes,
            still_lazy_bytes: sampled.map(|bytes| bytes - gone_lazy),
            still_lazy_error_bytes: rss
                .last_rollup
                .map_or(0, |rollup| rollup.lazyfree_error_bytes)
                .min(marked),
            reclaimed_bytes: reclaimed,
            reclaimed_basis: basis,
            reclaimed_at_least_bytes: at_least,
            reclaimed_at_most_bytes: at_most.map(|most| most.max(at_least)),
            reused_silently_bytes: reused,
            dropped_bytes: dropped + gone_lazy,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ledger::event::{Rollup, Taken};

    const M: u64 = 1 << 20;

    fn rss(lazyfree_bytes: u64) -> RssHistory {
        RssHistory {
            last_rollup: Some(Rollup {
                lazyfree_bytes,
                lazyfree_error_bytes: 62 * 4096,
                ..Rollup::default()
            }),
            ..RssHistory::default()
        }
    }

    fn outside() -> Outside {
        Outside {
            refaulted_bytes: 0,
            machine_bytes: Some(500 * M),
            ended: false,
        }
    }

    fn taken(dropped: u64, uncounted: u64) -> Option<Taken> {
        Some(Taken {
            dropped_bytes: dropped,
            uncounted_bytes: uncounted,
            ..Taken::default()
        })
    }

    #[test]
    fn what_is_left_of_the_sum_was_reused_silently() {
        let lazy = Lazy {
            before_bytes: Some(10 * M),
            marked_bytes: 90 * M,
            dropped_bytes: 5 * M,
            taken: taken(30 * M, 0),
            ..Lazy::default()
        };
        let balance = Balance::of(&lazy, &rss(40 * M), &outside()).unwrap();
        assert_eq!(balance.marked_bytes, 100 * M);
        assert_eq!(balance.still_lazy_bytes, Some(40 * M));
        assert_eq!(balance.reclaimed_bytes, Some(30 * M));
        assert_eq!(balance.reclaimed_basis, Basis::Measured);
        assert_eq!(balance.dropped_bytes, 5 * M);
        assert_eq!(balance.reused_silently_bytes, Some(25 * M));
        assert_eq!(balance.still_lazy_error_bytes, 62 * 4096);
        // The machine lost more, and so it may have been a little less or more.
        assert_eq!(balance.reclaimed_at_least_bytes, 30 * M - 30 * M / 100);
        assert_eq!(balance.reclaimed_at_most_bytes, Some(500 * M));
    }

    #[test]
    fn what_was_seen_reused_was_not_lazily_free_when_it_was_dropped() {
        let lazy = Lazy {
            marked_bytes: 90 * M,
            dropped_bytes: 90 * M,
            reused_bytes: 20 * M,
            taken: taken(30 * M, 0),
            ..Lazy::default()
        };
        let balance = Balance::of(&lazy, &rss(0), &outside()).unwrap();
        assert_eq!(balance.reused_silently_bytes, Some(20 * M));
        assert_eq!(balance.dropped_bytes, 40 * M);
    }

    #[test]
    fn a_count_with_which_the_machines_own_agrees_is_exact() {
        let lazy = Lazy {
            marked_bytes: 90 * M,
            taken: taken(30 * M, 0),
            ..Lazy::default()
        };
        let agrees = Outside {
            machine_bytes: Some(30 * M),
            ..outside()
        };
        let balance = Balance::of(&lazy, &rss(40 * M), &agrees).unwrap();
        assert_eq!(balance.reclaimed_basis, Basis::Exact);
        assert_eq!(balance.reclaimed_at_least_bytes, 30 * M);
        assert_eq!(balance.reclaimed_at_most_bytes, Some(30 * M));
    }

    #[test]
    fn what_was_marked_after_the_last_look_is_not_taken_for_reused() {
        let lazy = Lazy {
            marked_bytes: 90 * M,
            last_marked_ns: Some(5),
            taken: taken(0, 0),
            ..Lazy::default()
        };
        let balance = Balance::of(&lazy, &rss(40 * M), &outside()).unwrap();
        assert_eq!(balance.reused_silently_bytes, None);
    }

    #[test]
    fn what_was_taken_before_anyone_counted_makes_a_bound() {
        let lazy = Lazy {
            marked_bytes: 90 * M,
            taken: taken(30 * M, 2 * M),
            ..Lazy::default()
        };
        let balance = Balance::of(&lazy, &rss(0), &outside()).unwrap();
        assert_eq!(balance.reclaimed_basis, Basis::LowerBound);
        assert_eq!(balance.reclaimed_at_least_bytes, 30 * M - 30 * M / 100);
        assert_eq!(balance.reclaimed_at_most_bytes, Some(500 * M));
    }

    #[test]
    fn what_nobody_counted_is_unknown_but_bounded() {
        let lazy = Lazy {
            marked_bytes: 90 * M,
            ..Lazy::default()
        };
        let refaulted = Outside {
            refaulted_bytes: 7 * M,
            ..outside()
        };
        let balance = Balance::of(&lazy, &rss(40 * M), &refaulted).unwrap();
        assert_eq!(balance.reclaimed_bytes, None);
        assert_eq!(balance.reused_silently_bytes, None);
        assert_eq!(balance.reclaimed_at_least_bytes, 7 * M);
        assert_eq!(balance.reclaimed_at_most_bytes, Some(500 * M));
    }

    #[test]
    fn where_the_machine_lost_nothing_neither_did_the_process() {
        let lazy = Lazy {
            marked_bytes: 90 * M,
            ..Lazy::default()
        };
        let idle = Outside {
            machine_bytes: Some(0),
            ..outside()
        };
        let balance = Balance::of(&lazy, &rss(40 * M), &idle).unwrap();
        assert_eq!(balance.reclaimed_bytes, Some(0));
        assert_eq!(balance.reused_silently_bytes, Some(50 * M));
    }

    #[test]
    fn what_goes_with_the_process_is_dropped() {
        let lazy = Lazy {
            marked_bytes: 90 * M,
            dropped_bytes: 90 * M,
            ended_bytes: 90 * M,
            taken: taken(0, 0),
            ..Lazy::default()
        };
        let ended = Outside {
            ended: true,
            ..outside()
        };
        let balance = Balance::of(&lazy, &rss(60 * M), &ended).unwrap();
        assert_eq!(balance.still_lazy_bytes, Some(0));
        assert_eq!(balance.dropped_bytes, 60 * M);
        assert_eq!(balance.reused_silently_bytes, Some(30 * M));
    }

    #[test]
    fn nothing_marked_has_no_balance() {
        let outside = outside();
        assert_eq!(Balance::of(&Lazy::default(), &rss(0), &outside), None);
        let seen = Balance::of(&Lazy::default(), &rss(M), &outside).unwrap();
        assert_eq!(seen.marked_bytes, M);
    }

    proptest! {
        #[test]
        fn the_parts_always_make_the_sum(
            before in 0..M, marked in 0..M, dropped in 0..M, ended_bytes in 0..M,
            sampled in 0..2 * M, took in 0..2 * M, ended: bool,
        ) {
            let lazy = Lazy {
                before_bytes: Some(before),
                marked_bytes: marked,
                dropped_bytes: dropped + ended_bytes,
                ended_bytes,
                taken: taken(took, 0),
                ..Lazy::default()
            };
            let outside = Outside { ended, ..outside() };
            if let Some(balance) = Balance::of(&lazy, &rss(sampled), &outside) {
                let parts = balance.still_lazy_bytes.unwrap()
                    + balance.reclaimed_bytes.unwrap()
                    + balance.reused_silently_bytes.unwrap()
                    + balance.dropped_bytes;
                // More was taken than could have been marked only where nobody saw it marked.
                if sampled + took <= balance.marked_bytes {
                    prop_assert_eq!(parts, balance.marked_bytes);
                }
            }
        }
    }
}
