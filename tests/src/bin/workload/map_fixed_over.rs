//! Maps over populated pages with MAP_FIXED: the old ones are gone, what follows are first touches.

use memtrace_tests::area::Area;
use memtrace_tests::scene::Scene;

const PAGES: usize = 128;

pub fn main() {
    let act = Scene::open().ready();
    let area = Area::map(PAGES);
    area.write();
    area.part(0, PAGES / 2).give_back(libc::MADV_DONTNEED);
    let over = Area::map_at(
        area.start,
        PAGES,
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
        -1,
    );
    over.write();
    act.report(&[("pages", PAGES as i64), ("addr", over.start as i64)]);
}
