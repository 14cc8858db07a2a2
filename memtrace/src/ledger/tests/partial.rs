//! Calls that fail, or stop half-way: an error does not mean that nothing happened.

use super::support::*;
use crate::ledger::advice::Advice;
use crate::ledger::event::{Access, Op};
use crate::ledger::totals::{Basis, FaultClass as C};

const ENOMEM: i64 = -(libc::ENOMEM as i64);
const EINVAL: i64 = -(libc::EINVAL as i64);

#[test]
fn holes_are_reported_after_everything_else_was_done() {
    let mut s = Scene::new();
    s.map(0, 10);
    s.map(20, 10);
    s.write(0, 10);
    s.write(20, 10);
    s.advise_ret(Advice::DONTNEED, 0, 30, ENOMEM);
    s.write(0, 10);
    s.write(20, 10);
    let totals = s.advice(Advice::DONTNEED);
    assert_eq!((totals.calls, totals.failed, totals.partial), (1, 1, 1));
    assert_eq!(totals.requested_bytes, 20 * PAGE);
    assert_eq!(totals.refaults, 20);
}

#[test]
fn a_range_of_nothing_fails_whole() {
    let mut s = Scene::new();
    s.map(0, 1);
    s.advise_ret(Advice::DONTNEED, 50, 4, ENOMEM);
    let totals = s.advice(Advice::DONTNEED);
    assert_eq!(
        (totals.failed, totals.partial, totals.requested_bytes),
        (1, 0, 0)
    );
}

#[test]
fn free_stops_at_the_first_mapping_that_refuses_it() {
    let mut s = Scene::new();
    s.map(0, 4);
    s.mmap(4, 4, 0x02);
    s.map(8, 4);
    s.write(0, 4);
    s.write(8, 4);
    s.advise_ret(Advice::FREE, 0, 12, EINVAL);
    s.write(0, 4);
    s.write(8, 4);
    let totals = s.advice(Advice::FREE);
    assert_eq!((totals.failed, totals.partial), (1, 1));
    assert_eq!(totals.requested_bytes, 4 * PAGE);
    assert_eq!(s.faults(C::RefaultFree), 4);
    // The last part was not reached, and its pages were there already.
    assert_eq!(s.faults(C::Unknown), 4);
}

#[test]
fn an_unaligned_address_does_nothing() {
    let mut s = Scene::new();
    s.map(0, 4);
    s.write(0, 4);
    let op = Op::Madvise {
        advice: Advice::DONTNEED,
        addr: page(0) + 1,
        len: PAGE,
    };
    s.done(op, EINVAL);
    s.write(0, 1);
    let totals = s.advice(Advice::DONTNEED);
    assert_eq!((totals.failed, totals.partial, totals.refaults), (1, 0, 0));
}

#[test]
fn a_length_is_rounded_up_and_none_is_no_range() {
    let mut s = Scene::new();
    s.map(0, 4);
    s.write(0, 4);
    for len in [0, 1, PAGE + 1] {
        let op = Op::Madvise {
            advice: Advice::DONTNEED,
            addr: page(0),
            len,
        };
        s.done(op, 0);
    }
    let totals = s.advice(Advice::DONTNEED);
    assert_eq!((totals.calls, totals.requested_bytes), (3, 3 * PAGE));
}

#[test]
fn a_length_that_wraps_is_refused() {
    let mut s = Scene::new();
    s.map(0, 4);
    s.write(0, 4);
    let op = Op::Madvise {
        advice: Advice::DONTNEED,
        addr: page(0),
        len: u64::MAX,
    };
    s.done(op, EINVAL);
    assert_eq!(s.advice(Advice::DONTNEED).failed, 1);
    s.write(0, 1);
    assert_eq!(s.faults(C::RefaultDontneed), 0);
}

#[test]
fn where_a_call_stopped_is_unknown_the_faults_are_too() {
    let mut s = Scene::new();
    s.map(0, 4);
    s.write(0, 2);
    s.advise_ret(Advice::DONTNEED, 0, 4, -i64::from(libc::EINTR));
    s.write(0, 1);
    assert_eq!((s.faults(C::Unknown), s.faults(C::RefaultDontneed)), (1, 0));
    // What was never populated was not there to be taken.
    s.write(3, 1);
    assert_eq!(s.faults(C::FirstTouch), 3);
    assert_eq!(s.advice(Advice::DONTNEED).requested_bytes, 0);
}

