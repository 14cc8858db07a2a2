//! Where a trace begins, what a fork hands on, and calls that fail half-way.

use super::support::*;
use crate::ledger::Ledger;
use crate::ledger::advice::Advice as A;
use crate::ledger::event::{Access, Begin, Event, Folios, Mappings, Op};
use crate::ledger::rules::Rules;
use crate::ledger::totals::{Basis, FaultClass as C};

const EFAULT: i64 = -(libc::EFAULT as i64);
const EINVAL: i64 = -(libc::EINVAL as i64);

/// A process that ran before: pages 0 to 8 were mapped when its trace began at 100 ns; the list was read until 200.
fn attached() -> Scene {
    let mut s = Scene {
        ledger: Ledger::default(),
        now: 0,
        tid: PID,
    };
    s.apply(Event::Begin(Begin {
        at_ns: 100,
        pid: PID,
        comm: "test".to_owned(),
        before_exec: false,
    }));
    s.apply(Event::Folios(Folios::base_pages(100, PID)));
    s.apply(Event::Mappings(Mappings {
        at_ns: 100,
        until_ns: 200,
        pid: PID,
        fresh: false,
        heap_end: None,
        whole: true,
        list: vec![(page(0)..page(8), anon())],
    }));
    s
}

#[test]
fn what_is_older_than_the_trace_counts_as_nothing() {
    let mut s = attached();
    s.map(10, 4);
    s.write_older(10, 2);
    s.advise(A::DONTNEED, 0, 8);
    assert!(s.now < 100);
    assert_eq!(s.totals().faults.total, 0);
    assert_eq!(s.advice(A::DONTNEED).calls, 0);
    s.now = 300;
    s.map(20, 2);
    s.write(20, 2);
    s.advise(A::DONTNEED, 20, 2);
    assert_eq!(
        s.advice(A::DONTNEED).released.map(in_pages),
        released(2, Basis::Derived)
    );
    assert_eq!(s.totals().faults.all().basis(), Basis::Exact);
}

#[test]
fn a_call_under_way_when_the_trace_began_takes_effect_and_counts_as_nothing() {
    let mut s = attached();
    s.now = 98;
    let call = s.call(munmap(0, 4), 0);
    assert!(call.enter_ns < 100 && call.exit_ns == 100);
    s.enter(&call);
    s.leave(&call);
    s.now = 300;
    s.unmap(0, 8);
    let unmap = &s.totals().unmap.munmap;
    assert_eq!(
        (unmap.calls, unmap.released.map(in_pages)),
        (1, released(4, Basis::UpperBound))
    );
}

#[test]
fn what_was_unmapped_while_the_list_was_read_may_be_missing_in_it() {
    let mut s = attached();
    s.now = 150;
    s.unmap(40, 4);
    assert_eq!(
        s.totals().unmap.munmap.released.map(in_pages),
        released(4, Basis::UpperBound)
    );
    s.now = 300;
    s.unmap(50, 4);
    assert_eq!(
        s.totals().unmap.munmap.released.map(in_pages),
        released(4, Basis::UpperBound)
    );
}

#[test]
fn a_child_gets_no_pages_of_shared_memory() {
    let mut s = Scene::known();
    s.mmap(0, 4, 0x21);
    s.write(0, 4);
    s.fork();
    assert_eq!(s.child_write(0, false), C::File);
    let call = s.call_of(CHILD, munmap(0, 4), 0);
    s.enter(&call);
    s.leave(&call);
    let child = &s.ledger.mms()[1].totals.unmap.munmap;
    assert_eq!(child.released.map(in_pages), released(1, Basis::Derived));
}

