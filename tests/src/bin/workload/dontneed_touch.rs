//! Gives pages back at once and touches them again: one refault a page.

use memtrace_tests::area::{Area, now_ns};
use memtrace_tests::scene::Scene;

const PAGES: usize = 256;

pub fn main() {
    let scene = Scene::open();
    // The clock's own page, which the kernel maps beside the code, is populated by the first use.
    now_ns();
    let act = scene.ready();
    let area = Area::map(PAGES);
    area.write();
    let before_release = now_ns();
    area.give_back(libc::MADV_DONTNEED);
    let after_release = now_ns();
    // Long enough for the ages to differ measurably from the time of a fault, and made of work
    // instead of sleep.
    while now_ns() - after_release < 2_000_000 {
        std::hint::spin_loop();
    }
    let before_touch = now_ns();
    area.write();
    let after_touch = now_ns();
    act.report(&[
        ("pages", PAGES as i64),
        ("addr", area.start as i64),
        ("age_at_least_ns", before_touch - after_release),
        ("age_at_most_ns", after_touch - before_release),
    ]);
}
