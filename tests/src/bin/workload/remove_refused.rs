//! Asks for the removal of private memory, which the kernel refuses: pages that were only read are as they were.

use memtrace_tests::area::Area;
use memtrace_tests::scene::Scene;

const PAGES: usize = 256;

pub fn main() {
    let act = Scene::open().ready();
    let area = Area::map(PAGES);
    area.read();
    let answer = area.advise(libc::MADV_REMOVE);
    area.write();
    let released = area.released_by(libc::MADV_DONTNEED);
    area.write();
    act.report(&[
        ("pages", PAGES as i64),
        ("ret", answer),
        ("released_bytes", released as i64),
    ]);
}
