//! Gives pages back, reads all of them and writes most: two faults a page, but one refault.

use memtrace_tests::area::Area;
use memtrace_tests::scene::Scene;

const PAGES: usize = 256;
/// Read and never written, so that they stay on the zero page.
const ONLY_READ: usize = 64;

pub fn main() {
    let act = Scene::open().ready();
    let area = Area::map(PAGES);
    area.write();
    area.give_back(libc::MADV_DONTNEED);
    area.read();
    area.part(ONLY_READ, PAGES).write();
    act.report(&[("pages", PAGES as i64), ("only_read", ONLY_READ as i64)]);
}
