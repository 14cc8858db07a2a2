//! Frees pages lazily and then gives them back at once: what refaults was taken by the second call.

use memtrace_tests::area::Area;
use memtrace_tests::scene::Scene;

const PAGES: usize = 256;

pub fn main() {
    let act = Scene::open().ready();
    let area = Area::map(PAGES);
    area.write();
    area.give_back(libc::MADV_FREE);
    area.give_back(libc::MADV_DONTNEED);
    area.write();
    act.report(&[("pages", PAGES as i64)]);
}
