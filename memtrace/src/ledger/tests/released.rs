//! How many bytes each kind of call released, and how surely that is known.

use super::support::*;
use crate::ledger::advice::Advice as A;
use crate::ledger::event::{Access, Mapping, MappingKind, Op};
use crate::ledger::totals::{Basis, FaultClass as C, ReleaseTotals, Totals};

const NOTHING: u64 = 0;

/// Each kind of call that drops pages at once: how it is done to the first `pages` pages, and
/// where it is counted.
type Kind = (
    &'static str,
    fn(&mut Scene, u64),
    fn(&Totals) -> &ReleaseTotals,
);

const DROPS: [Kind; 6] = [
    (
        "dontneed",
        |s, n| s.advise(A::DONTNEED, 0, n),
        |t| &t.advice[&A::DONTNEED],
    ),
    (
        "dontneed_locked",
        |s, n| s.advise(A::DONTNEED_LOCKED, 0, n),
        |t| &t.advice[&A::DONTNEED_LOCKED],
    ),
    ("munmap", |s, n| s.unmap(0, n), |t| &t.unmap.munmap),
    (
        "map_fixed",
        |s, n| s.mmap(0, n, 0x32),
        |t| &t.unmap.map_fixed,
    ),
    (
        "mremap over it",
        |s, n| {
            s.map(100, n);
            s.done(mremap((100, n), (0, n), 3), page(0) as i64);
        },
        |t| &t.unmap.mremap,
    ),
    (
        "mremap to less",
        |s, n| {
            // The page before it is what stays.
            s.map(99, 1);
            s.done(mremap((0, n), (100, n), 3), page(100) as i64);
            s.done(mremap((99, 1 + n), (99, 1), 0), page(99) as i64);
        },
        |t| &t.unmap.mremap,
    ),
];

#[test]
fn dropping_pages_that_were_seen_populated_releases_just_them() {
    for (name, drop, totals) in DROPS {
        let mut s = Scene::known();
        s.map(0, 8);
        s.write(1, 3);
        drop(&mut s, 8);
        let of = totals(s.totals());
        assert_eq!(
            of.released.map(in_pages),
            released(3, Basis::Derived),
            "{name}"
        );
        assert_eq!((of.calls, of.requested_bytes), (1, 8 * PAGE), "{name}");
    }
}

#[test]
fn dropping_untouched_memory_releases_nothing() {
    for (name, drop, totals) in DROPS {
        let mut s = Scene::known();
        s.map(0, 8);
        drop(&mut s, 8);
        let of = totals(s.totals());
        assert_eq!(
            of.released.map(in_pages),
            released(NOTHING, Basis::Derived),
            "{name}"
        );
        assert_eq!(of.refault_ratio(), None, "{name}");
    }
}

#[test]
fn what_may_have_been_populated_before_the_trace_is_an_upper_bound() {
    for (name, drop, totals) in DROPS {
        let mut s = Scene::known();
        s.mapped_before(0, 8, anon());
        s.write(1, 3);
        drop(&mut s, 8);
        let of = totals(s.totals());
        assert_eq!(
            of.released.map(in_pages),
            released(8, Basis::UpperBound),
            "{name}"
        );
    }
}

#[test]
fn what_a_larger_folio_may_have_filled_is_an_upper_bound() {
    for (name, drop, totals) in DROPS {
        let mut s = Scene::known();
        s.folios(PID, 4 * PAGE);
        s.map(0, 8);
        s.write(1, 1);
        drop(&mut s, 8);
        let of = totals(s.totals());
        assert_eq!(
            of.released.map(in_pages),
            released(4, Basis::UpperBound),
            "{name}"
        );
    }
}

#[test]
fn what_was_lazily_free_may_have_been_taken_already() {
    for (name, drop, totals) in DROPS {
        let mut s = Scene::known();
        s.map(0, 8);
        s.write(0, 8);
        s.advise(A::FREE, 0, 2);
        drop(&mut s, 8);
        let of = totals(s.totals());
        assert_eq!(
            of.released.map(in_pages),
            released(8, Basis::UpperBound),
            "{name}"
        );
        assert_eq!(s.lazy_pages(), (2, 2, 0), "{name}");
    }
}

#[test]
fn what_is_gone_already_is_not_released_again() {
    for (name, drop, totals) in DROPS {
        let mut s = Scene::known();
        s.map(0, 8);
        s.write(0, 8);
        s.advise(A::REMOVE, 0, 6);
        drop(&mut s, 8);
        let of = totals(s.totals());
        assert_eq!(
            of.released.map(in_pages),
            released(2, Basis::Derived),
            "{name}"
        );
    }
}

#[test]
fn the_zero_page_is_not_memory_that_can_be_released() {
    let mut s = Scene::known();
    s.map(0, 4);
    s.touch(0, Access::Read, false);
    s.advise(A::DONTNEED, 0, 4);
    assert_eq!(
        s.advice(A::DONTNEED).released.map(in_pages),
        released(0, Basis::Derived)
    );
}

#[test]
fn a_heap_that_shrinks_releases_what_was_touched_of_it() {
    let mut s = Scene::known();
    s.done(Op::Brk { addr: 0 }, page(0) as i64);
    s.done(Op::Brk { addr: page(8) }, page(8) as i64);
    s.write(0, 5);
    s.done(Op::Brk { addr: page(2) }, page(2) as i64);
    let brk = &s.totals().unmap.brk;
    assert_eq!(brk.released.map(in_pages), released(3, Basis::Derived));
    s.done(Op::Brk { addr: page(1) }, page(1) as i64);
    assert_eq!(
        s.totals().unmap.brk.released.map(in_pages),
        released(4, Basis::Derived)
    );
}

