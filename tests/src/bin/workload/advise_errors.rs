//! Calls madvise wrongly in each way that applies nothing, and touches the pages again: none faults twice.

use memtrace_tests::area::{Area, advise, page_bytes};
use memtrace_tests::scene::Scene;

const PAGES: usize = 64;
/// No kernel knows this advice.
const NO_SUCH_ADVICE: i32 = 999;

pub fn main() {
    let act = Scene::open().ready();
    let area = Area::map(PAGES);
    area.write();
    let unaligned = advise(area.start + 1, area.bytes(), libc::MADV_DONTNEED);
    let nothing = advise(area.start, 0, libc::MADV_DONTNEED);
    // Rounding this length up to a page gives 0.
    let wraps = advise(area.start, usize::MAX - 1, libc::MADV_DONTNEED);
    // The end of this range is below its start.
    let backwards = advise(
        area.start,
        usize::MAX - 3 * page_bytes(),
        libc::MADV_DONTNEED,
    );
    // Over pages that were never touched too: what was not understood can't have changed them.
    let fresh = Area::map(PAGES);
    let unknown = fresh.advise(NO_SUCH_ADVICE);
    area.write();
    fresh.write();
    act.report(&[
        ("pages", PAGES as i64),
        ("unaligned_ret", unaligned),
        ("nothing_ret", nothing),
        ("wraps_ret", wraps),
        ("backwards_ret", backwards),
        ("unknown_ret", unknown),
    ]);
}
