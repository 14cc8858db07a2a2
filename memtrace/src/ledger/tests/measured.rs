//! Bytes that the kernel counted: which fault brought them, which came without one, what calls released.

use super::support::*;
use crate::ledger::advice::Advice as A;
use crate::ledger::event::{Access, Op};
use crate::ledger::totals::{Basis, FaultClass as C, Totals};

fn measured() -> Scene {
    let mut s = Scene::known();
    s.measure();
    s
}

fn unfaulted(s: &Scene) -> Option<u64> {
    s.totals().unfaulted_bytes.map(|bytes| bytes / PAGE)
}

#[test]
fn a_fault_has_the_bytes_that_it_brought() {
    let mut s = measured();
    s.folios(PID, 2 << 20);
    s.map(0, 2048);
    // One huge page, in one piece or in several.
    s.write(0, 1);
    s.populated(512, true);
    s.write(512, 1);
    s.populated(500, true);
    s.populated(12, true);
    let first = s.totals().faults.class(C::FirstTouch);
    assert_eq!((first.faults, first.bytes), (2, 1024 * PAGE));
    assert_eq!(first.basis(), Basis::Measured);
    assert_eq!(s.totals().faults.all().basis(), Basis::Measured);
    assert_eq!(unfaulted(&s), Some(0));
}

#[test]
fn fault_around_is_measured() {
    let mut s = measured();
    s.mmap(0, 64, 0x02);
    s.touch(3, Access::Read, false);
    s.populated(16, true);
    let file = s.totals().faults.class(C::File);
    assert_eq!((file.faults, file.bytes), (1, 16 * PAGE));
    assert_eq!(file.basis(), Basis::Measured);
}

#[test]
fn a_fault_that_brought_nothing_has_no_bytes() {
    let mut s = measured();
    s.map(0, 1);
    s.write(0, 1);
    s.populated(1, true);
    // A second thread at the same page at once: the first has filled it.
    s.tid = 11;
    s.write(0, 1);
    assert_eq!((s.faults(C::FirstTouch), s.faults(C::Unknown)), (1, 1));
    assert_eq!(s.totals().faults.all().bytes, PAGE);
}

#[test]
fn the_bytes_of_a_zero_page_come_with_the_write_in_the_class_of_the_read() {
    let mut s = measured();
    s.map(0, 2);
    s.write(0, 1);
    s.populated(1, true);
    s.advise(A::DONTNEED, 0, 1);
    for n in [0, 1] {
        s.touch(n, Access::Read, false);
    }
    assert_eq!(
        (s.bytes(C::FirstTouch), s.bytes(C::RefaultDontneed)),
        (PAGE, 0)
    );
    for n in [0, 1] {
        assert!(s.touch(n, Access::Write, true).zero_page_write);
        s.populated(1, true);
    }
    assert_eq!(s.bytes(C::FirstTouch), 2 * PAGE);
    assert_eq!(s.bytes(C::RefaultDontneed), PAGE);
    let dontneed = s.advice(A::DONTNEED);
    assert_eq!((dontneed.refaults, dontneed.refaulted_bytes), (1, PAGE));
    assert_eq!(s.totals().faults.zero_page_writes, 2);
    assert_eq!(unfaulted(&s), Some(0));
}

#[test]
fn a_refault_brings_back_what_the_kernel_counted() {
    let mut s = measured();
    s.folios(PID, 2 << 20);
    s.map(0, 512);
    s.write(0, 1);
    s.populated(512, true);
    s.advise(A::FREE, 0, 512);
    s.write(7, 1);
    s.populated(512, true);
    let free = s.advice(A::FREE);
    assert_eq!((free.refaults, free.refaulted_bytes), (1, 512 * PAGE));
    assert_eq!(free.refault_ratio(), Some((1.0, "released")));
}

