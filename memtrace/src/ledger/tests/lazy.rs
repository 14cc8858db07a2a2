//! The balance of MADV_FREE: what is marked, what ends while marked, and what was written again.

use super::support::*;
use crate::ledger::Mm;
use crate::ledger::advice::Advice as A;
use crate::ledger::event::{Access, Event, Exec, Exit, Op};

fn freed(pages: u64) -> Scene {
    let mut s = Scene::known();
    s.map(0, pages);
    s.write(0, pages);
    s.advise(A::FREE, 0, pages);
    s
}

fn child(s: &Scene) -> &Mm {
    s.ledger.mm_of(CHILD).expect("the child lives")
}

#[test]
fn what_is_freed_is_outstanding_until_it_comes_back_or_ends() {
    let mut s = freed(10);
    assert_eq!(s.lazy_pages(), (10, 0, 10));
    s.write(0, 1);
    s.touch(1, Access::Read, false);
    assert_eq!(s.lazy_pages(), (10, 0, 8));
    s.advise(A::DONTNEED, 2, 2);
    assert_eq!(s.lazy_pages(), (10, 2, 6));
    s.unmap(4, 1);
    s.mmap(5, 1, 0x32);
    assert_eq!(s.lazy_pages(), (10, 4, 4));
    // A copy takes the place of the marked page.
    s.touch(6, Access::Write, true);
    assert_eq!(s.lazy_pages(), (10, 4, 3));
    s.advise(A::PAGEOUT, 7, 1);
    s.advise(A::COLD, 8, 1);
    assert_eq!(s.lazy_pages(), (10, 4, 3));
}

#[test]
fn pages_that_are_marked_are_not_marked_anew() {
    let mut s = freed(4);
    s.advise(A::FREE, 0, 4);
    assert_eq!(s.lazy_pages(), (4, 0, 4));
    // One that came back is.
    s.write(0, 1);
    s.advise(A::FREE, 0, 4);
    assert_eq!(s.lazy_pages(), (5, 0, 4));
    // All four first, and three of them the second time, may have been written again in between.
    assert_eq!(s.lazy().marked_again_bytes, 7 * PAGE);
    assert_eq!(s.lazy().perhaps_bytes, 0);
}

#[test]
fn nothing_that_is_not_there_is_marked() {
    let mut s = Scene::known();
    s.map(0, 4);
    s.touch(0, Access::Read, false);
    s.write(1, 1);
    s.advise(A::DONTNEED, 1, 1);
    s.advise(A::FREE, 0, 4);
    assert_eq!(s.lazy_pages(), (0, 0, 0));
    assert_eq!((s.lazy().since_ns, s.lazy().last_marked_ns), (None, None));
    assert!(!s.ledger.mms()[0].lazy_unseen());
}

#[test]
fn a_heap_that_shrinks_drops_its_marks() {
    let mut s = Scene::known();
    s.done(Op::Brk { addr: 0 }, page(0) as i64);
    s.done(Op::Brk { addr: page(4) }, page(4) as i64);
    s.write(0, 4);
    s.advise(A::FREE, 0, 4);
    s.done(Op::Brk { addr: page(1) }, page(1) as i64);
    assert_eq!(s.lazy_pages(), (4, 3, 1));
}

#[test]
fn marks_move_with_mremap() {
    let mut s = freed(4);
    s.done(mremap((0, 4), (20, 4), 3), page(20) as i64);
    assert_eq!(s.lazy_pages(), (4, 0, 4));
    // Nothing of it is left behind.
    s.map(0, 4);
    s.unmap(0, 4);
    assert_eq!(s.lazy_pages(), (4, 0, 4));
    // What is cut off ends, and so does what it is moved upon.
    s.done(mremap((20, 4), (20, 3), 0), page(20) as i64);
    assert_eq!(s.lazy_pages(), (4, 1, 3));
    s.map(30, 3);
    s.done(mremap((30, 3), (21, 3), 3), page(21) as i64);
    assert_eq!(s.lazy_pages(), (4, 3, 1));
    // The old range of DONTUNMAP has none of them.
    s.done(mremap((20, 1), (40, 1), 5), page(40) as i64);
    assert_eq!(s.lazy_pages(), (4, 3, 1));
    s.unmap(20, 1);
    assert_eq!(s.lazy_pages(), (4, 3, 1));
    s.unmap(40, 1);
    assert_eq!(s.lazy_pages(), (4, 4, 0));
}

