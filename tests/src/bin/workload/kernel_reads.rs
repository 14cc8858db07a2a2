//! Has the kernel read untouched pages, which brings no memory, and after each populates another one without a fault.

use std::fs::File;
use std::os::fd::IntoRawFd;

use memtrace_tests::area::{Area, page_bytes};
use memtrace_tests::scene::{Scene, fail};

const PAGES: usize = 200;
const MADV_POPULATE_WRITE: i32 = 23;

pub fn main() {
    let scene = Scene::open();
    let path = std::env::args()
        .nth(2)
        .unwrap_or_else(|| fail("a path is needed"));
    let file = File::create_new(path)
        .unwrap_or_else(|_| fail("open"))
        .into_raw_fd();
    let act = scene.ready();
    let (read, populated) = (Area::map(PAGES), Area::map(PAGES));
    for page in 0..PAGES {
        let from = read.part(page, page + 1).start as *const _;
        // SAFETY: one byte of the area's own.
        if unsafe { libc::pwrite(file, from, 1, 0) } != 1 {
            fail("pwrite");
        }
        populated
            .part(page, page + 1)
            .give_back(MADV_POPULATE_WRITE);
    }
    let bytes = populated.residence().present * page_bytes();
    act.report(&[("reads", PAGES as i64), ("unfaulted_bytes", bytes as i64)]);
}
