//! One fault that brings many pages: larger folios, fault-around, and what khugepaged adds.

use super::support::*;
use crate::ledger::advice::Advice as A;
use crate::ledger::event::{
    Access, Event, FolioSizes, Folios, HugeAdvice, Mapping, MappingFlags, Op, VmFlags,
};
use crate::ledger::totals::{Basis, FaultClass as C};

/// Pages of a huge page, from an aligned address on.
const HUGE: u64 = 512;

fn with_huge_pages() -> Scene {
    let mut s = Scene::known();
    s.folios(PID, HUGE * PAGE);
    s
}

fn dontneed(s: &Scene) -> Option<(u64, Basis)> {
    s.advice(A::DONTNEED).released.map(in_pages)
}

#[test]
fn what_was_given_back_may_be_back_with_a_neighbour() {
    let mut s = with_huge_pages();
    s.map(0, HUGE);
    for round in 1..=10 {
        s.write(0, 1);
        s.advise(A::DONTNEED, 0, HUGE);
        assert_eq!(dontneed(&s), released(round * HUGE, Basis::UpperBound));
    }
    assert_eq!(
        s.advice(A::DONTNEED).released.unwrap().least_bytes,
        10 * PAGE
    );
    let refault = s.totals().faults.class(C::RefaultDontneed);
    assert_eq!(
        (refault.bytes, refault.most_bytes()),
        (9 * PAGE, Some(9 * HUGE * PAGE))
    );
    assert_eq!(refault.basis(), Basis::LowerBound);
    let totals = s.advice(A::DONTNEED);
    assert_eq!(totals.refaulted_most_bytes(), 9 * HUGE * PAGE);
}

#[test]
fn what_was_given_back_of_small_pages_may_be_back_in_a_huge_one() {
    let mut s = Scene::known();
    s.map(0, HUGE);
    s.write(0, HUGE);
    s.advise(A::DONTNEED, 0, HUGE);
    assert_eq!(dontneed(&s), released(HUGE, Basis::Derived));
    s.advise(A::HUGEPAGE, 0, HUGE);
    s.write(7, 1);
    s.advise(A::DONTNEED, 0, HUGE);
    assert_eq!(dontneed(&s), released(2 * HUGE, Basis::UpperBound));
}

#[test]
fn a_fault_beside_one_that_may_have_brought_a_huge_page_settles_it() {
    let mut s = with_huge_pages();
    s.map(0, HUGE);
    s.write(0, 1);
    let first = |s: &Scene| *s.totals().faults.class(C::FirstTouch);
    assert_eq!(first(&s).basis(), Basis::LowerBound);
    s.write(1, 1);
    assert_eq!(first(&s).basis(), Basis::Exact);
    assert_eq!(first(&s).most_bytes(), Some(2 * PAGE));
    // The block has pages of its own now: no folio takes its place.
    s.write(100, 1);
    assert_eq!(first(&s).basis(), Basis::Exact);
    // Another thread's fault may have been on its way at the same time.
    s.map(HUGE, HUGE);
    s.write(HUGE, 1);
    s.tid = 99;
    s.write(HUGE + 1, 1);
    assert_eq!(first(&s).basis(), Basis::LowerBound);
}

#[test]
fn a_mapping_without_room_for_a_huge_page_gets_none() {
    let mut s = with_huge_pages();
    s.map(1, HUGE);
    s.write(1, 1);
    assert_eq!(s.totals().faults.all().basis(), Basis::Exact);
    // Joined with its neighbour it has.
    s.map(0, 1);
    s.write(300, 1);
    assert_eq!(
        s.totals().faults.all().most_bytes(),
        Some(2 * PAGE),
        "one page is there"
    );
    s.advise(A::DONTNEED, 0, HUGE);
    assert_eq!(dontneed(&s), released(HUGE, Basis::UpperBound));
}

