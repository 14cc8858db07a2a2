//! Moves pages away with MREMAP_DONTUNMAP and touches both places: only the old one faults.

use memtrace_tests::area::Area;
use memtrace_tests::scene::Scene;

const PAGES: usize = 64;

pub fn main() {
    let mut act = Scene::open().ready();
    let area = Area::map(PAGES);
    area.write();
    let moved = area.remap(PAGES, libc::MREMAP_MAYMOVE | libc::MREMAP_DONTUNMAP, 0);
    let before = act.faults();
    moved.write();
    let new_place = act.faults() - before;
    area.write();
    let old_place = act.faults() - before - new_place;
    act.report(&[
        ("pages", PAGES as i64),
        ("old_place_faults", old_place as i64),
        ("new_place_faults", new_place as i64),
    ]);
}
