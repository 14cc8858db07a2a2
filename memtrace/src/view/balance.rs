//! What became of what MADV_FREE marked: still lazy, taken by the kernel, reused silently, or dropped.

use crate::ledger::lazy::Lazy;
use crate::ledger::space::PAGE;
use crate::ledger::totals::{Basis, RssHistory};

/// What became of the memory that MADV_FREE marked, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Balance {
    /// Lazily free before the trace or marked in it, each time anew that it was; an upper bound. What is
    /// marked once more may have been written in between, and else nothing is new.
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
    /// several CPUs changed the counters at once; `LowerBound` where some may have been taken
    /// before anyone counted; or `UpperBound` where reclaim may have taken other memory too.
    pub reclaimed_basis: Basis,
    /// Refaults prove this much, counted or not.
    pub reclaimed_at_least_bytes: u64,
    /// More the whole machine has not lost; None where the kernel does not count it.
    pub reclaimed_at_most_bytes: Option<u64>,
    /// Written again without a fault, dropped, or never there when it was marked: an upper bound of what
    /// was reused. None unless the kernel's part is known and the last look came after the last MADV_FREE.
    pub reused_silently_bytes: Option<u64>,
    /// What of that nothing else explains; a lower bound, None like the other. What MADV_FREE skipped
    /// since it lay on no list of the kernel's yet counts as written again: it is as resident.
    pub reused_at_least_bytes: Option<u64>,
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
        let taken = lazy.taken;
        let reclaimed = taken.map(|taken| taken.dropped_bytes);
        // What smaps shows, and what the kernel took, was marked by someone, seen or not.
        let seen_now = sampled.unwrap_or(0).saturating_add(reclaimed.unwrap_or(0));
        let once = marked.max(seen_now);
        let marked = lazy
            .marks_bytes()
            .saturating_add(lazy.before_error_bytes)
            .max(seen_now);
        let agrees = taken.is_some_and(|taken| {
            taken.uncounted_bytes == 0 && outside.machine_bytes == Some(taken.dropped_bytes)
        });
        // What others than MADV_FREE let reclaim take counts as well; of that the machine's count has what
        // is droppable, and no zeroes.
        let others = lazy.droppable || (lazy.zeroes && !agrees);
        // A bound, as all of it: with what was taken before anyone counted.
        let before = taken.map_or(0, |taken| taken.uncounted_bytes);
        let reclaimed = match (reclaimed, outside.machine_bytes) {
            (Some(reclaimed), _) if lazy.droppable => Some(reclaimed.saturating_add(before)),
            (Some(reclaimed), Some(machine)) if others => {
                Some(reclaimed.saturating_add(before).min(machine))
            }
            (Some(reclaimed), None) if others => Some(reclaimed.saturating_add(before)),
            (Some(reclaimed), Some(machine)) => Some(reclaimed.min(machine)),
            (reclaimed, _) => reclaimed,
        };
        let basis = match taken {
            Some(_) if others => Basis::UpperBound,
            Some(taken) if taken.uncounted_bytes > 0 => Basis::LowerBound,
            Some(taken) if outside.machine_bytes != Some(taken.dropped_bytes) => Basis::Measured,
            _ => Basis::Exact,
        };
        let exact = taken.filter(|_| basis == Basis::Exact);
        // Where several CPUs change the counters at once, a few pages pass for others' doing: less
        // than half a percent where it was tried.
        let at_least = match (exact, taken) {
            (Some(taken), _) => taken.dropped_bytes,
            (None, Some(_)) if others => 0,
            (None, Some(taken)) => {
                let counted = reclaimed.unwrap_or(taken.dropped_bytes);
                let least = counted - counted / 100;
                least - least % PAGE
            }
            (None, None) => 0,
        };
        // A refault proves that its page was taken, if it was there when it was marked.
        let proven = match lazy.perhaps_bytes {
            0 => outside.refaulted_bytes,
            _ => 0,
        };
        let at_least = at_least.max(proven);
        let at_most = match exact {
            Some(taken) => Some(taken.dropped_bytes),
            // More than the whole machine has lost it can't be.
            None => outside.machine_bytes,
        };
        // Where the machine lost nothing, neither did this process.
        let reclaimed = reclaimed.or((at_most == Some(0)).then_some(0));
        // What was marked after the last look nobody looked at.
        let seen = rss.last_rollup.filter(|rollup| {
            lazy.last_marked_ns
                .is_none_or(|marked| marked < rollup.at_ns)
        });
        let error = rss
            .last_rollup
            .map_or(0, |rollup| rollup.lazyfree_error_bytes);
        let rest = |marked: u64| {
            marked
                .saturating_sub(sampled.unwrap_or(0))
                .saturating_sub(reclaimed.unwrap_or(0))
        };
        // What CPUs hold back is lazily free soon, and what was never there can't be written again.
        let doubt = error
            .saturating_add(lazy.perhaps_bytes)
            .saturating_add(match (basis, taken) {
                (Basis::LowerBound, Some(taken)) => taken.uncounted_bytes,
                (Basis::Measured, Some(taken)) => taken.dropped_bytes / 100,
                _ => 0,
            });
        let surely_reclaimed = match basis {
            Basis::UpperBound => at_least,
            _ => reclaimed.unwrap_or(0),
        };
        let rest_at_most = marked
            .saturating_sub(sampled.unwrap_or(0))
            .saturating_sub(surely_reclaimed);
        let before_end = lazy.dropped_bytes.saturating_sub(lazy.ended_bytes);
        let known = seen.filter(|_| reclaimed.is_some());
        // What went with the process was lazily free as far as the last look showed it.
        let gone_lazy = match (outside.ended, seen) {
            (false, _) => 0,
            (true, Some(_)) => sampled.unwrap_or(0),
            (true, None) => lazy.ended_bytes.saturating_add(lazy.before_error_bytes),
        };
        let went = match gone_lazy {
            0 => 0,
            bytes => bytes.saturating_add(error).min(lazy.ended_bytes.max(bytes)),
        };
        Some(Self {
            marked_bytes: marked,
            before_bytes: lazy.before_bytes,
            still_lazy_bytes: if outside.ended {
                sampled.map(|_| 0)
            } else {
                sampled
            },
            still_lazy_error_bytes: error.min(marked),
            reclaimed_bytes: reclaimed,
            reclaimed_basis: basis,
            reclaimed_at_least_bytes: at_least,
            reclaimed_at_most_bytes: at_most.map(|most| most.max(at_least)),
            reused_silently_bytes: known.map(|_| rest_at_most),
            reused_at_least_bytes: known.map(|_| {
                rest(once)
                    .saturating_sub(before_end)
                    .saturating_sub(doubt.next_multiple_of(PAGE))
                    .max(lazy.reused_at_least_bytes())
                    .min(rest_at_most)
            }),
            dropped_bytes: before_end.min(marked).saturating_add(went),
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
        assert_eq!(balance.reused_silently_bytes, Some(30 * M));
        // Less what CPUs may hold back, and a hundredth of what was counted.
        let doubt = (62 * 4096 + 30 * M / 100).next_multiple_of(4096);
        assert_eq!(balance.reused_at_least_bytes, Some(25 * M - doubt));
        assert_eq!(balance.still_lazy_error_bytes, 62 * 4096);
        // The machine lost more, and so it may have been a little less or more.
        assert_eq!(
            balance.reclaimed_at_least_bytes,
            (30 * M - 30 * M / 100) / 4096 * 4096
        );
        assert_eq!(balance.reclaimed_at_most_bytes, Some(500 * M));
    }

    #[test]
    fn zeroes_of_larger_folios_may_pass_for_reclaimed_where_the_machine_does_not_agree() {
        let lazy = Lazy {
            marked_bytes: 90 * M,
            zeroes: true,
            taken: taken(30 * M, 0),
            ..Lazy::default()
        };
        let of = |machine: u64| {
            let outside = Outside {
                machine_bytes: Some(machine),
                ..outside()
            };
            Balance::of(&lazy, &rss(40 * M), &outside).unwrap()
        };
        let balance = of(20 * M);
        assert_eq!(balance.reclaimed_basis, Basis::UpperBound);
        assert_eq!(balance.reclaimed_bytes, Some(20 * M));
        assert_eq!(balance.reclaimed_at_least_bytes, 0);
        assert_eq!(balance.reused_silently_bytes, Some(50 * M));
        let balance = of(30 * M);
        assert_eq!(balance.reclaimed_basis, Basis::Exact);
        assert_eq!(balance.reclaimed_at_least_bytes, 30 * M);
        assert_eq!(balance.reused_silently_bytes, Some(20 * M));
    }

    #[test]
    fn what_is_marked_once_more_may_have_been_reused_each_time() {
        let lazy = Lazy {
            marked_bytes: 64 * M,
            marked_again_bytes: 9 * 64 * M,
            taken: taken(0, 0),
            ..Lazy::default()
        };
        let balance = Balance::of(&lazy, &rss(64 * M), &outside()).unwrap();
        assert_eq!(balance.marked_bytes, 640 * M);
        assert_eq!(balance.reused_silently_bytes, Some(576 * M));
        assert_eq!(balance.reused_at_least_bytes, Some(0));
    }

    #[test]
    fn what_was_marked_after_the_last_look_may_all_have_gone_with_the_process() {
        let lazy = Lazy {
            marked_bytes: 64 * M,
            dropped_bytes: 64 * M,
            ended_bytes: 64 * M,
            last_marked_ns: Some(5),
            taken: taken(0, 0),
            ..Lazy::default()
        };
        let ended = Outside {
            ended: true,
            ..outside()
        };
        let balance = Balance::of(&lazy, &rss(14 * M), &ended).unwrap();
        assert_eq!(balance.still_lazy_bytes, Some(0));
        assert_eq!(balance.dropped_bytes, 64 * M);
        assert_eq!(balance.reused_silently_bytes, None);
    }

    #[test]
    fn what_the_kernel_took_is_not_cut_to_what_was_seen_marked() {
        let lazy = Lazy {
            marked_bytes: 48 * M,
            taken: taken(256 * M, 0),
            ..Lazy::default()
        };
        let balance = Balance::of(&lazy, &rss(0), &outside()).unwrap();
        assert_eq!(balance.reclaimed_bytes, Some(256 * M));
        assert_eq!(balance.marked_bytes, 256 * M);
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
        assert_eq!(
            balance.reclaimed_at_least_bytes,
            (30 * M - 30 * M / 100) / 4096 * 4096
        );
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
        // And what CPUs held back.
        assert_eq!(balance.dropped_bytes, 60 * M + 62 * 4096);
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
        fn each_part_is_no_more_than_what_was_marked(
            before in 0..M, marked in 0..M, again in 0..M, dropped in 0..M, ended_bytes in 0..M,
            sampled in 0..2 * M, took in 0..2 * M, ended: bool,
        ) {
            let lazy = Lazy {
                before_bytes: Some(before),
                marked_bytes: marked,
                marked_again_bytes: again,
                dropped_bytes: dropped + ended_bytes,
                ended_bytes,
                taken: taken(took, 0),
                ..Lazy::default()
            };
            let outside = Outside { ended, ..outside() };
            if let Some(balance) = Balance::of(&lazy, &rss(sampled), &outside) {
                let still = balance.still_lazy_bytes.unwrap();
                let most = balance.reused_silently_bytes.unwrap();
                let least = balance.reused_at_least_bytes.unwrap();
                prop_assert_eq!(balance.reclaimed_bytes, Some(took));
                prop_assert!(still + took <= balance.marked_bytes);
                prop_assert!(least <= most && most + sampled + took == balance.marked_bytes);
            }
        }
    }
}
