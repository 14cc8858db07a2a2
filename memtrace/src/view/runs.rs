//! Joins neighbouring faults of one thread, class and access into the runs that the stream shows.

use std::collections::{BTreeSet, HashMap};

use super::FaultRun;
use crate::ledger::Stretch;

/// A run that began this long ago is shown, whether or not it may still grow.
pub const LONGEST_NS: u64 = 200_000_000;
/// Threads with an open run at once; beyond it the oldest run is shown early.
pub const MOST_OPEN: usize = 4096;

/// The runs that may still grow, one for each thread. Finished ones are pushed to `out`.
#[derive(Debug)]
pub struct Runs {
    page_bytes: u64,
    open: HashMap<u32, FaultRun>,
    /// The open runs from the oldest: when each began, and its thread.
    by_age: BTreeSet<(u64, u32)>,
}

impl Runs {
    pub fn new(page_bytes: u64) -> Self {
        Self {
            page_bytes,
            open: HashMap::new(),
            by_age: BTreeSet::new(),
        }
    }

    /// Takes faults in: they extend their thread's run, or end it and begin another.
    pub fn push(&mut self, faults: &Stretch<'_>, out: &mut Vec<FaultRun>) {
        self.advance(faults.at_ns, out);
        if let Some(run) = self.open.get_mut(&faults.tid) {
            if extend(run, faults, self.page_bytes) {
                return;
            }
            self.end(faults.tid, out);
        }
        if self.open.len() >= MOST_OPEN
            && let Some((_, tid)) = self.by_age.first().copied()
        {
            self.end(tid, out);
        }
        self.by_age.insert((faults.at_ns, faults.tid));
        self.open.insert(faults.tid, begin(faults, self.page_bytes));
    }

    /// A call of this thread comes: its run so far is shown before it.
    pub fn end(&mut self, tid: u32, out: &mut Vec<FaultRun>) {
        if let Some(run) = self.open.remove(&tid) {
            self.by_age.remove(&(run.at_ns, tid));
            out.push(run);
        }
    }

    /// Time has come this far: ends what is too old to wait longer.
    pub fn advance(&mut self, now_ns: u64, out: &mut Vec<FaultRun>) {
        while let Some((began_ns, tid)) = self.by_age.first().copied()
            && now_ns.saturating_sub(began_ns) >= LONGEST_NS
        {
            self.end(tid, out);
        }
    }

    /// Ends every run, from the oldest.
    pub fn flush(&mut self, out: &mut Vec<FaultRun>) {
        while let Some((_, tid)) = self.by_age.first().copied() {
            self.end(tid, out);
        }
    }
}

fn begin(faults: &Stretch<'_>, page_bytes: u64) -> FaultRun {
    FaultRun {
        at_ns: faults.at_ns,
        pid: faults.pid,
        tid: faults.tid,
        addr: faults.addr,
        len_bytes: faults.pages * page_bytes,
        faults: faults.pages,
        class: faults.was.class,
        access: faults.access,
        age_ns: faults.age_ns(),
        zero_page_write: faults.was.zero_page_write,
        mapping: faults.mapping.cloned(),
    }
}

/// Adds the faults to the run if they are of the same kind and touch either of its ends.
fn extend(run: &mut FaultRun, faults: &Stretch<'_>, page_bytes: u64) -> bool {
    let len_bytes = faults.pages * page_bytes;
    let above = run.addr.checked_add(run.len_bytes) == Some(faults.addr);
    let below = faults.addr.checked_add(len_bytes) == Some(run.addr);
    let alike = (above || below)
        && run.pid == faults.pid
        && run.class == faults.was.class
        && run.access == faults.access
        && run.zero_page_write == faults.was.zero_page_write
        && run.mapping.as_ref() == faults.mapping;
    if !alike {
        return false;
    }
    run.addr = run.addr.min(faults.addr);
    run.len_bytes += len_bytes;
    run.faults += faults.pages;
    true
}

#[cfg(test)]
mod tests {
    use crate::ledger::event::VmFlags;
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::ledger::Classified;
    use crate::ledger::advice::Advice;
    use crate::ledger::event::{Access, Mapping, MappingKind};
    use crate::ledger::pages::{Release, Source};
    use crate::ledger::totals::FaultClass;

    const PAGE: u64 = 4096;

