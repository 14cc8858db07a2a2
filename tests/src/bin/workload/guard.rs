//! Turns populated pages into guard pages and back: what was there is gone.

use memtrace_tests::area::Area;
use memtrace_tests::scene::Scene;

const PAGES: usize = 64;
const MADV_GUARD_INSTALL: i32 = 102;
const MADV_GUARD_REMOVE: i32 = 103;

pub fn main() {
    let act = Scene::open().ready();
    let area = Area::map(PAGES);
    area.write();
    let installed = area.advise(MADV_GUARD_INSTALL);
    let removed = area.advise(MADV_GUARD_REMOVE);
    area.write();
    act.report(&[
        ("pages", PAGES as i64),
        ("install_ret", installed),
        ("remove_ret", removed),
    ]);
}