#[test]
fn marks_whose_fate_is_unknown_count_as_dropped() {
    let eintr = -i64::from(libc::EINTR);
    let enomem = -i64::from(libc::ENOMEM);
    let mut s = freed(10);
    s.advise_ret(A::DONTNEED, 0, 2, eintr);
    assert_eq!(s.lazy_pages(), (10, 2, 8));
    let op = Op::Mmap {
        addr: page(2),
        len: 2 * PAGE,
        prot: 3,
        flags: 0x32,
        fd: -1,
        name: None,
    };
    s.done(op, enomem);
    assert_eq!(s.lazy_pages(), (10, 4, 6));
    s.map(50, 2);
    s.done(mremap((50, 2), (4, 2), 3), enomem);
    assert_eq!(s.lazy_pages(), (10, 6, 4));
    s.done_measured(munmap(6, 2), None, 2);
    assert_eq!(s.lazy_pages(), (10, 8, 2));
    // Memory handed out anew, whose end was not seen.
    s.map(8, 2);
    assert_eq!(s.lazy_pages(), (10, 10, 0));
}

#[test]
fn marks_that_a_failed_populate_passed_over_stay() {
    let mut s = freed(2);
    s.advise_ret(A::POPULATE_WRITE, 0, 2, -i64::from(libc::EINTR));
    assert_eq!(s.lazy_pages(), (2, 0, 2));
}

#[test]
fn marks_are_dropped_also_where_the_mappings_are_not_known() {
    let mut s = Scene::new();
    s.write(0, 4);
    s.advise(A::FREE, 0, 4);
    s.unmap(0, 4);
    assert_eq!(s.lazy_pages(), (4, 4, 0));
}

#[test]
fn the_time_runs_from_the_first_mark_while_nothing_was_marked() {
    let mut s = Scene::known();
    s.map(0, 4);
    s.write(0, 4);
    s.now = 1000;
    s.advise(A::FREE, 0, 2);
    assert_eq!(s.lazy().since_ns, Some(1001));
    assert_eq!(s.lazy().last_marked_ns, Some(1002));
    s.advise(A::FREE, 2, 2);
    assert_eq!(s.lazy().since_ns, Some(1001));
    assert_eq!(s.lazy().last_marked_ns, Some(1004));
    s.write(0, 4);
    s.now = 2000;
    s.advise(A::FREE, 0, 1);
    assert_eq!(s.lazy().since_ns, Some(2001));
    // A call that finds only marked pages may have marked them anew, and leaves the beginning.
    s.advise(A::FREE, 0, 1);
    assert_eq!(s.lazy().since_ns, Some(2001));
    assert_eq!(s.lazy().last_marked_ns, Some(2004));
}

#[test]
fn a_child_inherits_the_marks_and_its_parent_keeps_them() {
    let mut s = freed(4);
    s.advise(A::DONTFORK, 0, 1);
    s.advise(A::WIPEONFORK, 1, 1);
    s.fork();
    let lazy = child(&s).lazy();
    assert_eq!(lazy.inherited_bytes, 2 * PAGE);
    assert_eq!((lazy.marked_bytes, lazy.dropped_bytes), (0, 0));
    assert_eq!(lazy.outstanding_bytes, 2 * PAGE);
    assert_eq!(lazy.ever_bytes(), 2 * PAGE);
    assert!(child(&s).lazy_unseen());
    assert_eq!(s.lazy_pages(), (4, 0, 4));
}

#[test]
fn the_first_look_at_a_child_does_not_count_inherited_marks_twice() {
    let mut s = freed(4);
    s.fork();
    s.look(CHILD, 4);
    let lazy = child(&s).lazy();
    assert_eq!(lazy.ever_bytes(), 4 * PAGE);
}

