//! Runs of known figures, and what must be said of the other advice.

use proptest::prelude::*;

use super::*;
use crate::ledger::event::{Rollup, Taken};
use crate::ledger::totals::{ReleaseTotals, Released};
use crate::view::balance::Outside;

const M: u64 = 1 << 20;
const PAGES: u64 = M / PAGE;
const COST: FaultCost = FaultCost {
    mean_ns: 1000,
    least_ns: 900,
    most_ns: 1500,
};

struct Run {
    totals: Totals,
    lazy: Lazy,
    rss: RssHistory,
}

impl Run {
    fn what_if(&self) -> Option<WhatIf> {
        let outside = Outside {
            refaulted_bytes: 0,
            machine_bytes: self.lazy.taken.map(|taken| taken.dropped_bytes),
            ended: false,
        };
        let balance = Balance::of(&self.lazy, &self.rss, &outside);
        WhatIf::of(&Figures {
            totals: &self.totals,
            lazy: &self.lazy,
            balance: balance.as_ref(),
            rss: &self.rss,
            end_ns: 100,
            fault: Some(COST),
        })
    }

    fn to_dontneed(&self) -> ToDontneed {
        self.what_if()
            .and_then(|it| it.to_dontneed)
            .expect("it used MADV_FREE")
    }
}

fn released(bytes: u64) -> Option<Released> {
    Some(Released {
        least_bytes: bytes,
        bytes,
        basis: Basis::Derived,
    })
}

/// Marked 100 MiB, of which the kernel took 10 and 60 are still lazily free.
fn freed() -> Run {
    let mut totals = Totals::default();
    let free = totals.advice.entry(Advice::FREE).or_default();
    (free.calls, free.released) = (1, released(100 * M));
    let mut rss = RssHistory {
        last_rollup: Some(Rollup {
            at_ns: 90,
            rss_bytes: 200 * M,
            lazyfree_bytes: 60 * M,
            lazyfree_error_bytes: PAGE,
            ..Rollup::default()
        }),
        lazy_peak_bytes: Some(80 * M),
        ..RssHistory::default()
    };
    for (at_ns, mib) in [(0, 0), (50, 80), (90, 60)] {
        rss.lazy_trend.push(at_ns, mib * M);
    }
    Run {
        totals,
        lazy: Lazy {
            before_bytes: Some(0),
            marked_bytes: 100 * M,
            last_marked_ns: Some(40),
            taken: Some(Taken {
                dropped_bytes: 10 * M,
                ..Taken::default()
            }),
            ..Lazy::default()
        },
        rss,
    }
}

#[test]
fn dontneed_saves_what_is_lazily_free_and_costs_what_was_reused() {
    let switched = freed().to_dontneed();
    let least = 30 * PAGES - 1;
    assert_eq!(
        switched,
        ToDontneed {
            rss_less_bytes: Some(Range {
                least: 60 * M,
                most: Some(60 * M + PAGE)
            }),
            // 50 parts of nothing, 40 of 80 MiB, 10 of 60 MiB.
            rss_less_mean_bytes: Some(38 * M),
            rss_less_peak_bytes: Some(80 * M),
            more_faults: Range {
                least,
                most: Some(30 * PAGES)
            },
            more_cpu_ns: Some(Range {
                least: least * 900,
                most: Some(30 * PAGES * 1500)
            }),
        }
    );
}

#[test]
fn what_may_never_have_been_there_proves_no_reuse() {
    let mut run = freed();
    run.lazy.perhaps_bytes = 25 * M;
    assert_eq!(run.to_dontneed().more_faults.least, 5 * PAGES - 1);
    run.lazy.perhaps_bytes = 100 * M;
    assert_eq!(run.to_dontneed().more_faults.least, 0);
}

#[test]
fn what_was_marked_again_may_have_been_reused_in_between() {
    let mut run = freed();
    run.lazy.marked_again_bytes = 300 * M;
    let faults = run.to_dontneed().more_faults;
    assert_eq!(faults.least, 30 * PAGES - 1);
    assert_eq!(faults.most, Some(330 * PAGES));
}

#[test]
fn what_was_dropped_while_marked_may_have_been_in_use() {
    let mut run = freed();
    run.lazy.dropped_bytes = 20 * M;
    let faults = run.to_dontneed().more_faults;
    assert_eq!(
        (faults.least, faults.most),
        (10 * PAGES - 1, Some(30 * PAGES))
    );
}