#[test]
fn a_copy_is_one_page_and_no_new_memory() {
    let mut s = measured();
    s.map(0, 2);
    s.write(0, 2);
    s.populated(1, true);
    // As after a fork; and of a file's page, in whose place an anonymous one comes.
    for by_kernel in [false, true] {
        s.touch_by(0, Access::Write, true, by_kernel);
        s.populated(1, !by_kernel);
    }
    let cow = s.totals().faults.class(C::Cow);
    assert_eq!((cow.faults, cow.bytes), (2, 2 * PAGE));
    assert_eq!(cow.basis(), Basis::Exact);
    assert_eq!(s.bytes(C::FirstTouch), PAGE);
    assert_eq!(unfaulted(&s), Some(0));
}

#[test]
fn a_fault_of_the_kernels_own_gets_what_comes_next_in_the_call_and_no_more() {
    let mut s = measured();
    s.map(0, 8);
    s.touch_by(0, Access::Write, false, true);
    s.populated(1, false);
    assert_eq!(s.bytes(C::FirstTouch), PAGE);
    s.populated(5, false);
    assert_eq!((s.bytes(C::FirstTouch), unfaulted(&s)), (PAGE, Some(5)));
}

#[test]
fn a_system_call_and_a_fault_of_the_program_do_not_share_their_bytes() {
    let mut s = measured();
    s.map(0, 8);
    s.write(0, 1);
    s.populated(3, false);
    s.populated(1, true);
    assert_eq!((s.bytes(C::FirstTouch), unfaulted(&s)), (PAGE, Some(3)));
    s.touch_by(1, Access::Write, false, true);
    s.populated(2, true);
    assert_eq!((s.bytes(C::FirstTouch), unfaulted(&s)), (PAGE, Some(5)));
}

#[test]
fn each_thread_has_its_own_last_fault() {
    let mut s = measured();
    s.map(0, 8);
    s.write(0, 1);
    s.advise(A::DONTNEED, 0, 1);
    s.tid = 11;
    s.write(0, 1);
    s.tid = PID;
    s.populated(1, true);
    s.tid = 11;
    s.populated(2, true);
    s.tid = 12;
    s.populated(4, true);
    assert_eq!(s.bytes(C::FirstTouch), PAGE);
    assert_eq!(s.bytes(C::RefaultDontneed), 2 * PAGE);
    assert_eq!(unfaulted(&s), Some(4));
}

#[test]
fn what_comes_without_a_fault_is_counted_as_that() {
    let mut s = measured();
    s.map(0, 512);
    s.populated(512, false);
    s.advise(A::POPULATE_WRITE, 0, 512);
    s.populated(256, false);
    s.advise(A::COLLAPSE, 0, 512);
    assert_eq!(unfaulted(&s), Some(768));
    assert_eq!(s.totals().faults.total, 0);
}

#[test]
fn nobody_measured_is_not_the_same_as_nothing_came() {
    let mut s = Scene::known();
    s.populated(5, false);
    assert_eq!(unfaulted(&s), None);
    s.measure();
    assert_eq!(unfaulted(&s), Some(0));
    // To be told once more changes nothing.
    s.populated(5, false);
    s.measure();
    assert_eq!(unfaulted(&s), Some(5));
}

#[test]
fn what_was_counted_before_the_measuring_keeps_its_weaker_word() {
    let mut s = Scene::known();
    s.folios(PID, 2 << 20);
    s.map(0, 2048);
    s.write(0, 1);
    s.measure();
    s.write(600, 1);
    s.populated(512, true);
    let first = s.totals().faults.class(C::FirstTouch);
    assert_eq!(
        (first.bytes, first.basis()),
        (513 * PAGE, Basis::LowerBound)
    );
}

