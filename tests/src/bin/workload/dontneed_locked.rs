//! Gives back locked pages: MADV_DONTNEED refuses them, MADV_DONTNEED_LOCKED takes them.

use memtrace_tests::area::Area;
use memtrace_tests::scene::{Scene, must};

const PAGES: usize = 64;
const MADV_DONTNEED_LOCKED: i32 = 24;

pub fn main() {
    let act = Scene::open().ready();
    let area = Area::map(PAGES);
    area.write();
    // SAFETY: locking changes no content.
    must(
        unsafe { libc::mlock(area.start as *const _, area.bytes()) },
        "mlock",
    );
    let refused = area.advise(libc::MADV_DONTNEED);
    area.write();
    let taken = area.advise(MADV_DONTNEED_LOCKED);
    area.write();
    act.report(&[
        ("pages", PAGES as i64),
        ("dontneed_ret", refused),
        ("dontneed_locked_ret", taken),
    ]);
}
