//! Figures without measure and events of the dead: nothing panics, wraps or goes back.

use proptest::prelude::*;

use super::support::*;
use crate::ledger::advice::Advice as A;
use crate::ledger::event::{Access, Event, Exit, Measuring, Op, Populated, Rollup, Sample, Taken};
use crate::ledger::totals::{FaultClass as C, Totals};

fn huge() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(u64::MAX),
        Just(0),
        any::<u64>(),
        (0..1000u64).prop_map(|n| u64::MAX - n),
        (0..20u64).prop_map(|n| n * PAGE),
    ]
}

fn rollup() -> impl Strategy<Value = Rollup> {
    prop::array::uniform9(huge()).prop_map(|v| Rollup {
        at_ns: v[0],
        rss_bytes: v[1],
        lazyfree_bytes: v[2],
        pss_bytes: v[3],
        swap_bytes: v[4],
        anonymous_bytes: v[5],
        anon_huge_bytes: v[6],
        lazyfree_error_bytes: v[7],
        cost_ns: v[8],
    })
}

fn sample() -> impl Strategy<Value = Event> {
    (huge(), huge(), prop::option::of(rollup())).prop_map(|(at_ns, bytes, rollup)| {
        Event::Sample(Box::new(Sample {
            at_ns,
            pid: PID,
            rss_bytes: bytes,
            virtual_bytes: Some(bytes),
            rollup,
            cgroup: None,
        }))
    })
}

fn taken() -> impl Strategy<Value = Event> {
    prop::array::uniform6(huge()).prop_map(|v| {
        Event::Taken(Taken {
            at_ns: v[0],
            pid: PID,
            dropped_bytes: v[1],
            swapped_bytes: v[2],
            added_bytes: v[3],
            uncounted_bytes: v[4],
            begun_ns: v[5],
        })
    })
}

fn populated() -> impl Strategy<Value = Event> {
    (huge(), any::<bool>()).prop_map(|(bytes, in_user_fault)| {
        Event::Populated(Populated {
            at_ns: 0,
            pid: PID,
            tid: PID,
            bytes,
            in_user_fault,
        })
    })
}

fn of_all_kinds() -> Vec<Event> {
    vec![
        Event::Sample(Box::new(Sample {
            at_ns: 9,
            pid: PID,
            rss_bytes: PAGE,
            virtual_bytes: None,
            rollup: Some(Rollup::default()),
            cgroup: None,
        })),
        Event::Taken(Taken {
            at_ns: 9,
            pid: PID,
            dropped_bytes: PAGE,
            ..Taken::default()
        }),
        Event::Populated(Populated {
            at_ns: 9,
            pid: PID,
            tid: PID,
            bytes: PAGE,
            in_user_fault: true,
        }),
        Event::Measuring(Measuring { at_ns: 9, pid: PID }),
    ]
}

#[test]
fn figures_of_the_dead_change_nothing() {
    let mut s = Scene::known();
    s.map(0, 4);
    s.write(0, 4);
    s.advise(A::FREE, 0, 4);
    let at_ns = s.tick();
    s.apply(Event::Exit(Exit {
        at_ns,
        pid: PID,
        status: None,
    }));
    let before = (s.totals().clone(), s.lazy(), s.ledger.mms()[0].rss.clone());
    for event in of_all_kinds() {
        assert_eq!(s.apply(event), None);
    }
    let after = (s.totals().clone(), s.lazy(), s.ledger.mms()[0].rss.clone());
    assert_eq!(before, after);
    assert!(!s.ledger.any_alive_but(|_| false));
}

#[test]
fn figures_of_one_who_was_never_known_make_no_process() {
    let mut ledger = crate::ledger::Ledger::default();
    for event in of_all_kinds() {
        ledger.apply(&event);
    }
    assert!(ledger.mms().is_empty());
    // What we looked at by ourselves is none; what it was recorded doing is.
    assert_eq!(ledger.strays(), 1);
}

#[test]
fn marks_without_end_stay_at_the_largest_number() {
    let mut s = Scene::known();
    // Populating may fail without a word, so that all of it counts as perhaps there.
    for _ in 0..((1 << 8) + 1) {
        s.mmap(0, 1 << 44, 0x8032);
        s.advise(A::FREE, 0, 1 << 44);
    }
    let lazy = s.lazy();
    assert_eq!(
        (lazy.marked_bytes, lazy.dropped_bytes),
        (u64::MAX, u64::MAX)
    );
    assert_eq!(lazy.outstanding_bytes, 1 << 56);
    assert_eq!(lazy.ever_bytes(), u64::MAX);
    let free = s.advice(A::FREE).released.expect("all of it is known");
    assert_eq!(free.bytes, u64::MAX);
}

#[test]
fn a_heap_that_breathes_without_end_stays_at_the_largest_number() {
    let mut s = Scene::known();
    s.done(Op::Brk { addr: 0 }, page(0) as i64);
    for _ in 0..((1 << 8) + 1) {
        for end in [page(1 << 44), page(0)] {
            s.done(Op::Brk { addr: end }, end as i64);
        }
    }
    assert_eq!(s.totals().map.brk.bytes, u64::MAX);
    assert_eq!(s.totals().unmap.brk.requested_bytes, u64::MAX);
}

#[test]
fn the_same_events_make_the_same_totals() {
    let run = || {
        let mut s = Scene::known();
        s.measure();
        s.map(0, 8);
        s.write(0, 8);
        s.populated(8, true);
        s.advise(A::FREE, 0, 8);
        s.taken(2);
        s.look(PID, 3);
        s.touch(0, Access::Read, false);
        (s.totals().clone(), s.lazy(), s.ledger.mms()[0].rss.clone())
    };
    assert_eq!(run(), run());
}

proptest! {
    #[test]
    fn no_figure_is_too_large(
        events in prop::collection::vec(prop_oneof![sample(), taken(), populated()], 1..60),
    ) {
        let mut s = Scene::known();
        s.measure();
        s.map(0, 16);
        s.write(0, 16);
        let mut reused = 0;
        for (n, event) in events.into_iter().enumerate() {
            let n = n as u64 % 16;
            s.apply(event);
            s.advise(if n.is_multiple_of(3) { A::FREE } else { A::DONTNEED }, n, 1);
            s.write(n, 1);
            let lazy = s.lazy();
            prop_assert!(lazy.reused_bytes >= reused, "it went back");
            reused = lazy.reused_bytes;
            prop_assert!(reused <= lazy.ever_bytes());
            prop_assert!(lazy.outstanding_bytes <= 16 * PAGE);
        }
        // What readers make of them.
        let mm = &s.ledger.mms()[0];
        let _ = (mm.rss.effective_bytes(), mm.may_have_lazy(), mm.lazy_may_change());
        let _ = (mm.lazy_since_ns(), mm.nothing_is_lazy());
        let faults = &s.totals().faults;
        prop_assert!(faults.all().bytes >= faults.class(C::FirstTouch).bytes);
        let _ = (faults.refaults(), s.advice(A::FREE).refault_ratio());
        let mut total = Totals::default();
        total.add(s.totals());
        total.add(s.totals());
        prop_assert!(total.faults.all().bytes >= faults.all().bytes);
    }
}
