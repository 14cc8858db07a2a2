//! Gives back a large range and a small one, for filters by size to tell apart.

use memtrace_tests::area::{Area, page_bytes};
use memtrace_tests::scene::Scene;

const LARGE: usize = 64;
const SMALL: usize = 2;

pub fn main() {
    let act = Scene::open().ready();
    let (large, small) = (Area::map(LARGE), Area::map(SMALL));
    for area in [large, small] {
        area.write();
        area.give_back(libc::MADV_DONTNEED);
        area.write();
        area.unmap();
    }
    act.report(&[
        ("large_pages", LARGE as i64),
        ("small_pages", SMALL as i64),
        ("page_bytes", page_bytes() as i64),
    ]);
}
