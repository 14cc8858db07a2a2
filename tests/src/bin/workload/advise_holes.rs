//! Gives back a range with a hole in it: the kernel applies the rest and then says ENOMEM.

use memtrace_tests::area::{Area, OwnPidfd, stay_on_this_cpu};
use memtrace_tests::scene::Scene;

const PAGES: usize = 30;
const HOLE: (usize, usize) = (10, 20);

pub fn main() {
    let scene = Scene::open();
    stay_on_this_cpu();
    let lazily = std::env::args().any(|arg| arg == "free");
    let pidfd = OwnPidfd::open();
    let act = scene.ready();

    let area = Area::map(PAGES);
    area.write();
    area.part(HOLE.0, HOLE.1).unmap();
    let (first, last) = (area.part(0, HOLE.0), area.part(HOLE.1, PAGES));
    let answer = if lazily {
        let answer = area.advise(libc::MADV_FREE);
        pidfd.page_out(&[first]);
        pidfd.page_out(&[last]);
        answer
    } else {
        area.advise(libc::MADV_DONTNEED)
    };
    let (left_first, left_last) = (first.residence(), last.residence());
    first.write();
    last.write();
    act.report(&[
        ("pages", PAGES as i64),
        ("mapped", (first.pages + last.pages) as i64),
        ("hole", (HOLE.1 - HOLE.0) as i64),
        ("ret", answer),
        (
            "taken",
            (first.pages + last.pages - left_first.present - left_last.present) as i64,
        ),
    ]);
}