#[test]
fn without_a_look_or_after_lost_calls_there_is_no_bound() {
    let mut run = freed();
    run.rss = RssHistory::default();
    let switched = run.to_dontneed();
    assert_eq!(switched.rss_less_bytes, None);
    assert_eq!(switched.rss_less_mean_bytes, None);
    // All that the kernel did not take.
    assert_eq!(
        (switched.more_faults.least, switched.more_faults.most),
        (0, Some(90 * PAGES))
    );
    let mut run = freed();
    run.totals.calls_lost = true;
    let switched = run.to_dontneed();
    assert_eq!(switched.more_faults.most, None);
    assert_eq!(switched.more_cpu_ns.map(|cpu| cpu.most), Some(None));
}

#[test]
fn where_huge_pages_are_possible_a_fault_may_bring_one() {
    let mut run = freed();
    run.totals
        .faults
        .class_mut(FaultClass::FirstTouch)
        .extra_bytes = 511 * 4096;
    let what_if = run.what_if().expect("it used MADV_FREE");
    let faults = what_if.to_dontneed.expect("it used MADV_FREE").more_faults;
    assert_eq!((faults.least, faults.most), (14, Some(30 * PAGES)));
    assert!(what_if.assumptions()[1].contains("from one page to 2M"));
}

fn dropped(released_bytes: Option<u64>, refaults: u64, inherited: u64) -> Run {
    let mut totals = Totals::default();
    let dontneed = ReleaseTotals {
        calls: 8,
        requested_bytes: 100 * M,
        released: released_bytes.and_then(released),
        refaults,
        refaulted_bytes: refaults * PAGE,
        inherited_refaulted_bytes: inherited * PAGE,
        ..ReleaseTotals::default()
    };
    totals.advice.insert(Advice::DONTNEED, dontneed);
    Run {
        totals,
        lazy: Lazy::default(),
        rss: RssHistory::default(),
    }
}

#[test]
fn free_keeps_what_was_not_needed_again_and_saves_the_refaults() {
    let what_if = dropped(Some(100 * M), 10 * PAGES, 2 * PAGES).what_if();
    let what_if = what_if.expect("it used MADV_DONTNEED");
    assert_eq!(what_if.to_dontneed, None);
    let up_to = |most| Range {
        least: 0,
        most: Some(most),
    };
    assert_eq!(
        what_if.to_free,
        Some(ToFree {
            rss_more_bytes: up_to(92 * M),
            fewer_faults: up_to(10 * PAGES),
            less_cpu_ns: Some(up_to(10 * PAGES * 1500)),
        })
    );
    assert!(what_if.assumptions()[2].contains("not taken the page by then"));
}

#[test]
fn what_was_released_and_is_not_known_bounds_nothing() {
    let to_free = dropped(None, 7, 0).what_if().and_then(|it| it.to_free);
    let to_free = to_free.expect("it used MADV_DONTNEED");
    assert_eq!(to_free.rss_more_bytes.most, None);
    assert_eq!(to_free.fewer_faults.most, Some(7));
}

#[test]
fn where_nothing_was_given_back_there_is_nothing_to_switch() {
    assert_eq!(dropped(Some(0), 0, 0).what_if(), None);
    // What the kernel took is counted there, and was nothing.
    let mut counted = dropped(Some(0), 0, 0);
    counted.lazy.taken = Some(Taken::default());
    assert_eq!(counted.what_if(), None);
    let mut failed = dropped(None, 0, 0);
    failed
        .totals
        .advice
        .get_mut(&Advice::DONTNEED)
        .expect("it is there")
        .failed = 8;
    assert_eq!(failed.what_if(), None);
}

#[test]
fn a_mean_needs_two_looks_and_time() {
    assert_eq!(mean(&[], 9), None);
    assert_eq!(mean(&[(5, 8)], 9), None);
    assert_eq!(mean(&[(5, 8), (5, 9)], 5), None);
    assert_eq!(mean(&[(5, 8), (6, 2)], 8), Some(4));
}

proptest! {
    #[test]
    fn the_least_is_never_above_the_most(
        marked in 0..M, again in 0..M, perhaps in 0..M, dropped in 0..M, reused in 0..M,
        sampled in 0..M, took in 0..M, error in 0..M,
    ) {
        let mut run = freed();
        run.lazy = Lazy {
            marked_bytes: marked,
            marked_again_bytes: again,
            perhaps_bytes: perhaps,
            dropped_bytes: dropped,
            reused_bytes: reused,
            taken: Some(Taken { dropped_bytes: took, ..Taken::default() }),
            ..Lazy::default()
        };
        if let Some(rollup) = &mut run.rss.last_rollup {
            (rollup.lazyfree_bytes, rollup.lazyfree_error_bytes) = (sampled, error);
        }
        let switched = run.to_dontneed();
        prop_assert!(switched.more_faults.most.is_some_and(|most| switched.more_faults.least <= most));
        let less = switched.rss_less_bytes.expect("there was a look");
        prop_assert!(less.most.is_some_and(|most| less.least <= most));
    }
}