#[test]
fn a_smaller_folio_fits_where_a_huge_page_does_not() {
    let mut s = Scene::known();
    s.apply(Event::Folios(Folios {
        any: FolioSizes::one(HUGE * PAGE).with(FolioSizes::one(16 * PAGE)),
        ..Folios::base_pages(s.now, PID)
    }));
    s.map(0, 32);
    s.write(20, 1);
    assert_eq!(s.totals().faults.all().most_bytes(), Some(16 * PAGE));
    s.advise(A::FREE, 0, 32);
    let free = s.advice(A::FREE).released.map(in_pages);
    assert_eq!(free, released(16, Basis::UpperBound));
}

#[test]
fn khugepaged_may_fill_what_a_call_has_left_empty() {
    let mut s = with_huge_pages();
    s.map(0, HUGE);
    s.write(0, HUGE);
    s.advise(A::DONTNEED, 0, 100);
    assert_eq!(dontneed(&s), released(100, Basis::Derived));
    s.advise(A::DONTNEED, 0, HUGE);
    assert_eq!(dontneed(&s), released(100 + HUGE, Basis::UpperBound));
    // A fault proves that it did not.
    let was = s.touch(50, Access::Write, false);
    assert_eq!(was.class, C::RefaultDontneed);
}

#[test]
fn no_huge_page_comes_where_the_program_wants_none() {
    let mut s = with_huge_pages();
    s.map(0, HUGE);
    s.advise(A::NOHUGEPAGE, 0, HUGE);
    s.write(0, 1);
    s.advise(A::DONTNEED, 0, HUGE);
    assert_eq!(s.totals().faults.all().basis(), Basis::Exact);
    assert_eq!(dontneed(&s), released(1, Basis::Derived));
}

#[test]
fn what_a_huge_page_may_have_brought_stays_when_settings_change() {
    let mut s = with_huge_pages();
    s.map(0, 2 * HUGE);
    s.write(0, 1);
    s.advise(A::NOHUGEPAGE, 0, HUGE);
    s.advise(A::DONTNEED, 0, HUGE);
    assert_eq!(dontneed(&s), released(HUGE, Basis::UpperBound));
    s.write(HUGE, 1);
    s.base_pages_only(PID);
    s.unmap(HUGE, HUGE);
    let munmap = s.totals().unmap.munmap.released.map(in_pages);
    assert_eq!(munmap, released(HUGE, Basis::UpperBound));
}

#[test]
fn part_of_a_huge_page_that_goes_leaves_the_rest_perhaps() {
    let mut s = with_huge_pages();
    s.map(0, HUGE);
    s.write(0, 1);
    s.advise(A::DONTNEED, 0, 1);
    s.advise(A::DONTNEED, 1, HUGE - 1);
    assert_eq!(dontneed(&s), released(HUGE, Basis::UpperBound));
}

fn before(huge: HugeAdvice) -> Mapping {
    Mapping {
        flags: VmFlags {
            huge,
            ..VmFlags::default()
        },
        ..anon()
    }
}

#[test]
fn memory_advised_before_the_trace_may_get_huge_pages() {
    for (huge, pages) in [
        (HugeAdvice::Default, 1),
        (HugeAdvice::Base, 1),
        (HugeAdvice::Huge, HUGE),
        (HugeAdvice::Unknown, HUGE),
    ] {
        let mut s = Scene::known();
        s.mapped_before(0, HUGE, before(huge));
        s.write(0, 1);
        let unknown = s.totals().faults.class(C::Unknown);
        assert_eq!(unknown.most_bytes(), Some(pages * PAGE), "{huge:?}");
        assert_eq!(unknown.bytes, PAGE);
    }
}

#[test]
fn flags_that_are_read_late_tell_of_what_was_not_known() {
    let mut s = Scene::known();
    s.mapped_before(0, 3 * HUGE, before(HugeAdvice::Unknown));
    s.advise(A::HUGEPAGE, 2 * HUGE, HUGE);
    let huge = before(HugeAdvice::Huge).flags;
    s.apply(Event::Flags(MappingFlags {
        at_ns: s.now,
        pid: PID,
        list: vec![(page(HUGE)..page(2 * HUGE), huge)],
    }));
    for (at, pages) in [(0, 1), (HUGE, HUGE), (2 * HUGE, HUGE)] {
        let before = s.totals().faults.all().most_bytes().unwrap();
        s.write(at, 1);
        let most = s.totals().faults.all().most_bytes().unwrap();
        assert_eq!(most - before, pages * PAGE, "{at}");
    }
}

