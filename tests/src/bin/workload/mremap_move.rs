//! Gives back a part of an area, moves the area and touches it at its new place: the marks move with the pages.

use memtrace_tests::area::{Area, OwnPidfd, stay_on_this_cpu};
use memtrace_tests::scene::Scene;

const PAGES: usize = 128;
const GIVEN_BACK: usize = 48;

pub fn main() {
    let scene = Scene::open();
    stay_on_this_cpu();
    let lazily = std::env::args().any(|arg| arg == "free");
    let pidfd = OwnPidfd::open();
    let act = scene.ready();

    // A place that is free, since it has just been unmapped.
    let place = Area::map(PAGES);
    let area = Area::map(PAGES);
    place.unmap();
    area.write();
    let part = area.part(0, GIVEN_BACK);
    part.give_back(if lazily {
        libc::MADV_FREE
    } else {
        libc::MADV_DONTNEED
    });
    let moved = area.remap(
        PAGES,
        libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED,
        place.start,
    );
    if lazily {
        pidfd.page_out(&[moved]);
    }
    let left = moved.residence();
    moved.write();
    act.report(&[
        ("pages", PAGES as i64),
        ("given_back", GIVEN_BACK as i64),
        ("taken", (PAGES - left.present - left.swapped) as i64),
        ("from", area.start as i64),
        ("to", moved.start as i64),
    ]);
}