#[test]
fn calls_release_what_the_kernel_counted() {
    let mut s = measured();
    s.done(Op::Brk { addr: 0 }, page(900) as i64);
    s.done(Op::Brk { addr: page(904) }, page(904) as i64);
    s.mapped_before(0, 100, anon());
    s.done_measured(madvise(A::DONTNEED, 0, 10), Some(0), 3);
    s.done_measured(munmap(10, 10), Some(0), 4);
    s.done_measured(mremap((20, 10), (20, 5), 0), Some(page(20) as i64), 2);
    let over = Op::Mmap {
        addr: page(40),
        len: 10 * PAGE,
        prot: 3,
        flags: 0x32,
        fd: -1,
        name: None,
    };
    s.done_measured(over, Some(page(40) as i64), 6);
    s.done_measured(Op::Brk { addr: page(900) }, Some(page(900) as i64), 1);
    let known = |pages| released(pages, Basis::Measured);
    assert_eq!(s.advice(A::DONTNEED).released.map(in_pages), known(3));
    let unmap = &s.totals().unmap;
    assert_eq!(unmap.munmap.released.map(in_pages), known(4));
    assert_eq!(unmap.mremap.released.map(in_pages), known(2));
    assert_eq!(unmap.map_fixed.released.map(in_pages), known(6));
    assert_eq!(unmap.brk.released.map(in_pages), known(1));
}

#[test]
fn the_kernels_count_stands_where_nothing_else_tells_what_a_call_did() {
    let mut s = measured();
    s.map(0, 8);
    s.write(0, 8);
    let eintr = Some(-i64::from(libc::EINTR));
    s.done_measured(madvise(A::DONTNEED, 0, 4), eintr, 3);
    s.done_measured(munmap(4, 4), None, 2);
    let dontneed = s.advice(A::DONTNEED).released;
    assert_eq!(dontneed.map(in_pages), released(3, Basis::Measured));
    let munmap = s.totals().unmap.munmap.released;
    assert_eq!(munmap.map(in_pages), released(2, Basis::Measured));
}

#[test]
fn marks_and_offers_are_not_what_the_kernel_counts_as_gone() {
    let mut s = measured();
    s.map(0, 8);
    s.write(0, 8);
    s.done_measured(madvise(A::FREE, 0, 4), Some(0), 0);
    s.done_measured(madvise(A::PAGEOUT, 4, 4), Some(0), 0);
    let free = s.advice(A::FREE).released;
    assert_eq!(free.map(in_pages), released(4, Basis::UpperBound));
    assert_eq!(s.advice(A::PAGEOUT).released, None);
}

#[test]
fn a_count_from_before_the_measuring_is_not_trusted() {
    let mut s = Scene::known();
    s.map(0, 8);
    s.write(0, 8);
    s.done_measured(madvise(A::DONTNEED, 0, 8), Some(0), 3);
    let dontneed = s.advice(A::DONTNEED).released;
    assert_eq!(dontneed.map(in_pages), released(8, Basis::Derived));
}

#[test]
fn a_sum_is_known_as_far_as_anyone_measured() {
    let with = |unfaulted_bytes| Totals {
        unfaulted_bytes,
        ..Totals::default()
    };
    for (one, other, sum) in [
        (None, None, None),
        (Some(3), None, Some(3)),
        (None, Some(0), Some(0)),
        (Some(3), Some(4), Some(7)),
        (Some(u64::MAX), Some(4), Some(u64::MAX)),
    ] {
        let mut total = with(one);
        total.add(&with(other));
        assert_eq!(total.unfaulted_bytes, sum);
    }
}

#[test]
fn what_a_call_populates_is_not_brought_by_a_fault_of_the_call_before() {
    let mut s = Scene::known();
    s.map(0, 8);
    s.measure();
    // write(2) from untouched memory: the kernel reads the zero page, and brings nothing.
    s.touch_by(0, Access::Read, false, true);
    s.populated(1, false);
    assert_eq!(s.bytes(C::FirstTouch), 0);
    assert_eq!(s.totals().unfaulted_bytes, Some(PAGE));
    // A fault of the kernel's that brought nothing, as far as is known, and another call that does.
    s.touch_by(1, Access::Write, false, true);
    let call = s.call(madvise(A::POPULATE_WRITE, 4, 1), 0);
    s.enter(&call);
    s.populated(1, false);
    s.leave(&call);
    assert_eq!(s.bytes(C::FirstTouch), 0);
    assert_eq!(s.totals().unfaulted_bytes, Some(2 * PAGE));
}