#[test]
fn a_child_gets_the_zero_pages_of_what_was_written_to_and_of_nothing_else() {
    let mut s = Scene::known();
    s.map(0, 4);
    s.map(100, 4);
    for at in [0, 1, 100, 101] {
        s.touch(at, Access::Read, false);
    }
    s.write(3, 1);
    s.fork();
    assert_eq!(s.child_write(0, true), C::FirstTouch);
    assert_eq!(s.child_write(100, false), C::FirstTouch);
    let child = &s.ledger.mms()[1].totals.faults;
    assert_eq!(child.zero_page_writes, 1);
    assert_eq!(child.class(C::FirstTouch).faults, 1);
    assert_eq!(child.class(C::FirstTouch).bytes, 2 * PAGE);
}

#[test]
fn under_a_hole_of_what_is_moved_the_target_stays() {
    let moved = |rules| {
        let mut s = Scene::known_with(rules);
        s.map(0, 2);
        s.map(4, 2);
        s.map(100, 6);
        s.write(0, 2);
        s.write(4, 2);
        s.write(100, 6);
        s.done(mremap((0, 6), (100, 6), 3), page(100) as i64);
        let mremap = s.totals().unmap.mremap.released.map(in_pages);
        s.advise(A::DONTNEED, 100, 6);
        (mremap, s.advice(A::DONTNEED).released.map(in_pages))
    };
    assert_eq!(
        moved(Rules::of(6, 17)),
        (released(4, Basis::Derived), released(6, Basis::Derived))
    );
    // An older kernel moves one mapping, so there was no hole that it knew of.
    assert_eq!(moved(Rules::of(6, 16)).0, released(6, Basis::Derived));
}

#[test]
fn an_mremap_that_is_refused_at_once_changes_nothing() {
    for (op, ret) in [
        // Nothing there to move.
        (mremap((50, 4), (0, 4), 3), EFAULT),
        // Nor where it begins, whatever comes then.
        (mremap((18, 8), (0, 8), 7), EFAULT),
        // Over itself.
        (mremap((0, 4), (2, 4), 3), EINVAL),
        // MREMAP_FIXED without MREMAP_MAYMOVE.
        (mremap((10, 4), (0, 4), 2), EINVAL),
    ] {
        let mut s = Scene::known();
        s.map(0, 8);
        s.map(20, 8);
        s.write(0, 8);
        s.done(op, ret);
        assert!(s.ledger.take_unsure().is_empty());
        s.advise(A::DONTNEED, 0, 8);
        assert_eq!(
            s.advice(A::DONTNEED).released.map(in_pages),
            released(8, Basis::Derived)
        );
    }
}

#[test]
fn an_mremap_that_fails_half_way_has_the_mappings_read_again() {
    let mut s = Scene::known();
    s.map(0, 4);
    s.map(100, 4);
    s.write(0, 4);
    s.write(100, 4);
    s.done(mremap((0, 4), (100, 4), 3), EFAULT);
    assert_eq!(s.ledger.take_unsure(), [PID]);
    assert!(s.ledger.take_unsure().is_empty());
    // Of the source the first mapping may be at the target.
    s.advise(A::DONTNEED, 100, 4);
    assert_eq!(
        s.advice(A::DONTNEED).released.map(in_pages),
        released(4, Basis::UpperBound)
    );
}

#[test]
fn a_refused_remove_leaves_pages_as_they_were() {
    let mut s = Scene::known();
    s.map(0, 4);
    for at in 0..4 {
        s.touch(at, Access::Read, false);
    }
    s.advise_ret(A::REMOVE, 0, 4, EINVAL);
    for at in 0..4 {
        s.touch(at, Access::Write, true);
    }
    assert_eq!(s.totals().faults.zero_page_writes, 4);
    let remove = s.advice(A::REMOVE);
    assert_eq!(
        (remove.failed, remove.partial, remove.requested_bytes),
        (1, 0, 0)
    );
    assert_eq!(s.faults(C::Cow), 0);
}

#[test]
fn a_heap_is_asked_for_before_it_is_known() {
    let mut s = attached();
    s.now = 300;
    s.done(Op::Brk { addr: 0 }, page(20) as i64);
    s.done(Op::Brk { addr: page(22) }, page(22) as i64);
    s.write(20, 2);
    assert_eq!(s.faults(C::FirstTouch), 2);
}
