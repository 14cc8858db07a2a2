//! Gives a large area back and touches it, many times over: as many faults as it can make.

use memtrace_tests::area::{Area, page_bytes};
use memtrace_tests::scene::Scene;

const PAGES: usize = 16 * 1024;
const ROUNDS: usize = 16;

pub fn main() {
    let act = Scene::open().ready();
    let area = Area::map(PAGES);
    area.write();
    for _ in 0..ROUNDS {
        area.give_back(libc::MADV_DONTNEED);
        area.write();
    }
    act.report(&[
        ("pages", PAGES as i64),
        ("rounds", ROUNDS as i64),
        ("page_bytes", page_bytes() as i64),
    ]);
}
