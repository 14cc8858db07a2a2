//! Reads fresh memory before writing it: the read is the first touch, the write only adds the bytes.

use memtrace_tests::area::Area;
use memtrace_tests::scene::Scene;

const PAGES: usize = 256;
/// Read and never written, so that they stay on the zero page.
const ONLY_READ: usize = 64;

pub fn main() {
    let act = Scene::open().ready();
    let area = Area::map(PAGES);
    area.read();
    area.part(ONLY_READ, PAGES).write();
    act.report(&[("pages", PAGES as i64), ("only_read", ONLY_READ as i64)]);
}
