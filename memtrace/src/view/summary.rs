//! The sum over the summaries of several processes.

use super::commands::Command;
use super::{Summary, Total};
use crate::ledger::event::Lost;
use crate::ledger::totals::Totals;
use crate::units::{Count, counted};

impl Total {
    /// Sums up `summaries`, and what has none: `folded`. How many processes they are of, and what was
    /// lost is told apart, since it is counted for all of them at once.
    pub fn of(summaries: &[Summary], folded: &[Command], processes: u64, lost: Lost) -> Self {
        let starts = summaries.iter().map(|one| one.start_ns);
        let start_ns = starts.chain(folded.iter().map(|one| one.start_ns)).min();
        let ends = summaries.iter().map(|one| one.start_ns + one.duration_ns);
        let end_ns = ends.chain(folded.iter().map(|one| one.end_ns)).max();
        let mut totals = Totals::default();
        let parts = summaries.iter().map(|one| &one.totals);
        for one in parts.chain(folded.iter().map(|one| &one.totals)) {
            totals.add(one);
        }
        let exact = summaries.iter().all(|one| one.exact) && folded.iter().all(|one| one.exact);
        Self {
            processes,
            duration_ns: end_ns.unwrap_or(0).saturating_sub(start_ns.unwrap_or(0)),
            exact,
            lost,
            notes: folding(summaries.len() as u64, folded)
                .into_iter()
                .collect(),
            totals,
        }
    }
}

/// That some address spaces have no summary, where some have none.
fn folding(summaries: u64, folded: &[Command]) -> Option<String> {
    let images: u64 = folded.iter().map(|one| one.images).sum();
    (images > 0).then(|| {
        format!(
            "{} of {} have no summary, the smallest of those that have ended: they are summed up by name \
             (--summaries keeps more)",
            Count(images),
            counted(images + summaries, "address space"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::advice::Advice;
    use crate::ledger::totals::{Basis, FaultClass, Released, RssHistory};
    use crate::runtime::Runtimes;

    fn derived(bytes: u64) -> Released {
        Released {
            least_bytes: bytes,
            bytes,
            basis: Basis::Derived,
        }
    }

    fn summary(pid: u32, image: u32, start_ns: u64, duration_ns: u64) -> Summary {
        let mut totals = Totals::default();
        let free = totals.advice.entry(Advice::FREE).or_default();
        free.calls = 2;
        free.requested_bytes = 100;
        free.refaults = 1;
        free.refaulted_bytes = 50;
        free.ages.record(u64::from(pid) * 1000, 1);
        totals.unmap.brk.calls = 3;
        totals.map.mremap.bytes = 7;
        totals.faults.total = 5;
        let class = totals.faults.class_mut(FaultClass::RefaultFree);
        class.faults = 1;
        class.bytes = 50;
        totals.unseen_calls = 1;
        Summary {
            pid,
            image,
            start_ns,
            duration_ns,
            comm: "x".to_owned(),
            exact: true,
            lost: Lost::default(),
            stray_events: 0,
            notes: Vec::new(),
            totals,
            rss: RssHistory::default(),
            runtimes: Runtimes::default(),
            effects: Vec::new(),
            verdict: None,
            go: None,
            what_if: None,
            gctrace: None,
            balance: None,
            reclaim_unknown: None,
            rss_age_ns: None,
            exit: None,
        }
    }

    #[test]
    fn a_total_adds_up_every_address_space() {
        let mut images = [
            summary(1, 0, 1000, 500),
            summary(1, 1, 1500, 100),
            summary(2, 0, 1200, 900),
        ];
        let faults = &mut images[1].totals.faults;
        faults.class_mut(FaultClass::RefaultFree).extra_bytes = 511 * 4096;
        let lost = Lost {
            calls: 9,
            ..Lost::default()
        };
        let total = Total::of(&images, &[], 2, lost);
        assert_eq!((total.processes, total.duration_ns), (2, 1100));
        assert!(total.exact);
        assert_eq!(total.lost.calls, 9);
        let free = &total.totals.advice[&Advice::FREE];
        assert_eq!((free.calls, free.requested_bytes), (6, 300));
        assert_eq!((free.refaults, free.refaulted_bytes), (3, 150));
        assert_eq!(free.ages.quantile_ns(0.5), Some(1003));
        assert_eq!(free.ages.quantile_ns(1.0), Some(2007));
        assert_eq!(total.totals.unmap.brk.calls, 9);
        assert_eq!(total.totals.map.mremap.bytes, 21);
        assert_eq!(total.totals.faults.total, 15);
        let class = total.totals.faults.class(FaultClass::RefaultFree);
        assert_eq!((class.faults, class.bytes), (3, 150));
        assert_eq!(class.basis(), Basis::LowerBound);
        assert_eq!(total.totals.unseen_calls, 3);
    }

    #[test]
    fn what_has_no_summary_is_part_of_the_total() {
        let images = [summary(1, 0, 1000, 500), summary(2, 0, 1200, 900)];
        let folded = Command {
            images: 3,
            start_ns: 900,
            end_ns: 5000,
            exact: false,
            totals: images[0].totals.clone(),
            ..Command::default()
        };
        let total = Total::of(&images, &[folded], 4, Lost::default());
        assert_eq!(
            (total.processes, total.duration_ns, total.exact),
            (4, 4100, false)
        );
        assert_eq!(total.totals.faults.total, 15);
        assert_eq!(
            total.notes,
            [
                "3 of 5 address spaces have no summary, the smallest of those that have ended: they are \
              summed up by name (--summaries keeps more)"
            ]
        );
        let whole = Total::of(&images, &[], 2, Lost::default());
        assert!(whole.notes.is_empty() && whole.exact);
    }

    #[test]
    fn one_inexact_part_makes_the_total_inexact() {
        let mut images = [summary(1, 0, 0, 1), summary(2, 0, 0, 1)];
        images[1].exact = false;
        assert!(!Total::of(&images, &[], 2, Lost::default()).exact);
    }

    #[test]
    fn a_sum_of_released_bytes_with_an_unknown_part_is_unknown() {
        let released = |known: [Option<u64>; 2]| {
            let mut images = [summary(1, 0, 0, 1), summary(2, 0, 0, 1)];
            for (one, bytes) in images.iter_mut().zip(known) {
                one.totals.unmap.munmap.calls = 1;
                one.totals.unmap.munmap.released = bytes.map(derived);
            }
            Total::of(&images, &[], 2, Lost::default())
                .totals
                .unmap
                .munmap
                .released
        };
        assert_eq!(released([Some(1), Some(2)]), Some(derived(3)));
        assert_eq!(released([Some(1), None]), None);
        // Advice that one of the two never gave has no part in the sum.
        let mut images = [summary(1, 0, 0, 1), summary(2, 0, 0, 1)];
        let pageout = images[1].totals.advice.entry(Advice::PAGEOUT).or_default();
        pageout.calls = 1;
        pageout.released = Some(derived(4));
        let total = Total::of(&images, &[], 2, Lost::default());
        assert_eq!(
            total.totals.advice[&Advice::PAGEOUT].released,
            Some(derived(4))
        );
    }

    #[test]
    fn nothing_adds_up_to_nothing() {
        let total = Total::of(&[], &[], 0, Lost::default());
        assert_eq!((total.processes, total.duration_ns), (0, 0));
    }
}
