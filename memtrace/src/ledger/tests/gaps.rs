//! Lost records: nothing that comes after is classed by what they may have changed.

use proptest::prelude::*;

use super::cells::{Cell, Model, Present};
use super::support::*;
use crate::ledger::advice::Advice as A;
use crate::ledger::event::{Access, Event, Gap, Lost, Mapping, MappingKind, Mappings};
use crate::ledger::totals::{Basis, FaultClass as C};

impl Scene {
    /// Records were lost up to now.
    fn gap(&mut self, faults: bool, calls: bool) {
        let at_ns = self.tick();
        self.apply(Event::Gap(Gap {
            at_ns,
            until_ns: at_ns,
            faults,
            calls,
        }));
    }

    fn mappings(&mut self, first: u64, pages: u64, mapping: Mapping) {
        self.mapped_before(first, pages, mapping);
    }
}

fn file() -> Mapping {
    Mapping {
        kind: MappingKind::File,
        ..anon()
    }
}

fn class(s: &mut Scene, n: u64) -> C {
    s.touch(n, Access::Write, false).class
}

#[test]
fn after_lost_faults_only_what_was_populated_is_known() {
    let mut s = Scene::known();
    s.map(0, 8);
    s.write(0, 4);
    s.advise(A::FREE, 2, 2);
    s.gap(true, false);
    // Populated still, untouched, and given back: perhaps touched since.
    s.advise(A::DONTNEED, 0, 8);
    assert_eq!(class(&mut s, 0), C::RefaultDontneed);
    assert_eq!(class(&mut s, 2), C::Unknown);
    assert_eq!(class(&mut s, 5), C::Unknown);
    // Seen to be populated, it is known again.
    s.advise(A::FREE, 0, 8);
    assert_eq!(class(&mut s, 2), C::RefaultFree);
    assert_eq!(class(&mut s, 5), C::RefaultFree);
    assert_eq!(class(&mut s, 6), C::Unknown);
    assert_eq!(s.totals().faults.all().basis(), Basis::LowerBound);
}

#[test]
fn a_write_to_a_present_page_may_follow_a_lost_read() {
    let mut s = Scene::known();
    s.map(0, 2);
    s.gap(true, false);
    assert_eq!(s.touch(0, Access::Write, true).class, C::Unknown);
    assert_eq!(s.touch(0, Access::Write, true).class, C::Cow);
}

#[test]
fn what_may_be_lazily_free_stays_so() {
    for (faults, calls) in [(true, false), (false, true), (true, true)] {
        let mut s = Scene::known();
        s.map(0, 8);
        s.write(0, 8);
        s.advise(A::FREE, 0, 4);
        s.gap(faults, calls);
        assert_eq!(s.lazy_pages(), (4, 0, 4));
        s.advise(A::DONTNEED, 0, 1);
        assert_eq!(s.lazy_pages(), (4, 1, 3));
        s.write(1, 1);
        assert_eq!(s.lazy_pages(), (4, 1, 2));
    }
}

#[test]
fn after_lost_calls_nothing_is_known_until_it_is_seen_again() {
    let mut s = Scene::known();
    s.map(0, 8);
    s.write(0, 8);
    s.gap(false, true);
    assert!(!s.ledger.mms()[0].mappings_known);
    assert_eq!(s.ledger.mms()[0].mapping_at(page(0)), None);
    assert_eq!(class(&mut s, 0), C::Unknown);
    s.advise(A::DONTNEED, 0, 8);
    // Populated since, and not so.
    assert_eq!(class(&mut s, 0), C::RefaultDontneed);
    assert_eq!(class(&mut s, 1), C::Unknown);
    s.map(20, 2);
    assert_eq!(class(&mut s, 20), C::FirstTouch);
    assert_eq!(s.advice(A::DONTNEED).released, None);
    s.advise(A::FREE, 0, 1);
    assert_eq!(s.advice(A::FREE).released, None);
}

#[test]
fn mappings_that_are_read_again_make_files_known_and_leave_the_rest() {
    let mut s = Scene::known();
    s.map(0, 4);
    s.write(0, 4);
    s.mmap(4, 4, 2);
    s.write(4, 2);
    s.advise(A::DONTNEED, 4, 1);
    s.gap(true, true);
    assert_eq!(class(&mut s, 5), C::Unknown);
    s.mappings(0, 4, anon());
    s.mappings(4, 4, file());
    assert!(s.ledger.mms()[0].mappings_known);
    assert_eq!(class(&mut s, 0), C::Unknown);
    assert_eq!(class(&mut s, 6), C::File);
    assert_eq!(class(&mut s, 4), C::Unknown, "it was given back");
    s.advise(A::DONTNEED, 0, 8);
    assert_eq!(class(&mut s, 1), C::Unknown);
    assert_eq!(class(&mut s, 0), C::RefaultDontneed);
    assert_eq!(class(&mut s, 7), C::Unknown);
}