#[test]
fn a_call_that_the_kernel_starts_anew_is_counted_once() {
    let mut s = Scene::new();
    s.map(0, 1);
    s.write(0, 1);
    s.advise_ret(Advice::GUARD_INSTALL, 0, 1, -513);
    s.advise(Advice::GUARD_INSTALL, 0, 1);
    let totals = s.advice(Advice::GUARD_INSTALL);
    assert_eq!(
        (totals.calls, totals.failed, totals.requested_bytes),
        (1, 0, PAGE)
    );
}

/// One range of a process_madvise of this process on itself.
fn range(first: u64, pages: u64, index: u32, before: u64) -> Op {
    Op::ProcessMadvise {
        target_pid: Some(PID),
        advice: Advice::DONTNEED,
        range: Some((page(first), pages * PAGE)),
        index,
        ranges: 3,
        before_bytes: before * PAGE,
    }
}

#[test]
fn process_madvise_does_its_ranges_up_to_the_one_that_fails() {
    let mut s = Scene::new();
    s.map(0, 30);
    s.write(0, 30);
    let ret = 2 * PAGE as i64;
    for op in [range(0, 2, 0, 0), range(10, 4, 1, 2), range(20, 3, 2, 6)] {
        s.done(op, ret);
    }
    let totals = s.advice(Advice::DONTNEED);
    // It returned what it had done, which is no failure, and only what failed can be partial.
    assert_eq!((totals.calls, totals.failed, totals.partial), (1, 0, 0));
    assert_eq!(totals.requested_bytes, 2 * PAGE);
    s.write(0, 2);
    s.write(10, 1);
    s.write(20, 1);
    assert_eq!(s.faults(C::RefaultDontneed), 2);
    assert_eq!(s.faults(C::Unknown), 2);
}

#[test]
fn a_call_whose_thread_died_in_it_has_not_failed() {
    let mut s = Scene::new();
    s.map(0, 1);
    s.done_measured(madvise(Advice::DONTNEED, 0, 1), None, 0);
    let totals = s.advice(Advice::DONTNEED);
    assert_eq!((totals.calls, totals.failed), (1, 0));
}

#[test]
fn a_process_madvise_of_unreadable_ranges_has_failed() {
    let mut s = Scene::new();
    let op = Op::ProcessMadvise {
        target_pid: Some(PID),
        advice: Advice::DONTNEED,
        range: None,
        index: 0,
        ranges: 1,
        before_bytes: 0,
    };
    s.done(op, -i64::from(libc::EFAULT));
    let totals = s.advice(Advice::DONTNEED);
    assert_eq!((totals.calls, totals.failed, totals.partial), (1, 1, 0));
}

/// MAP_HUGETLB and two sizes of its pages: the default one, and 32 MiB.
const HUGETLB: [(u32, u64); 2] = [(0x40022, 512), (0x40022 | 25 << 26, 8192)];

#[test]
fn dontneed_leaves_a_huge_page_alone_that_it_names_a_part_of() {
    for (flags, huge) in HUGETLB {
        let mut s = Scene::known();
        s.mmap(0, 2 * huge, flags);
        s.write(0, 1);
        s.write(huge, 1);
        s.advise(Advice::DONTNEED, 0, huge + 1);
        assert_eq!(s.advice(Advice::DONTNEED).requested_bytes, huge * PAGE);
        let fault = |s: &mut Scene, n| s.touch(n, crate::ledger::event::Access::Write, false).class;
        assert_eq!(fault(&mut s, 0), C::RefaultDontneed);
        assert_eq!(fault(&mut s, huge), C::Unknown);
    }
}

#[test]
fn huge_pages_that_refuse_an_advice_end_it_there() {
    let huge = 512;
    let mut s = Scene::known();
    s.map(0, huge);
    s.mmap(huge, huge, HUGETLB[0].0);
    s.advise_ret(Advice::FREE, 0, 2 * huge, EINVAL);
    s.advise_ret(Advice::PAGEOUT, 0, 2 * huge, EINVAL);
    for advice in [Advice::FREE, Advice::PAGEOUT] {
        let totals = s.advice(advice);
        assert_eq!((totals.partial, totals.requested_bytes), (1, huge * PAGE));
    }
    // It begins inside a huge page.
    s.advise_ret(Advice::DONTNEED, huge + 1, 4, EINVAL);
    let totals = s.advice(Advice::DONTNEED);
    assert_eq!((totals.failed, totals.partial), (1, 0));
}

#[test]
fn huge_pages_are_mapped_whole() {
    for (flags, huge) in HUGETLB {
        let mut s = Scene::known();
        s.mmap(0, 1, flags);
        assert_eq!(s.totals().map.mmap.bytes, huge * PAGE);
        s.write(huge - 1, 1);
        assert_eq!(s.faults(C::FirstTouch), 1);
    }
}

