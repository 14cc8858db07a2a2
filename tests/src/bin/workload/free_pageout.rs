//! Frees pages lazily, rewrites some, makes the kernel reclaim the rest and touches all of them.

use memtrace_tests::area::{Area, OwnPidfd, stay_on_this_cpu};
use memtrace_tests::scene::Scene;

const PAGES: usize = 1024;
/// Written again after the MADV_FREE, so that the kernel must keep them.
const KEPT: usize = 256;

pub fn main() {
    let scene = Scene::open();
    stay_on_this_cpu();
    let pidfd = OwnPidfd::open();
    let reads_first = std::env::args().any(|arg| arg == "read-first");
    let act = scene.ready();

    let area = Area::map(PAGES);
    area.write();
    area.give_back(libc::MADV_FREE);
    area.part(0, KEPT).write();
    let answer = pidfd.page_out(&[area]);
    let left = area.residence();
    if reads_first {
        area.read();
    }
    area.write();
    act.report(&[
        ("pages", PAGES as i64),
        ("kept", KEPT as i64),
        ("pageout_ret", answer),
        ("taken", (PAGES - left.present - left.swapped) as i64),
        ("swapped", left.swapped as i64),
    ]);
}