#[test]
fn the_break_is_learned_anew() {
    let mut s = Scene::known();
    let list = Vec::new();
    for heap_end in [page(4), page(9)] {
        let at_ns = s.tick();
        s.apply(Event::Mappings(Mappings {
            at_ns,
            until_ns: at_ns,
            pid: PID,
            fresh: false,
            heap_end: Some(heap_end),
            whole: false,
            list: list.clone(),
        }));
        assert_eq!(s.ledger.mms()[0].brk(), Some(heap_end));
        s.gap(false, true);
        assert_eq!(s.ledger.mms()[0].brk(), None);
    }
}

#[test]
fn what_lies_outside_of_all_mappings_is_forgotten_when_they_are_read_again() {
    let mut s = Scene::known();
    s.map(0, 8);
    s.map(16, 8);
    s.write(0, 8);
    s.gap(false, true);
    // Some end in a signal, but who knows where anything is mapped now?
    s.write(8, 8);
    s.write(40, 8);
    let kept = |s: &Scene, n: u64| s.ledger.mms()[0].space.seen(page(n)).is_some();
    assert!(kept(&s, 7) && kept(&s, 8) && kept(&s, 15) && kept(&s, 16) && kept(&s, 40));
    let at_ns = s.tick();
    s.apply(Event::Mappings(Mappings {
        at_ns,
        until_ns: at_ns,
        pid: PID,
        fresh: false,
        heap_end: None,
        whole: true,
        list: [0, 16].map(|n| (page(n)..page(n + 8), anon())).to_vec(),
    }));
    assert!(kept(&s, 7) && kept(&s, 16) && kept(&s, 23));
    assert!(!kept(&s, 8) && !kept(&s, 15) && !kept(&s, 24) && !kept(&s, 40));
}

#[test]
fn a_call_whose_exit_is_lost_does_not_stay_in_flight() {
    let mut s = Scene::known();
    s.map(0, 4);
    s.write(0, 4);
    let call = s.call(madvise(A::DONTNEED, 0, 4), 0);
    s.enter(&call);
    s.gap(false, true);
    s.tid = 11;
    s.map(0, 4);
    s.write(0, 4);
    s.advise(A::FREE, 0, 4);
    let was = s.touch(0, Access::Write, false);
    assert_eq!((was.class, was.ambiguous), (C::RefaultFree, false));
    // A page that was populated in a call's flight would count as perhaps taken.
    assert_eq!(class(&mut s, 0), C::Unknown);
}

#[test]
fn inside_a_gap_nothing_has_a_class_and_nothing_is_learned_for_later() {
    let mut s = Scene::known();
    s.map(0, 4);
    s.write(0, 4);
    let at_ns = s.tick();
    s.apply(Event::Gap(Gap {
        at_ns,
        until_ns: at_ns + 100,
        faults: true,
        calls: true,
    }));
    s.map(0, 4);
    assert_eq!(class(&mut s, 0), C::Unknown);
    s.advise(A::DONTNEED, 0, 4);
    assert_eq!(class(&mut s, 0), C::Unknown);
    // The count of what was lost is told ahead of the order, and ends nothing.
    s.apply(Event::Lost(Lost {
        at_ns: at_ns + 1000,
        ..Lost::default()
    }));
    assert_eq!(class(&mut s, 0), C::Unknown);
    s.now += 200;
    s.advise(A::DONTNEED, 0, 4);
    assert_eq!(class(&mut s, 0), C::Unknown);
    assert_eq!(class(&mut s, 1), C::Unknown);
    s.advise(A::DONTNEED, 0, 4);
    assert_eq!(class(&mut s, 0), C::RefaultDontneed);
}

const PAGES: usize = 24;

