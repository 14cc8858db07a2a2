//! Frees every other page of an area whose protections alternate, so that each is a mapping of its own.

use memtrace_tests::area::{Area, page_bytes, stay_on_this_cpu};
use memtrace_tests::scene::{Scene, must};

/// More than the kernel takes in one call.
const MAPPINGS: usize = 1500;
const PAGES: usize = 2;

pub fn main() {
    let scene = Scene::open();
    stay_on_this_cpu();
    let area = Area::map(2 * PAGES * MAPPINGS);
    area.write();
    for number in 0..MAPPINGS {
        let at = 2 * PAGES * number;
        area.part(at, at + PAGES).give_back(libc::MADV_FREE);
        let between = area.part(at + PAGES, at + 2 * PAGES);
        // SAFETY: the pages are ours, and nobody writes to them any more.
        must(
            unsafe { libc::mprotect(between.start as *mut _, between.bytes(), libc::PROT_READ) },
            "mprotect",
        );
    }
    let mut act = scene.ready();
    act.tell(&[
        ("mappings", MAPPINGS as i64),
        ("freed_bytes", (MAPPINGS * PAGES * page_bytes()) as i64),
    ]);
    act.hear("check");
    act.report(&[("gone_pages", (area.pages - area.residence().present) as i64)]);
}