#[test]
fn a_read_of_a_file_maps_from_the_start_of_the_mapping_on() {
    let mut s = Scene::known();
    s.mmap(15, 20, 0x02);
    s.touch(15, Access::Read, false);
    s.advise(A::DONTNEED, 15, 20);
    assert_eq!(dontneed(&s), released(16, Basis::UpperBound));
    assert_eq!(s.touch(20, Access::Read, false).class, C::RefaultDontneed);
    assert_eq!(s.touch(34, Access::Read, false).class, C::File);
}

#[test]
fn a_read_of_a_file_maps_nothing_of_another_one_beside_it() {
    for (name, most) in [("two", 2), ("one", 4)] {
        let mut s = Scene::known();
        for (at, name) in [(0, "one"), (2, name)] {
            let op = Op::Mmap {
                addr: page(at),
                len: 2 * PAGE,
                prot: 1,
                flags: 0x02,
                fd: 3,
                name: Some(name.into()),
            };
            s.done(op, page(at) as i64);
        }
        s.touch(1, Access::Read, false);
        s.advise(A::DONTNEED, 0, 4);
        assert_eq!(dontneed(&s), released(most, Basis::UpperBound));
    }
}

#[test]
fn what_is_removed_of_a_file_may_be_gone_of_any_whose_name_is_not_known() {
    for (name, known) in [(Some("two"), true), (Some("one"), false), (None, false)] {
        let mut s = Scene::known();
        for (at, name) in [(0, Some("one")), (100, name)] {
            let op = Op::Mmap {
                addr: page(at),
                len: 4 * PAGE,
                prot: 3,
                flags: 0x01,
                fd: 3,
                name: name.map(Into::into),
            };
            s.done(op, page(at) as i64);
        }
        s.write(0, 4);
        s.write(100, 4);
        s.advise(A::REMOVE, 0, 4);
        let released = s.advice(A::REMOVE).released.map(in_pages);
        assert_eq!(released.is_some(), known, "{name:?}");
    }
}

#[test]
fn a_call_that_advised_huge_pages_nobody_knows_how_far_may_have_brought_one() {
    let mut s = Scene::known();
    s.map(0, HUGE);
    s.map(HUGE, HUGE);
    // A process_madvise that stopped somewhere in this range, and did not say why.
    let op = Op::ProcessMadvise {
        target_pid: Some(PID),
        advice: A::HUGEPAGE,
        range: Some((page(0), HUGE * PAGE)),
        index: 1,
        ranges: 2,
        before_bytes: 8 * PAGE,
    };
    s.done(op, 8 * PAGE as i64);
    s.write(7, 1);
    s.write(HUGE + 7, 1);
    s.advise(A::DONTNEED, 0, 2 * HUGE);
    assert_eq!(dontneed(&s), released(HUGE + 1, Basis::UpperBound));
}

#[test]
fn a_write_to_a_file_brings_one_page() {
    for flags in [0x02, 0x01, 0x21] {
        let mut s = Scene::known();
        s.mmap(0, 32, flags);
        s.write(11, 1);
        s.advise(A::DONTNEED, 0, 32);
        assert_eq!(dontneed(&s), released(1, Basis::Derived));
        assert_eq!(s.touch(12, Access::Write, false).class, C::File);
    }
}

#[test]
fn a_huge_page_of_hugetlbfs_comes_and_goes_whole() {
    let mut s = Scene::known();
    s.mmap(0, HUGE, 0x40022);
    s.write(3, 1);
    s.advise(A::DONTNEED, 0, HUGE);
    assert_eq!(dontneed(&s), released(HUGE, Basis::Derived));
}

#[test]
fn a_fault_where_access_was_taken_away_is_ambiguous() {
    let mut s = Scene::known();
    let flags = VmFlags {
        faults_anew: true,
        ..VmFlags::default()
    };
    s.mapped_before(0, 4, Mapping { flags, ..anon() });
    s.advise(A::DONTNEED, 0, 4);
    assert!(s.touch(0, Access::Write, false).ambiguous);
    assert_eq!(s.totals().faults.ambiguous, 1);
}
