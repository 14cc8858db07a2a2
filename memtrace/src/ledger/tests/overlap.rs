//! Calls and faults of different threads at once: what order settles, and what it can't.

use std::sync::Arc;

use super::support::*;
use crate::ledger::advice::Advice;
use crate::ledger::event::{Access, Call, Op};
use crate::ledger::totals::FaultClass as C;

/// One thread is inside a munmap of four populated pages, and another goes on.
fn unmapping_four_pages() -> (Scene, Arc<Call>) {
    let mut s = Scene::new();
    s.map(0, 4);
    s.write(0, 4);
    let (addr, len) = (page(0), 4 * PAGE);
    let munmap = s.call(Op::Munmap { addr, len }, 0);
    s.enter(&munmap);
    s.tid = 11;
    (s, munmap)
}

#[test]
fn a_fault_inside_a_give_back_finds_the_page_already_taken() {
    let mut s = Scene::new();
    s.map(0, 2);
    s.write(0, 2);
    let call = s.call(madvise(Advice::DONTNEED, 0, 2), 0);
    s.enter(&call);
    s.tid = 11;
    assert_eq!(s.touch(0, Access::Write, false).class, C::RefaultDontneed);
    s.leave(&call);
    assert_eq!(s.totals().faults.ambiguous, 0);
}

#[test]
fn a_page_touched_inside_a_give_back_may_have_been_taken_again() {
    let mut s = Scene::new();
    s.map(0, 2);
    let call = s.call(madvise(Advice::DONTNEED, 0, 2), 0);
    s.enter(&call);
    s.tid = 11;
    assert_eq!(s.touch(0, Access::Write, false).class, C::FirstTouch);
    s.leave(&call);
    let again = s.touch(0, Access::Write, false);
    assert_eq!((again.class, again.ambiguous), (C::RefaultDontneed, true));
    assert_eq!(s.totals().faults.ambiguous, 1);
    // By which call it went is a guess, so that it has no age; least of all 0.
    assert_eq!(again.release.map(|release| release.at_ns), Some(None));
    let totals = s.advice(Advice::DONTNEED);
    assert_eq!((totals.refaults, totals.ages.quantile_ns(0.5)), (1, None));
}

#[test]
fn two_kinds_of_give_back_at_once_leave_the_refault_ambiguous() {
    let mut s = Scene::new();
    s.map(0, 1);
    s.write(0, 1);
    let free = s.call(madvise(Advice::FREE, 0, 1), 0);
    s.enter(&free);
    s.tid = 11;
    let dontneed = s.call(madvise(Advice::DONTNEED, 0, 1), 0);
    s.enter(&dontneed);
    s.tid = 12;
    assert!(s.touch(0, Access::Write, false).ambiguous);
}

/// A page that was touched while another thread's DONTNEED was under way over it.
fn touched_inside_dontneed() -> Scene {
    let mut s = Scene::known();
    s.map(0, 1);
    let call = s.call(madvise(Advice::DONTNEED, 0, 1), 0);
    s.enter(&call);
    s.tid = 11;
    s.write(0, 1);
    s.leave(&call);
    s
}

#[test]
fn what_may_be_gone_cannot_surely_be_given_back_after_that() {
    for advice in [Advice::FREE, Advice::PAGEOUT, Advice::REMOVE] {
        let mut s = touched_inside_dontneed();
        s.advise(advice, 0, 1);
        // Still so, however often it is given back.
        s.advise(advice, 0, 1);
        let back = s.touch(0, Access::Write, false);
        assert!(back.ambiguous, "{advice}: {back:?}");
        assert_eq!(s.advice(advice).ages.quantile_ns(0.5), None);
    }
    let mut s = touched_inside_dontneed();
    s.advise(Advice::DONTNEED, 0, 1);
    let back = s.touch(0, Access::Write, false);
    assert_eq!((back.class, back.ambiguous), (C::RefaultDontneed, false));
}

#[test]
fn of_two_calls_that_drop_pages_at_once_either_may_have_done_it() {
    let mut s = Scene::known();
    s.map(0, 2);
    s.write(0, 2);
    let guard = s.call(madvise(Advice::REMOVE, 1, 1), 0);
    s.enter(&guard);
    s.tid = 11;
    s.advise(Advice::DONTNEED, 0, 2);
    s.leave(&guard);
    assert!(!s.touch(0, Access::Write, false).ambiguous);
    assert!(s.touch(1, Access::Write, false).ambiguous);
}

#[test]
fn a_page_touched_inside_two_give_backs_may_be_gone_by_the_stronger_one() {
    use Advice as A;
    for (stronger, weaker) in [(A::DONTNEED, A::FREE), (A::FREE, A::PAGEOUT)] {
        let mut s = Scene::known();
        s.map(0, 1);
        let first = s.call(madvise(stronger, 0, 1), 0);
        s.enter(&first);
        s.tid = 11;
        let second = s.call(madvise(weaker, 0, 1), 0);
        s.enter(&second);
        s.tid = 12;
        s.write(0, 1);
        s.leave(&first);
        s.leave(&second);
        s.advise(weaker, 0, 1);
        let back = s.touch(0, Access::Write, false);
        assert!(back.ambiguous, "{weaker}: {back:?}");
    }
}

#[test]
fn a_mapping_handed_on_by_munmap_is_new_although_its_mmap_came_back_first() {
    let (mut s, munmap) = unmapping_four_pages();
    s.map(0, 4);
    assert_eq!(s.touch(0, Access::Write, false).class, C::FirstTouch);
    // The first thread comes back last, and must not take the new mapping away.
    s.leave(&munmap);
    assert_eq!(s.touch(1, Access::Write, false).class, C::FirstTouch);
    assert_eq!(s.faults(C::Unknown), 0);
}

#[test]
fn a_failed_give_back_takes_nothing_at_its_enter() {
    let mut s = Scene::new();
    s.map(0, 1);
    s.write(0, 1);
    let op = Op::Madvise {
        advice: Advice::DONTNEED,
        addr: page(0) + 8,
        len: PAGE,
    };
    let call = s.call(op, -i64::from(libc::EINVAL));
    s.enter(&call);
    s.tid = 11;
    assert_eq!(s.touch(0, Access::Write, false).class, C::Unknown);
}

#[test]
fn the_threads_own_call_does_not_make_its_faults_ambiguous() {
    let mut s = Scene::new();
    s.map(0, 1);
    let call = s.call(madvise(Advice::FREE, 0, 1), 0);
    s.enter(&call);
    s.touch(0, Access::Write, false);
    s.leave(&call);
    s.touch(0, Access::Write, false);
    assert_eq!((s.faults(C::Unknown), s.totals().faults.ambiguous), (1, 0));
}

#[test]
fn an_address_handed_out_again_proves_that_its_munmap_is_done() {
    let (mut s, _) = unmapping_four_pages();
    s.map(1, 2);
    assert!(!s.touch(1, Access::Write, false).ambiguous);
    // What was not handed out may still be on its way.
    assert!(s.touch(3, Access::Write, false).ambiguous);
}
