//! Unmaps pages, some of them given back, and maps the same address again: what follows are first touches.

use memtrace_tests::area::Area;
use memtrace_tests::scene::Scene;

const PAGES: usize = 128;

pub fn main() {
    let act = Scene::open().ready();
    let area = Area::map(PAGES);
    area.write();
    area.part(0, PAGES / 2).give_back(libc::MADV_DONTNEED);
    area.unmap();
    let area = area.map_again();
    area.write();
    act.report(&[("pages", PAGES as i64), ("addr", area.start as i64)]);
}
