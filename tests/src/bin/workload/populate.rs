//! Populates memory without a fault, gives it back and touches it: refaults, though nothing was seen to populate it.

use memtrace_tests::area::Area;
use memtrace_tests::scene::Scene;

const PAGES: usize = 256;
const MADV_POPULATE_WRITE: i32 = 23;

pub fn main() {
    let scene = Scene::open();
    let by_map = std::env::args().any(|arg| arg == "mmap");
    let act = scene.ready();
    let plain = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    let area = if by_map {
        Area::map_with(PAGES, prot, plain | libc::MAP_POPULATE, -1)
    } else {
        let area = Area::map(PAGES);
        area.give_back(MADV_POPULATE_WRITE);
        area
    };
    let populated = area.residence().present;
    area.give_back(libc::MADV_DONTNEED);
    area.write();
    act.report(&[("pages", PAGES as i64), ("populated", populated as i64)]);
}