#[derive(Clone, Debug)]
enum Step {
    Map(u64, u64),
    Unmap(u64, u64),
    Advise(A, u64, u64),
    Touch(u64, bool),
    Reclaim(u64),
    /// Of so many steps from here on, records of these classes may be lost.
    Gap {
        steps: usize,
        faults: bool,
        calls: bool,
        told_late: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let at = || 0..PAGES as u64;
    let len = || 1..12u64;
    let advice = prop::sample::select(vec![A::FREE, A::DONTNEED, A::PAGEOUT]);
    let lost = prop::sample::select(vec![(true, false), (false, true), (true, true)]);
    prop_oneof![
        2 => (at(), len()).prop_map(|(a, l)| Step::Map(a, l)),
        1 => (at(), len()).prop_map(|(a, l)| Step::Unmap(a, l)),
        5 => (advice, at(), len()).prop_map(|(v, a, l)| Step::Advise(v, a, l)),
        12 => (at(), any::<bool>()).prop_map(|(a, w)| Step::Touch(a, w)),
        3 => at().prop_map(Step::Reclaim),
        1 => (0..8usize, lost, any::<bool>()).prop_map(|(steps, (faults, calls), told_late)| {
            Step::Gap { steps, faults, calls, told_late }
        }),
    ]
}

/// A gap that steps are in.
struct Open {
    gap: Gap,
    steps_left: usize,
    told_late: bool,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn after_a_gap_a_fault_has_its_own_class_or_none(
        steps in prop::collection::vec((step(), any::<bool>()), 1..150),
    ) {
        let mut s = Scene::known();
        let mut model = Model::new(PAGES + 16);
        let mut open: Option<Open> = None;
        for (step, lose) in steps {
            if let Some(ended) = open.take_if(|open| open.steps_left == 0) {
                s.now = s.now.max(ended.gap.until_ns);
                if ended.told_late {
                    s.apply(Event::Gap(ended.gap));
                }
            }
            if let Some(open) = &mut open {
                open.steps_left -= 1;
            }
            let lost = |of: fn(&Gap) -> bool| lose && open.as_ref().is_some_and(|open| of(&open.gap));
            let (lose_fault, lose_call) = (lost(|gap| gap.faults), lost(|gap| gap.calls));
            // What was classed before a gap was told of stands.
            let judged = open.as_ref().is_none_or(|open| !open.told_late);
            match step {
                Step::Map(at, len) => {
                    if !lose_call {
                        s.mmap(at, len, 0x32);
                    }
                    let cells = &mut model.cells[at as usize..(at + len) as usize];
                    cells.fill(Cell { mapped: true, ..Cell::default() });
                }
                Step::Unmap(at, len) => {
                    if !lose_call {
                        s.unmap(at, len);
                    }
                    model.cells[at as usize..(at + len) as usize].fill(Cell::default());
                }
                Step::Advise(advice, at, len) => {
                    let range = at as usize..(at + len) as usize;
                    let whole = model.cells[range.clone()].iter().all(|cell| cell.mapped);
                    let ret = if whole { 0 } else { -i64::from(libc::ENOMEM) };
                    if !lose_call {
                        s.advise_ret(advice, at, len, ret);
                    }
                    for n in range {
                        model.advise(advice, n);
                    }
                }
                Step::Touch(n, write) => {
                    let before = model.cells[n as usize];
                    let counted: Vec<u64> = C::ALL.iter().map(|c| model.classes.get(c).copied().unwrap_or(0)).collect();
                    let Some(present) = model.touch(n as usize, write) else { continue };
                    let truth = if present {
                        before.read_as.expect("a read mapped it")
                    } else {
                        let more = |(i, c): &(usize, C)| model.classes.get(c).copied().unwrap_or(0) > counted[*i];
                        C::ALL.into_iter().enumerate().find(more).expect("it was counted").1
                    };
                    if lose_fault {
                        continue;
                    }
                    let access = if write { Access::Write } else { Access::Read };
                    let was = s.touch(n, access, present);
                    let right = was.class == truth && was.zero_page_write == present;
                    prop_assert!(
                        !judged || right || was.class == C::Unknown || was.ambiguous,
                        "page {}: {:?}, and it was {:?}", n, was, truth
                    );
                }
                Step::Reclaim(n) => {
                    let cell = &mut model.cells[n as usize];
                    if cell.present == Present::Yes && cell.given_by.is_some() {
                        cell.present = Present::No;
                    }
                }
                Step::Gap { steps, faults, calls, told_late } if open.is_none() => {
                    let at_ns = s.tick();
                    let gap = Gap { at_ns, until_ns: at_ns + 10 * steps as u64, faults, calls };
                    if !told_late {
                        s.apply(Event::Gap(gap));
                    }
                    open = Some(Open { gap, steps_left: steps, told_late });
                }
                Step::Gap { .. } => {}
            }
        }
    }
}
