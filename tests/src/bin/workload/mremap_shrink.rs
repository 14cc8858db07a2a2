//! Shrinks an area by mremap and grows it again: the new tail is touched for the first time.

use memtrace_tests::area::Area;
use memtrace_tests::scene::Scene;

const PAGES: usize = 128;
const KEPT: usize = 64;

pub fn main() {
    let act = Scene::open().ready();
    let area = Area::map(PAGES);
    area.write();
    // Marks on the tail must go with the tail.
    area.part(KEPT, KEPT + 16).give_back(libc::MADV_DONTNEED);
    let small = area.remap(KEPT, 0, 0);
    let large = small.remap(PAGES, libc::MREMAP_MAYMOVE, 0);
    large.write();
    act.report(&[
        ("pages", PAGES as i64),
        ("kept", KEPT as i64),
        ("moved", i64::from(large.start != area.start)),
    ]);
}
