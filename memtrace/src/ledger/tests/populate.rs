//! What MADV_POPULATE leaves behind: reads bring the zero page or the file, writes bring memory.

use super::support::*;
use crate::ledger::advice::Advice as A;
use crate::ledger::event::Access;
use crate::ledger::totals::{Basis, FaultClass as C};

#[test]
fn what_was_populated_by_reading_need_not_be_memory_that_can_be_released() {
    let mut s = Scene::known();
    s.map(0, 8);
    s.write(0, 2);
    s.advise(A::POPULATE_READ, 0, 4);
    s.advise(A::DONTNEED, 0, 2);
    assert_eq!(
        s.advice(A::DONTNEED).released.map(in_pages),
        released(2, Basis::Derived)
    );
    // The zero page has no bytes; a huge one may be there instead.
    s.advise(A::DONTNEED, 2, 6);
    let dontneed = s.advice(A::DONTNEED);
    assert_eq!(
        dontneed.released.map(in_pages),
        released(4, Basis::UpperBound)
    );
}

#[test]
fn what_was_populated_by_writing_is_released_whole() {
    let mut s = Scene::known();
    s.map(0, 8);
    s.advise(A::POPULATE_WRITE, 0, 4);
    s.advise(A::DONTNEED, 0, 8);
    assert_eq!(
        s.advice(A::DONTNEED).released.map(in_pages),
        released(4, Basis::Derived)
    );
}

#[test]
fn reading_files_in_populates_them() {
    let mut s = Scene::known();
    s.mmap(0, 8, 0x02);
    s.advise(A::POPULATE_READ, 0, 4);
    s.unmap(0, 8);
    let munmap = s.totals().unmap.munmap.released;
    assert_eq!(munmap.map(in_pages), released(4, Basis::Derived));
}

#[test]
fn reading_leaves_a_page_lazily_free_and_writing_takes_it_back() {
    let mut s = Scene::known();
    s.map(0, 4);
    s.write(0, 4);
    s.advise(A::FREE, 0, 4);
    s.advise(A::POPULATE_READ, 0, 4);
    assert_eq!(s.lazy_pages(), (4, 0, 4));
    s.advise(A::POPULATE_WRITE, 0, 3);
    assert_eq!(s.lazy_pages(), (4, 0, 1));
}

#[test]
fn what_populate_has_read_back_in_is_paged_out_no_more() {
    let mut s = Scene::known();
    s.map(0, 1);
    s.write(0, 1);
    s.advise(A::PAGEOUT, 0, 1);
    s.advise(A::POPULATE_READ, 0, 1);
    assert_eq!(s.touch(0, Access::Write, false).class, C::Unknown);
}
