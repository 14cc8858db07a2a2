//! Frees pages lazily and writes them again while they are still resident: no fault.

use memtrace_tests::area::Area;
use memtrace_tests::scene::Scene;

const PAGES: usize = 256;

pub fn main() {
    let mut act = Scene::open().ready();
    let area = Area::map(PAGES);
    area.write();
    area.give_back(libc::MADV_FREE);
    let before = act.faults();
    area.write();
    let again = act.faults() - before;
    act.report(&[
        ("pages", PAGES as i64),
        ("addr", area.start as i64),
        ("rewrite_faults", again as i64),
    ]);
}
