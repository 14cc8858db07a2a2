//! What comes back, by which advice it went, and when it is not a refault at all.

use super::support::*;
use crate::ledger::advice::Advice;
use crate::ledger::event::{Access, MappingKind, Op};
use crate::ledger::totals::{Basis, FaultClass as C};

#[test]
fn memory_touched_again_after_dontneed_is_refaulted() {
    let mut s = Scene::new();
    s.map(0, 8);
    s.write(0, 8);
    s.advise(Advice::DONTNEED, 2, 4);
    s.write(0, 0);
    s.write(3, 2);
    assert_eq!(s.faults(C::FirstTouch), 8);
    assert_eq!(s.faults(C::RefaultDontneed), 2);
    let dontneed = s.advice(Advice::DONTNEED);
    assert_eq!((dontneed.calls, dontneed.requested_bytes), (1, 4 * PAGE));
    assert_eq!(dontneed.refaulted_bytes, 2 * PAGE);
    assert_eq!(dontneed.refault_ratio(), Some((0.5, "requested")));
}

#[test]
fn the_age_runs_from_the_enter_of_the_call_to_the_fault() {
    let mut s = Scene::new();
    s.map(0, 1);
    s.write(0, 1);
    let call = s.call(madvise(Advice::FREE, 0, 1), 0);
    s.enter(&call);
    s.leave(&call);
    s.now = call.enter_ns + 999;
    s.write(0, 1);
    assert_eq!(
        s.advice(Advice::FREE)
            .ages
            .quantile_ns(0.5)
            .map(|ns| ns / 10),
        Some(100)
    );
}

#[test]
fn giving_back_what_was_never_populated_makes_no_refault() {
    let mut s = Scene::new();
    s.map(0, 4);
    s.advise(Advice::DONTNEED, 0, 4);
    s.write(0, 4);
    assert_eq!(s.faults(C::FirstTouch), 4);
    assert_eq!(s.advice(Advice::DONTNEED).refaults, 0);
}

#[test]
fn a_read_and_then_a_write_are_one_refault_with_the_bytes_of_the_write() {
    let mut s = Scene::new();
    s.map(0, 1);
    s.write(0, 1);
    s.advise(Advice::DONTNEED, 0, 1);
    s.touch(0, Access::Read, false);
    assert_eq!(
        (s.faults(C::RefaultDontneed), s.bytes(C::RefaultDontneed)),
        (1, 0)
    );
    let write = s.touch(0, Access::Write, true);
    assert!(write.zero_page_write);
    assert_eq!(
        (s.faults(C::RefaultDontneed), s.bytes(C::RefaultDontneed)),
        (1, PAGE)
    );
    assert_eq!(s.faults(C::Cow), 0);
    assert_eq!(s.totals().faults.zero_page_writes, 1);
    assert_eq!(s.advice(Advice::DONTNEED).refaults, 1);
    assert_eq!(s.totals().faults.total, 3);
}

#[test]
fn a_write_to_a_present_page_is_a_copy_and_never_a_refault() {
    let mut s = Scene::new();
    s.map(0, 1);
    s.write(0, 1);
    s.advise(Advice::FREE, 0, 1);
    s.touch(0, Access::Write, true);
    assert_eq!((s.faults(C::Cow), s.faults(C::RefaultFree)), (1, 0));
    // The write took the page back, so what takes it next is not that FREE.
    s.touch(0, Access::Write, false);
    assert_eq!((s.faults(C::Unknown), s.faults(C::RefaultFree)), (1, 0));
}

#[test]
fn the_first_write_to_a_clean_page_of_a_shared_mapping_copies_nothing() {
    let mut s = Scene::new();
    s.mmap(0, 1, 0x01);
    s.touch(0, Access::Read, false);
    let write = s.touch(0, Access::Write, true);
    assert_eq!((write.class, write.bytes), (C::File, 0));
    assert_eq!((s.faults(C::File), s.faults(C::Cow)), (2, 0));
    assert_eq!(s.bytes(C::File), PAGE);
    // A private mapping of a file gets a copy of its own.
    s.mmap(10, 1, 0x02);
    s.touch(10, Access::Read, false);
    assert_eq!(s.touch(10, Access::Write, true).class, C::Cow);
}

#[test]
fn droppable_memory_is_private_and_survives_no_fork() {
    let mut s = Scene::new();
    s.mmap(0, 2, 0x28);
    s.write(0, 1);
    assert_eq!((s.faults(C::FirstTouch), s.faults(C::File)), (1, 0));
    s.advise(Advice::FREE, 0, 1);
    s.fork();
    assert_eq!(s.child_write(0, false), C::FirstTouch);
}

