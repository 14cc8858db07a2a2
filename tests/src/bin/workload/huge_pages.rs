//! Gives huge pages back and touches each again at another place than before: few faults, much memory.

use memtrace_tests::area::{Area, page_bytes};
use memtrace_tests::scene::Scene;

const HUGE_BYTES: usize = 2 << 20;
const HUGE_PAGES: usize = 4;

pub fn main() {
    let scene = Scene::open_with_huge_pages();
    let mut act = scene.ready();
    let step = HUGE_BYTES / page_bytes();
    let area = Area::map_aligned(HUGE_PAGES * step, HUGE_BYTES);
    area.give_back(libc::MADV_HUGEPAGE);
    area.write_every(step);
    let first = act.faults();
    area.give_back(libc::MADV_DONTNEED);
    // The middle of each huge page: never the address of a fault before, yet populated by one.
    area.part(step / 2, area.pages).write_every(step);
    let again = act.faults() - first;
    let populated = area.residence().present;
    act.report(&[
        ("huge_pages", HUGE_PAGES as i64),
        ("bytes", area.bytes() as i64),
        ("page_bytes", page_bytes() as i64),
        ("first_faults", first as i64),
        ("again_faults", again as i64),
        ("populated", populated as i64),
    ]);
}
