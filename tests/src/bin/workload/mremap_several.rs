//! Moves several mappings by one mremap: around a hole, or until one refuses to go.
//!
//! `mremap_several gap|fail`

use memtrace_tests::area::{Area, page_bytes};
use memtrace_tests::scene::{Act, Scene, fail};
use memtrace_tests::userfault::Userfault;

/// Of each mapping, and of the hole.
const PAGES: usize = 32;
const MOVE: i32 = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;

pub fn main() {
    let fails = std::env::args().any(|arg| arg == "fail");
    let act = Scene::open().ready();
    // Addresses that are free, with more free ones between, so that no two mappings are joined.
    let room = Area::map(9 * PAGES);
    room.unmap();
    let (source, target) = (room.part(0, 3 * PAGES), room.part(5 * PAGES, 8 * PAGES));
    if fails {
        fail_at_the_second(act, source, target);
    }
    around_a_hole(act, source, target);
}

fn around_a_hole(act: Act, source: Area, target: Area) -> ! {
    for part in [source.part(0, PAGES), source.part(2 * PAGES, 3 * PAGES)] {
        part.map_again().write();
    }
    target.map_again().write();
    source.remap(source.pages, MOVE, target.start);
    let stayed = target.part(PAGES, 2 * PAGES).residence().present;
    let released = target.released_by(libc::MADV_DONTNEED);
    target.write();
    act.report(&[
        ("pages", target.pages as i64),
        ("touched", (target.pages + 2 * PAGES) as i64),
        (
            "dropped_bytes",
            ((target.pages - stayed) * page_bytes()) as i64,
        ),
        ("released_bytes", released as i64),
    ]);
}

fn fail_at_the_second(act: Act, source: Area, target: Area) -> ! {
    let source = source.part(0, 2 * PAGES).map_again();
    source.write();
    // What is watched can't be moved along with others (mm/mremap.c:check_mremap_params).
    let _watch = Userfault::on(source.part(PAGES, 2 * PAGES));
    if source.try_remap(source.pages, MOVE, target.start).is_some() {
        fail("mremap moved it all");
    }
    let moved = target.part(0, PAGES);
    let released = moved.released_by(libc::MADV_DONTNEED);
    moved.write();
    let left = source.residence().present * page_bytes();
    source.unmap();
    act.report(&[
        ("pages", PAGES as i64),
        ("touched", source.pages as i64),
        ("released_bytes", released as i64),
        ("unmapped_bytes", left as i64),
    ]);
}
