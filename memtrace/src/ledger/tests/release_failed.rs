//! What failed calls released, and when it can't be told.

use super::support::*;
use crate::ledger::advice::Advice as A;
use crate::ledger::event::Op;
use crate::ledger::totals::Basis;

const ENOMEM: i64 = -(libc::ENOMEM as i64);
const EINVAL: i64 = -(libc::EINVAL as i64);

#[test]
fn a_failed_call_releases_nothing_and_spoils_no_sum() {
    // The failure comes first, and once more later.
    let mut s = Scene::known();
    s.map(0, 8);
    s.write(0, 8);
    for first in [0, 4] {
        s.done(munmap(first, 4), EINVAL);
        s.advise_ret(A::DONTNEED, 50, 1, ENOMEM);
        s.advise_ret(A::FREE, 50, 1, ENOMEM);
        s.advise(A::FREE, first, 1);
        s.advise(A::DONTNEED, first, 2);
        s.unmap(first, 4);
    }
    assert_eq!(
        s.advice(A::FREE).released.map(in_pages),
        released(2, Basis::UpperBound)
    );
    let dontneed = s.advice(A::DONTNEED);
    assert_eq!(
        dontneed.released.map(in_pages),
        released(4, Basis::UpperBound)
    );
    let munmap = &s.totals().unmap.munmap;
    assert_eq!((munmap.calls, munmap.failed), (4, 2));
    assert_eq!(munmap.released.map(in_pages), released(4, Basis::Derived));
}

#[test]
fn a_failed_call_alone_released_nothing() {
    let mut s = Scene::new();
    s.done(munmap(0, 4), EINVAL);
    s.advise_ret(A::DONTNEED, 0, 1, -i64::from(libc::ENOSYS));
    assert_eq!(
        s.advice(A::DONTNEED).released.map(in_pages),
        released(0, Basis::Derived)
    );
    assert_eq!(
        s.totals().unmap.munmap.released.map(in_pages),
        released(0, Basis::Derived)
    );
}

#[test]
fn only_the_part_that_was_done_is_released() {
    let mut s = Scene::known();
    s.map(0, 2);
    s.map(4, 2);
    s.write(0, 2);
    s.write(4, 2);
    s.advise_ret(A::DONTNEED, 0, 5, ENOMEM);
    assert_eq!(
        s.advice(A::DONTNEED).released.map(in_pages),
        released(3, Basis::Derived)
    );
}

#[test]
fn a_call_whose_effect_is_unknown_spoils_the_sum_for_good() {
    let mut s = Scene::known();
    s.map(0, 8);
    s.write(0, 8);
    s.advise(A::DONTNEED, 0, 1);
    s.advise_ret(A::DONTNEED, 1, 3, -i64::from(libc::EINTR));
    assert_eq!(s.advice(A::DONTNEED).released, None);
    s.advise(A::DONTNEED, 4, 1);
    let dontneed = s.advice(A::DONTNEED);
    assert_eq!(dontneed.released, None);
    s.write(0, 1);
    assert_eq!(
        s.advice(A::DONTNEED).refault_ratio(),
        Some((0.5, "requested"))
    );
}

#[test]
fn a_thread_that_died_in_munmap_leaves_the_sum_unknown() {
    let mut s = Scene::known();
    s.map(0, 8);
    s.write(0, 8);
    let mut call = s.call(munmap(0, 4), 0);
    std::sync::Arc::get_mut(&mut call).expect("one owner").ret = None;
    s.enter(&call);
    s.unmap(4, 4);
    assert_eq!(s.totals().unmap.munmap.released, None);
}

#[test]
fn the_ranges_that_were_not_tried_do_not_make_an_unknown_sum_known() {
    let mut s = Scene::known();
    s.map(0, 8);
    s.write(0, 8);
    for index in [0, 1, 2] {
        let op = Op::ProcessMadvise {
            target_pid: Some(PID),
            advice: A::DONTNEED,
            range: Some((page(u64::from(index) * 2), 2 * PAGE)),
            index,
            ranges: 3,
            before_bytes: u64::from(index) * 2 * PAGE,
        };
        s.done(op, PAGE as i64);
    }
    assert_eq!(s.advice(A::DONTNEED).released, None);
}

#[test]
fn ranges_that_could_not_be_read_leave_the_sum_unknown() {
    let released = |ret| {
        let mut s = Scene::known();
        let op = Op::ProcessMadvise {
            target_pid: Some(PID),
            advice: A::DONTNEED,
            range: None,
            index: 0,
            ranges: 1,
            before_bytes: 0,
        };
        s.done(op, ret);
        s.advice(A::DONTNEED).released
    };
    assert_eq!(released(PAGE as i64), None);
    let nothing = super::support::released(0, Basis::Derived);
    assert_eq!(released(EINVAL).map(in_pages), nothing);
    assert_eq!(released(0).map(in_pages), nothing);
}

#[test]
fn the_ranges_of_one_call_add_up() {
    let mut s = Scene::known();
    s.map(0, 8);
    s.write(0, 3);
    for index in [0, 1] {
        let op = Op::ProcessMadvise {
            target_pid: Some(PID),
            advice: A::DONTNEED,
            range: Some((page(u64::from(index) * 2), 2 * PAGE)),
            index,
            ranges: 2,
            before_bytes: u64::from(index) * 2 * PAGE,
        };
        s.done(op, 4 * PAGE as i64);
    }
    assert_eq!(
        s.advice(A::DONTNEED).released.map(in_pages),
        released(3, Basis::Derived)
    );
}

#[test]
fn a_failed_mapping_over_pages_may_have_ended_them() {
    let mut s = Scene::known();
    s.map(0, 4);
    s.write(0, 4);
    let op = |first| Op::Mmap {
        addr: page(first),
        len: 2 * PAGE,
        prot: 3,
        flags: 0x32,
        fd: -1,
        name: None,
    };
    // Where nothing was, nothing can have ended.
    s.done(op(10), ENOMEM);
    s.mmap(0, 1, 0x32);
    let over = |s: &Scene| s.totals().unmap.map_fixed.released;
    assert_eq!(over(&s).map(in_pages), released(1, Basis::Derived));
    s.done(op(1), ENOMEM);
    s.mmap(3, 1, 0x32);
    assert_eq!(over(&s), None);
}

#[test]
fn a_failed_mremap_onto_nothing_has_lost_nothing() {
    let mut s = Scene::known();
    s.map(0, 1);
    s.done(mremap((0, 1), (20, 4), 3), -i64::from(libc::ENOMEM));
    s.unmap(20, 4);
    assert_eq!(
        s.totals().unmap.munmap.released.map(in_pages),
        released(0, Basis::Derived)
    );
}

#[test]
fn a_failed_mremap_onto_pages_may_have_ended_them() {
    let mut s = Scene::known();
    s.map(0, 4);
    s.map(10, 4);
    s.write(10, 4);
    s.done(mremap((0, 2), (10, 2), 3), ENOMEM);
    s.done(mremap((2, 2), (12, 2), 3), page(12) as i64);
    assert_eq!(s.totals().unmap.mremap.released, None);
}
