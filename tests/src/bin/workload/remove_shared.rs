//! Punches pages out of shared anonymous memory with MADV_REMOVE and touches them again.

use memtrace_tests::area::Area;
use memtrace_tests::scene::Scene;

const PAGES: usize = 64;

pub fn main() {
    let mut act = Scene::open().ready();
    let area = Area::map_with(
        PAGES,
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_SHARED | libc::MAP_ANONYMOUS,
        -1,
    );
    area.write();
    let first = act.faults();
    area.give_back(libc::MADV_REMOVE);
    area.write();
    let again = act.faults() - first;
    act.report(&[
        ("pages", PAGES as i64),
        ("first_faults", first as i64),
        ("again_faults", again as i64),
    ]);
}