#[test]
fn free_may_mark_anew_what_it_marked_before() {
    let mut s = Scene::known();
    s.map(0, 8);
    s.write(0, 4);
    s.advise(A::FREE, 0, 8);
    assert_eq!(
        s.advice(A::FREE).released.map(in_pages),
        released(4, Basis::UpperBound)
    );
    // They may have been written again in between, without a fault.
    s.advise(A::FREE, 0, 8);
    assert_eq!(
        s.advice(A::FREE).released.map(in_pages),
        released(8, Basis::UpperBound)
    );
    s.write(5, 1);
    s.advise(A::FREE, 0, 8);
    let free = s.advice(A::FREE);
    assert_eq!(free.released.map(in_pages), released(13, Basis::UpperBound));
    assert_eq!((free.calls, free.requested_bytes), (3, 24 * PAGE));
}

#[test]
fn a_page_that_came_back_can_be_released_again() {
    let mut s = Scene::known();
    s.map(0, 4);
    for _ in 0..3 {
        s.write(0, 4);
        s.advise(A::DONTNEED, 0, 4);
    }
    let dontneed = s.advice(A::DONTNEED);
    assert_eq!(
        dontneed.released.map(in_pages),
        released(12, Basis::Derived)
    );
    assert_eq!(dontneed.refault_ratio(), Some((8.0 / 12.0, "released")));
}

#[test]
fn moving_pages_releases_none() {
    let mut s = Scene::known();
    s.map(0, 4);
    s.write(0, 4);
    s.done(mremap((0, 4), (0, 8), 1), page(20) as i64);
    s.done(mremap((20, 8), (0, 8), 5), page(40) as i64);
    let mremap = &s.totals().unmap.mremap;
    assert_eq!((mremap.calls, mremap.released), (0, None));
    s.unmap(20, 8);
    s.unmap(40, 8);
    assert_eq!(
        s.totals().unmap.munmap.released.map(in_pages),
        released(4, Basis::Derived)
    );
}

#[test]
fn what_is_only_offered_to_the_kernel_has_no_figure() {
    let mut s = Scene::known();
    s.map(0, 4);
    s.write(0, 4);
    s.advise(A::PAGEOUT, 0, 4);
    s.advise(A::COLD, 0, 4);
    assert_eq!(s.advice(A::PAGEOUT).released, None);
    assert_eq!(s.advice(A::COLD).released, None);
    // What it did not take is still there to be dropped.
    s.advise(A::DONTNEED, 0, 4);
    let dontneed = s.advice(A::DONTNEED);
    assert_eq!(
        dontneed.released.map(in_pages),
        released(4, Basis::UpperBound)
    );
}

#[test]
fn without_the_mappings_nothing_tells_what_was_released() {
    let mut s = Scene::new();
    s.map(0, 4);
    s.write(0, 4);
    s.advise(A::DONTNEED, 0, 2);
    s.advise(A::FREE, 2, 1);
    s.unmap(0, 4);
    assert_eq!(s.advice(A::DONTNEED).released, None);
    assert_eq!(s.advice(A::FREE).released, None);
    assert_eq!(s.totals().unmap.munmap.released, None);
}

#[test]
fn pages_of_files_may_be_more_than_the_faults() {
    let mut s = Scene::known();
    s.mmap(0, 64, 0x02);
    s.touch(0, Access::Read, false);
    s.unmap(0, 64);
    let munmap = &s.totals().unmap.munmap;
    // As far as fault-around reaches.
    assert_eq!(
        munmap.released.map(in_pages),
        released(16, Basis::UpperBound)
    );
}

#[test]
fn device_memory_from_before_is_counted_as_a_bound_too() {
    let mut s = Scene::known();
    let special = Mapping {
        kind: MappingKind::Special,
        ..anon()
    };
    s.mapped_before(0, 2, special);
    s.unmap(0, 2);
    let munmap = &s.totals().unmap.munmap;
    assert_eq!(
        munmap.released.map(in_pages),
        released(2, Basis::UpperBound)
    );
}

#[test]
fn a_huge_hole_releases_nothing() {
    // Page by page this would take days.
    let mut s = Scene::known();
    s.map(0, 4);
    s.write(0, 4);
    for _ in 0..1000 {
        // 64 TiB of nothing, and then as much that is mapped and untouched.
        let op = Op::Munmap {
            addr: PAGE,
            len: 64 << 40,
        };
        s.done(op, 0);
    }
    s.map(16, 16 << 30);
    for _ in 0..1000 {
        s.advise(A::DONTNEED, 16, 16 << 30);
        s.advise(A::FREE, 16, 16 << 30);
    }
    let munmap = &s.totals().unmap.munmap;
    assert_eq!(munmap.released.map(in_pages), released(0, Basis::Derived));
    assert_eq!(
        s.advice(A::DONTNEED).released.map(in_pages),
        released(0, Basis::Derived)
    );
    assert_eq!(
        s.advice(A::FREE).released.map(in_pages),
        released(0, Basis::UpperBound)
    );
    s.unmap(0, 4);
    assert_eq!(s.faults(C::FirstTouch), 4);
    assert_eq!(
        s.totals().unmap.munmap.released.map(in_pages),
        released(4, Basis::Derived)
    );
}