#[test]
fn pageout_after_free_is_a_refault_after_free() {
    let mut s = Scene::new();
    s.map(0, 2);
    s.write(0, 2);
    s.advise(Advice::FREE, 0, 1);
    s.advise(Advice::PAGEOUT, 0, 2);
    s.write(0, 2);
    assert_eq!(
        (s.faults(C::RefaultFree), s.faults(C::RefaultOther)),
        (1, 1)
    );
}

#[test]
fn an_address_mapped_again_is_new_memory() {
    let mut s = Scene::new();
    s.map(0, 4);
    s.write(0, 4);
    s.advise(Advice::DONTNEED, 0, 4);
    s.unmap(0, 4);
    s.map(0, 4);
    s.write(0, 4);
    assert_eq!(
        (s.faults(C::FirstTouch), s.faults(C::RefaultDontneed)),
        (8, 0)
    );
    assert_eq!(s.totals().unmap.munmap.requested_bytes, 4 * PAGE);
}

#[test]
fn mapping_over_pages_ends_them_and_is_counted() {
    let mut s = Scene::new();
    s.map(0, 4);
    s.write(0, 4);
    s.advise(Advice::DONTNEED, 0, 4);
    s.mmap(2, 6, 0x32);
    s.write(0, 8);
    assert_eq!(
        (s.faults(C::FirstTouch), s.faults(C::RefaultDontneed)),
        (10, 2)
    );
    let over = &s.totals().unmap.map_fixed;
    assert_eq!((over.calls, over.requested_bytes), (1, 2 * PAGE));
    // A fixed address that held nothing takes nothing away.
    s.mmap(100, 1, 0x32);
    assert_eq!(s.totals().unmap.map_fixed.calls, 1);
}

#[test]
fn a_release_moves_with_mremap() {
    let mut s = Scene::new();
    s.map(0, 4);
    s.write(0, 4);
    s.advise(Advice::FREE, 0, 2);
    let op = Op::Mremap {
        addr: page(0),
        old_len: 4 * PAGE,
        new_len: 6 * PAGE,
        flags: 1,
        new_addr: 0,
    };
    s.done(op, page(20) as i64);
    s.write(20, 2);
    s.write(24, 2);
    assert_eq!((s.faults(C::RefaultFree), s.faults(C::FirstTouch)), (2, 6));
    assert_eq!(s.totals().map.mremap.bytes, 2 * PAGE);
    assert_eq!(s.totals().unmap.mremap.calls, 0);
}

#[test]
fn mremap_gives_back_what_it_cuts_off() {
    let mut s = Scene::new();
    s.map(0, 4);
    s.write(0, 4);
    let op = Op::Mremap {
        addr: page(0),
        old_len: 4 * PAGE,
        new_len: PAGE,
        flags: 0,
        new_addr: 0,
    };
    s.done(op, page(0) as i64);
    assert_eq!(s.totals().unmap.mremap.requested_bytes, 3 * PAGE);
    s.map(1, 3);
    s.write(1, 3);
    assert_eq!(s.faults(C::FirstTouch), 7);
}

#[test]
fn memory_from_before_the_trace_is_so_too_where_mremap_moves_it() {
    let mut s = Scene::known();
    s.mapped_before(0, 2, anon());
    s.done(mremap((0, 2), (20, 3), 3), page(20) as i64);
    s.write(20, 1);
    assert_eq!((s.faults(C::Unknown), s.faults(C::FirstTouch)), (1, 0));
    // What the move added is new.
    s.write(22, 1);
    assert_eq!((s.faults(C::Unknown), s.faults(C::FirstTouch)), (1, 1));
}

#[test]
fn dontunmap_leaves_a_range_whose_next_touch_is_a_refault() {
    let mut s = Scene::new();
    s.map(0, 2);
    s.write(0, 1);
    let op = Op::Mremap {
        addr: page(0),
        old_len: 2 * PAGE,
        new_len: 2 * PAGE,
        flags: 5,
        new_addr: 0,
    };
    s.done(op, page(10) as i64);
    s.write(0, 2);
    // The first had moved away; the second was never populated.
    assert_eq!((s.faults(C::RefaultOther), s.faults(C::FirstTouch)), (1, 2));
    assert_eq!(s.touch(10, Access::Write, true).class, C::Cow);
}

#[test]
fn the_heap_shrinks_and_grows_by_brk() {
    let mut s = Scene::new();
    s.done(Op::Brk { addr: 0 }, page(0) as i64);
    s.done(Op::Brk { addr: page(4) }, page(4) as i64);
    s.write(0, 4);
    s.done(Op::Brk { addr: page(1) }, page(1) as i64);
    s.done(Op::Brk { addr: page(4) }, page(4) as i64);
    s.write(1, 3);
    assert_eq!((s.faults(C::FirstTouch), s.faults(C::Unknown)), (7, 0));
    let totals = s.totals();
    assert_eq!(
        (totals.unmap.brk.calls, totals.unmap.brk.requested_bytes),
        (1, 3 * PAGE)
    );
    assert_eq!((totals.map.brk.calls, totals.map.brk.bytes), (3, 7 * PAGE));
}

