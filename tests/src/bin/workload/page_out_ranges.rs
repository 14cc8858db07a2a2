//! Frees two areas lazily and has both reclaimed by one process_madvise.

use memtrace_tests::area::{Area, OwnPidfd, stay_on_this_cpu};
use memtrace_tests::scene::Scene;

const PAGES: usize = 64;

pub fn main() {
    let scene = Scene::open();
    stay_on_this_cpu();
    let pidfd = OwnPidfd::open();
    let act = scene.ready();

    let (first, second) = (Area::map(PAGES), Area::map(2 * PAGES));
    for area in [first, second] {
        area.write();
        area.give_back(libc::MADV_FREE);
    }
    let answer = pidfd.page_out(&[first, second]);
    let left = [first, second].map(Area::residence);
    for area in [first, second] {
        area.write();
    }
    act.report(&[
        ("first_addr", first.start as i64),
        ("first_bytes", first.bytes() as i64),
        ("second_addr", second.start as i64),
        ("second_bytes", second.bytes() as i64),
        ("ret", answer),
        (
            "taken",
            (3 * PAGES - left[0].present - left[1].present) as i64,
        ),
    ]);
}