#[test]
fn populate_stops_at_the_first_hole() {
    let mut s = Scene::new();
    s.map(0, 4);
    s.map(8, 4);
    s.advise_ret(Advice::POPULATE_WRITE, 0, 12, ENOMEM);
    assert_eq!(s.advice(Advice::POPULATE_WRITE).requested_bytes, 4 * PAGE);
    // Populated before the hole, untouched behind it.
    s.advise(Advice::DONTNEED, 0, 4);
    s.advise(Advice::DONTNEED, 8, 4);
    s.write(0, 1);
    s.write(8, 1);
    assert_eq!(
        (s.faults(C::RefaultDontneed), s.faults(C::FirstTouch)),
        (1, 1)
    );
}

#[test]
fn process_madvise_cuts_its_ranges_to_what_one_call_can_do() {
    let most = 0x7fff_f000;
    let mut s = Scene::new();
    s.map(0, 1 << 20);
    let op = Op::ProcessMadvise {
        target_pid: Some(PID),
        advice: Advice::PAGEOUT,
        range: Some((page(0), 3 << 30)),
        index: 0,
        ranges: 1,
        before_bytes: 0,
    };
    s.done(op, most);
    let totals = s.advice(Advice::PAGEOUT);
    assert_eq!((totals.failed, totals.partial), (0, 0));
    assert_eq!(totals.requested_bytes, most as u64);
}

#[test]
fn a_guard_that_process_madvise_installs_ends_touches_as_any() {
    let mut s = Scene::known();
    s.map(0, 4);
    let op = Op::ProcessMadvise {
        target_pid: Some(PID),
        advice: Advice::GUARD_INSTALL,
        range: Some((page(2), 4 * PAGE)),
        index: 0,
        ranges: 2,
        before_bytes: 0,
    };
    // What is mapped was done, and then the hole told of.
    s.done(op, -i64::from(libc::ENOMEM));
    assert_eq!(s.touch(3, Access::Write, false).bytes, 0);
    assert_eq!(s.touch(1, Access::Write, false).bytes, PAGE);
    s.unmap(0, 4);
    assert_eq!(
        s.totals().unmap.munmap.released.map(in_pages),
        released(1, Basis::Derived)
    );
}

#[test]
fn a_process_madvise_on_whom_nobody_knows_is_not_taken_for_ones_own() {
    let mut s = Scene::new();
    s.map(0, 2);
    s.write(0, 2);
    let op = Op::ProcessMadvise {
        target_pid: None,
        advice: Advice::PAGEOUT,
        range: Some((page(0), 2 * PAGE)),
        index: 0,
        ranges: 1,
        before_bytes: 0,
    };
    s.done(op, 2 * PAGE as i64);
    assert_eq!(s.advice(Advice::PAGEOUT).calls, 0);
    assert_eq!(s.totals().untargeted_calls, 1);
    s.write(0, 1);
    assert_eq!(s.faults(C::RefaultOther), 0);
}

#[test]
fn a_process_madvise_that_came_to_nobody_is_a_failed_call_of_its_caller() {
    let mut s = Scene::known();
    s.map(0, 2);
    s.write(0, 2);
    for index in 0..2 {
        let op = Op::ProcessMadvise {
            target_pid: None,
            advice: Advice::PAGEOUT,
            range: None,
            index,
            ranges: 2,
            before_bytes: u64::from(index) * PAGE,
        };
        s.done(op, -i64::from(libc::EBADF));
    }
    assert_eq!(s.totals().untargeted_calls, 0);
    let advice = s.advice(Advice::PAGEOUT);
    assert_eq!(
        (advice.calls, advice.failed, advice.requested_bytes),
        (1, 1, 0)
    );
    // Nothing is doubted of its pages.
    s.advise(Advice::DONTNEED, 0, 2);
    s.write(0, 1);
    assert_eq!(s.faults(C::RefaultDontneed), 1);
}

#[test]
fn requests_without_end_stay_at_the_largest_number() {
    let mut s = Scene::new();
    s.map(0, 1 << 34);
    for _ in 0..((1 << 18) + 1) {
        s.advise(Advice::DONTNEED, 0, 1 << 34);
    }
    assert_eq!(s.advice(Advice::DONTNEED).requested_bytes, u64::MAX);
}

#[test]
fn numbers_that_are_no_advice_do_not_fill_the_memory() {
    let mut s = Scene::new();
    s.map(0, 1);
    for number in 1000..3000 {
        s.advise_ret(Advice(number), 0, 1, EINVAL);
    }
    let totals = s.totals();
    assert!(totals.advice.len() <= 65, "{}", totals.advice.len());
    assert_eq!(totals.advice.values().map(|t| t.failed).sum::<u64>(), 2000);
}