#[test]
fn a_mark_that_a_child_makes_over_its_parents_stays_the_parents() {
    let mut s = freed(2);
    s.fork();
    let mut call = s.call(madvise(A::FREE, 0, 2), 0);
    let known = std::sync::Arc::get_mut(&mut call).expect("one owner");
    (known.pid, known.tid) = (CHILD, CHILD);
    s.enter(&call);
    s.leave(&call);
    assert_eq!(child(&s).lazy().marked_bytes, 0);
    s.child_write(0, false);
    let free = &child(&s).totals.advice[&A::FREE];
    assert_eq!(free.refaulted_bytes, PAGE);
    assert_eq!(free.inherited_refaulted_bytes, PAGE);
}

#[test]
fn marks_end_with_the_process() {
    let mut s = freed(4);
    s.advise(A::DONTNEED, 0, 1);
    let at_ns = s.tick();
    s.apply(Event::Exit(Exit {
        at_ns,
        pid: PID,
        status: Some(0),
    }));
    assert_eq!(s.lazy_pages(), (4, 4, 0));
    assert_eq!(s.lazy().ended_bytes, 3 * PAGE);
}

#[test]
fn marks_end_with_exec_and_the_new_image_has_none() {
    let mut s = freed(4);
    let at_ns = s.tick();
    s.apply(Event::Exec(Exec {
        at_ns,
        pid: PID,
        comm: "new".to_owned(),
        followed: true,
    }));
    assert_eq!(s.lazy_pages(), (4, 4, 0));
    assert_eq!(s.lazy().ended_bytes, 4 * PAGE);
    let new = s.ledger.mm_of(PID).expect("it lives on");
    assert_eq!(new.lazy().before_bytes, Some(0));
    assert_eq!(new.lazy().ever_bytes(), 0);
    assert!(!new.may_have_lazy());
    assert!(new.nothing_is_lazy());
}

#[test]
fn who_is_left_alive_keeps_its_marks() {
    let mut s = freed(4);
    s.ledger.finish(99);
    assert_eq!(s.lazy_pages(), (4, 0, 4));
    assert_eq!(s.lazy().ended_bytes, 0);
}

#[test]
fn the_first_look_shows_what_was_lazy_before_unless_something_was_marked_meanwhile() {
    let mut s = Scene::known();
    s.look(PID, 7);
    s.look(PID, 9);
    assert_eq!(s.lazy().before_bytes, Some(7 * PAGE));
    let mut s = freed(4);
    s.look(PID, 7);
    s.look(PID, 7);
    assert_eq!(s.lazy().before_bytes, None);
}

#[test]
fn what_is_nowhere_else_was_written_again() {
    let mut s = Scene::known();
    s.look(PID, 2);
    s.map(0, 10);
    s.write(0, 10);
    s.advise(A::FREE, 0, 10);
    // Until the kernel is counted, it may have taken the rest.
    s.look(PID, 5);
    assert_eq!(s.lazy().reused_bytes, 0);
    s.taken(1);
    s.look(PID, 11);
    assert_eq!(s.lazy().reused_bytes, 0);
    s.look(PID, 6);
    assert_eq!(s.lazy().reused_bytes, 5 * PAGE);
    // More that is lazy or gone is no proof that less was written: the highest mark stands.
    s.advise(A::DONTNEED, 0, 4);
    s.taken(3);
    s.look(PID, 5);
    assert_eq!(s.lazy().reused_bytes, 5 * PAGE);
    s.look(PID, 0);
    assert_eq!(s.lazy().reused_bytes, 5 * PAGE);
}

#[test]
fn what_cpus_hold_back_and_what_nobody_counted_is_not_called_written() {
    let mut s = freed(10);
    let at_ns = s.tick();
    let taken = crate::ledger::event::Taken {
        at_ns,
        pid: PID,
        dropped_bytes: PAGE,
        uncounted_bytes: 2 * PAGE,
        ..Default::default()
    };
    s.apply(Event::Taken(taken));
    s.apply(Event::Sample(Box::new(crate::ledger::event::Sample {
        at_ns,
        pid: PID,
        rss_bytes: 0,
        virtual_bytes: None,
        rollup: Some(crate::ledger::event::Rollup {
            at_ns,
            anonymous_bytes: 100 * PAGE,
            lazyfree_bytes: PAGE,
            lazyfree_error_bytes: 3 * PAGE,
            ..Default::default()
        }),
        cgroup: None,
    })));
    assert_eq!(s.lazy().reused_bytes, 3 * PAGE);
}
