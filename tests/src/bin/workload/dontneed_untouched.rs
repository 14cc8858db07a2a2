//! Gives back pages that were never populated: their first touch is no refault.

use memtrace_tests::area::Area;
use memtrace_tests::scene::Scene;

const PAGES: usize = 256;

pub fn main() {
    let act = Scene::open().ready();
    let area = Area::map(PAGES);
    area.give_back(libc::MADV_DONTNEED);
    area.write();
    act.report(&[("pages", PAGES as i64)]);
}
