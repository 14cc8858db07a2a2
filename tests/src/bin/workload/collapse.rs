//! Lets MADV_COLLAPSE fill the holes of a huge page, gives it back and touches every page.

use memtrace_tests::area::{Area, page_bytes};
use memtrace_tests::scene::Scene;

const HUGE_BYTES: usize = 2 << 20;
const MADV_COLLAPSE: i32 = 25;

pub fn main() {
    let mut act = Scene::open_with_huge_pages().ready();
    let pages = HUGE_BYTES / page_bytes();
    let area = Area::map_aligned(pages, HUGE_BYTES);
    // Refaults shall come page by page.
    area.give_back(libc::MADV_NOHUGEPAGE);
    area.part(0, pages / 2).write();
    // The kernel refuses to collapse what MADV_NOHUGEPAGE protects, so that it is lifted meanwhile.
    area.give_back(libc::MADV_HUGEPAGE);
    let answer = area.advise(MADV_COLLAPSE);
    area.give_back(libc::MADV_NOHUGEPAGE);
    let populated = area.residence().present;
    let first = act.faults();
    area.give_back(libc::MADV_DONTNEED);
    area.write();
    let again = act.faults() - first;
    act.report(&[
        ("pages", pages as i64),
        ("touched", pages as i64 / 2),
        ("collapse_ret", answer),
        ("populated", populated as i64),
        ("first_faults", first as i64),
        ("again_faults", again as i64),
    ]);
}