#[test]
fn memory_from_before_the_trace_is_not_taken_for_new() {
    let mut s = Scene::new();
    s.mapped_before(0, 8, anon());
    s.write(0, 2);
    assert_eq!((s.faults(C::Unknown), s.faults(C::FirstTouch)), (2, 0));
    // It may have been populated, so what DONTNEED takes comes back as a refault.
    s.advise(Advice::DONTNEED, 4, 4);
    s.write(4, 4);
    assert_eq!(s.faults(C::RefaultDontneed), 4);
}

#[test]
fn the_stack_grows_into_new_memory() {
    let mut s = Scene::new();
    let stack = crate::ledger::event::Mapping {
        kind: MappingKind::Stack,
        ..anon()
    };
    s.mapped_before(100, 4, stack);
    s.write(99, 1);
    s.write(90, 1);
    s.write(100, 1);
    assert_eq!((s.faults(C::FirstTouch), s.faults(C::Unknown)), (2, 1));
}

#[test]
fn file_and_shared_pages_are_file_faults_until_given_back() {
    let mut s = Scene::new();
    s.mmap(0, 1, 0x02);
    s.mmap(100, 1, 0x21);
    s.write(0, 1);
    s.write(100, 1);
    assert_eq!((s.faults(C::File), s.faults(C::FirstTouch)), (2, 0));
    s.advise(Advice::DONTNEED, 0, 1);
    s.write(0, 1);
    assert_eq!(s.faults(C::RefaultDontneed), 1);
    // A write brings its own page only; a read, what the page cache holds around it.
    assert_eq!(s.totals().faults.class(C::File).basis(), Basis::Exact);
    s.mmap(200, 2, 0x02);
    s.touch(200, Access::Read, false);
    let file = s.totals().faults.class(C::File);
    assert_eq!(file.basis(), Basis::LowerBound);
    assert_eq!((file.bytes, file.most_bytes()), (3 * PAGE, Some(4 * PAGE)));
}

#[test]
fn a_second_fault_on_a_page_that_is_already_there_is_not_counted_as_another_touch() {
    let mut s = Scene::new();
    s.map(0, 1);
    s.write(0, 1);
    s.write(0, 1);
    assert_eq!((s.faults(C::FirstTouch), s.faults(C::Unknown)), (1, 1));
}

#[test]
fn where_larger_folios_are_possible_bytes_are_a_lower_bound() {
    let mut s = Scene::new();
    s.map(0, 1024);
    s.write(600, 1);
    assert_eq!(s.totals().faults.all().basis(), Basis::Exact);
    s.advise(Advice::HUGEPAGE, 0, 1024);
    s.write(0, 1);
    assert_eq!(s.totals().faults.all().basis(), Basis::LowerBound);
    // One fault may have populated its neighbours, so they may come back too.
    s.advise(Advice::DONTNEED, 0, 512);
    s.write(5, 1);
    assert_eq!(s.faults(C::RefaultDontneed), 1);
    // Beyond the reach of that fault nothing was there.
    s.write(1023, 1);
    assert_eq!(s.faults(C::FirstTouch), 3);
}

#[test]
fn what_populate_filled_comes_back_as_a_refault() {
    let mut s = Scene::new();
    s.map(0, 4);
    s.advise(Advice::POPULATE_WRITE, 0, 4);
    assert_eq!(s.totals().faults.total, 0);
    s.advise(Advice::DONTNEED, 0, 4);
    s.write(0, 4);
    assert_eq!(s.faults(C::RefaultDontneed), 4);
}

#[test]
fn a_huge_range_costs_no_more_than_a_small_one() {
    let mut s = Scene::new();
    s.map(0, 1 << 32);
    s.write(7, 1);
    s.advise(Advice::DONTNEED, 0, 1 << 32);
    s.write(7, 1);
    assert_eq!(s.advice(Advice::DONTNEED).requested_bytes, 1 << 44);
    assert_eq!(s.faults(C::RefaultDontneed), 1);
}

#[test]
fn a_fault_on_huge_tlb_memory_is_never_called_exact() {
    let mut s = Scene::new();
    s.mmap(0, 512, 0x40022);
    s.touch(0, Access::Read, false);
    let first = s.totals().faults.class(C::FirstTouch);
    // No zero page there: the read has its bytes, and they are a lower bound.
    assert_eq!((first.bytes, first.basis()), (PAGE, Basis::LowerBound));
}

#[test]
fn a_fault_where_nothing_is_mapped_populates_nothing() {
    let mut s = Scene::new();
    s.mapped_before(0, 1, anon());
    s.write(500, 1);
    s.map(500, 1);
    s.write(500, 1);
    assert_eq!((s.faults(C::Unknown), s.faults(C::FirstTouch)), (1, 1));
}