    const WAS: Classified = Classified {
        class: FaultClass::RefaultFree,
        release: Some(Release {
            source: Source::Advice(Advice::FREE),
            at_ns: Some(0),
            inherited: false,
        }),
        zero_page_write: false,
        ambiguous: false,
        bytes: PAGE,
        derived: false,
        after: None,
    };

    fn stretch(at_ns: u64, tid: u32, page: u64, pages: u64) -> Stretch<'static> {
        Stretch {
            at_ns,
            pid: 1,
            tid,
            addr: page * PAGE,
            pages,
            access: Access::Write,
            was: WAS,
            mapping: None,
        }
    }

    fn fault(at_ns: u64, tid: u32, page: u64) -> Stretch<'static> {
        stretch(at_ns, tid, page, 1)
    }

    /// Pushes the faults and returns what came out before the flush, and by it.
    fn run(faults: &[Stretch<'_>]) -> (Vec<FaultRun>, Vec<FaultRun>) {
        let mut runs = Runs::new(PAGE);
        let (mut before, mut after) = (Vec::new(), Vec::new());
        for fault in faults {
            runs.push(fault, &mut before);
        }
        runs.flush(&mut after);
        (before, after)
    }

    fn spans(runs: &[FaultRun]) -> Vec<(u64, u64, u64)> {
        let pages = |run: &FaultRun| (run.addr / PAGE, run.len_bytes / PAGE, run.faults);
        runs.iter().map(pages).collect()
    }

    #[test]
    fn rising_neighbours_are_one_run_with_the_first_ones_time_and_age() {
        let (before, after) = run(&[fault(10, 1, 5), fault(11, 1, 6), fault(12, 1, 7)]);
        assert!(before.is_empty());
        assert_eq!(spans(&after), [(5, 3, 3)]);
        assert_eq!((after[0].at_ns, after[0].age_ns), (10, Some(10)));
    }

    #[test]
    fn falling_neighbours_are_one_run_from_the_lowest_address() {
        let (before, after) = run(&[fault(10, 1, 7), fault(11, 1, 6), fault(12, 1, 5)]);
        assert!(before.is_empty());
        assert_eq!(spans(&after), [(5, 3, 3)]);
    }

    #[test]
    fn stretches_join_like_single_faults() {
        let (before, after) = run(&[
            stretch(10, 1, 5, 3),
            stretch(11, 1, 8, 2),
            stretch(12, 1, 1, 4),
        ]);
        assert!(before.is_empty());
        assert_eq!(spans(&after), [(1, 9, 9)]);
    }

    #[test]
    fn a_gap_and_a_page_again_break_the_run() {
        let (before, after) = run(&[
            fault(10, 1, 5),
            fault(11, 1, 7),
            fault(12, 1, 7),
            fault(13, 1, 8),
        ]);
        assert_eq!(spans(&before), [(5, 1, 1), (7, 1, 1)]);
        assert_eq!(spans(&after), [(7, 2, 2)]);
    }

    #[test]
    fn threads_do_not_break_each_others_runs() {
        let (before, after) = run(&[
            fault(10, 1, 5),
            fault(11, 2, 90),
            fault(12, 1, 6),
            fault(13, 2, 91),
        ]);
        assert!(before.is_empty());
        assert_eq!(spans(&after), [(5, 2, 2), (90, 2, 2)]);
    }

    #[test]
    fn another_class_access_mapping_process_or_zero_page_write_breaks_the_run() {
        let mapping = |name: &str| Mapping {
            kind: MappingKind::File,
            shared: false,
            flags: VmFlags::default(),
            name: Some(Arc::from(name)),
        };
        let (one, same, other) = (mapping("a"), mapping("a"), mapping("b"));
        let first = Stretch {
            mapping: Some(&one),
            ..fault(10, 1, 5)
        };
        let next = Stretch {
            mapping: Some(&same),
            ..fault(11, 1, 6)
        };
        assert_eq!(run(&[first, next]).0, []);
        for broken in [
            Stretch {
                was: Classified {
                    class: FaultClass::RefaultOther,
                    ..WAS
                },
                ..next
            },
            Stretch {
                access: Access::Read,
                ..next
            },
            Stretch {
                mapping: Some(&other),
                ..next
            },
            Stretch {
                mapping: None,
                ..next
            },
            Stretch { pid: 2, ..next },
            Stretch {
                was: Classified {
                    zero_page_write: true,
                    ..WAS
                },
                ..next
            },
        ] {
            assert_eq!(spans(&run(&[first, broken]).0), [(5, 1, 1)], "{broken:?}");
        }
    }

    #[test]
    fn a_call_ends_its_own_threads_run() {
        let mut runs = Runs::new(PAGE);
        let mut out = Vec::new();
        runs.push(&fault(10, 1, 5), &mut out);
        runs.push(&fault(11, 2, 90), &mut out);
        runs.end(1, &mut out);
        runs.end(3, &mut out);
        assert_eq!(spans(&out), [(5, 1, 1)]);
        runs.push(&fault(12, 1, 6), &mut out);
        out.clear();
        runs.flush(&mut out);
        assert_eq!(spans(&out), [(90, 1, 1), (6, 1, 1)]);
    }

    #[test]
    fn an_old_run_is_shown_though_it_still_grows() {
        let mut runs = Runs::new(PAGE);
        let mut out = Vec::new();
        runs.push(&fault(0, 1, 5), &mut out);
        runs.push(&fault(LONGEST_NS - 1, 1, 6), &mut out);
        assert!(out.is_empty());
        // Its own next fault, another thread's, or time alone: each ends it.
        runs.push(&fault(LONGEST_NS, 1, 7), &mut out);
        assert_eq!(spans(&out), [(5, 2, 2)]);
        runs.push(&fault(2 * LONGEST_NS, 2, 90), &mut out);
        assert_eq!(spans(&out), [(5, 2, 2), (7, 1, 1)]);
        runs.advance(3 * LONGEST_NS, &mut out);
        assert_eq!(out.len(), 3);
    }

    #[test]
    fn open_runs_are_bounded_and_the_oldest_goes_first() {
        let mut runs = Runs::new(PAGE);
        let mut out = Vec::new();
        for tid in 0..MOST_OPEN as u32 + 2 {
            runs.push(&fault(u64::from(tid), tid, 5), &mut out);
        }
        let tids: Vec<u32> = out.iter().map(|run| run.tid).collect();
        assert_eq!(tids, [0, 1]);
        assert_eq!((runs.open.len(), runs.by_age.len()), (MOST_OPEN, MOST_OPEN));
    }

    #[test]
    fn addresses_at_the_ends_of_the_range_do_not_overflow() {
        let last = u64::MAX / PAGE;
        let (before, after) = run(&[fault(1, 1, last), fault(2, 1, 0), fault(3, 1, last)]);
        assert_eq!(before.len() + after.len(), 3);
    }

    proptest! {
        #[test]
        fn every_fault_comes_out_once(
            faults in prop::collection::vec(
                (0u64..100_000_000, 0u32..4, 0u64..12, 1u64..4, 0usize..3, prop::bool::ANY),
                0..400,
            ),
            calls in prop::collection::vec(prop::option::of(0u32..4), 400),
        ) {
            let mut runs = Runs::new(PAGE);
            let mut out = Vec::new();
            let mut now = 0;
            let mut expected: HashMap<(u32, FaultClass, u64), u64> = HashMap::new();
            for ((step, tid, page, pages, class, read), call) in faults.iter().copied().zip(calls) {
                now += step;
                let one = Stretch {
                    was: Classified {
                        class: FaultClass::ALL[class],
                        ..WAS
                    },
                    access: if read { Access::Read } else { Access::Write },
                    ..stretch(now, tid, page, pages)
                };
                for page in page..page + pages {
                    *expected.entry((tid, one.was.class, page)).or_default() += 1;
                }
                runs.push(&one, &mut out);
                if let Some(tid) = call {
                    runs.end(tid, &mut out);
                }
                prop_assert_eq!(runs.open.len(), runs.by_age.len());
            }
            runs.flush(&mut out);
            prop_assert!(runs.open.is_empty() && runs.by_age.is_empty());
            let mut found: HashMap<(u32, FaultClass, u64), u64> = HashMap::new();
            for run in &out {
                prop_assert_eq!(run.len_bytes, run.faults * PAGE);
                for page in 0..run.faults {
                    *found.entry((run.tid, run.class, run.addr / PAGE + page)).or_default() += 1;
                }
            }
            prop_assert_eq!(found, expected);
        }
    }
}
