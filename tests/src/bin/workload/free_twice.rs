//! Frees the same pages twice before the kernel takes them: each page can refault only once.

use memtrace_tests::area::{Area, OwnPidfd, stay_on_this_cpu};
use memtrace_tests::scene::Scene;

const PAGES: usize = 256;

pub fn main() {
    let scene = Scene::open();
    stay_on_this_cpu();
    let pidfd = OwnPidfd::open();
    let act = scene.ready();

    let area = Area::map(PAGES);
    area.write();
    area.give_back(libc::MADV_FREE);
    area.give_back(libc::MADV_FREE);
    pidfd.page_out(&[area]);
    let left = area.residence();
    area.write();
    act.report(&[
        ("pages", PAGES as i64),
        ("taken", (PAGES - left.present - left.swapped) as i64),
    ]);
}
