//! Gives advice that takes nothing away, and touches the pages again: no fault.

use memtrace_tests::area::Area;
use memtrace_tests::scene::Scene;

const PAGES: usize = 64;
/// Not in every libc: include/uapi/asm-generic/mman-common.h.
const MADV_COLD: i32 = 20;

pub fn main() {
    let mut act = Scene::open().ready();
    let area = Area::map(PAGES);
    area.write();
    let before = act.faults();
    area.give_back(libc::MADV_WILLNEED);
    area.give_back(MADV_COLD);
    area.give_back(libc::MADV_SEQUENTIAL);
    area.give_back(libc::MADV_DONTDUMP);
    area.write();
    let again = act.faults() - before;
    act.report(&[("pages", PAGES as i64), ("again_faults", again as i64)]);
}
