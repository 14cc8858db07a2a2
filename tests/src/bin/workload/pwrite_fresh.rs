//! Writes a file from memory that nobody touched: the kernel tries each page more than once.

use std::fs::File;
use std::os::fd::IntoRawFd;

use memtrace_tests::area::Area;
use memtrace_tests::scene::{Scene, fail};

const PAGES: usize = 16;
const WRITES: usize = 10;

pub fn main() {
    let scene = Scene::open();
    let path = std::env::args()
        .nth(2)
        .unwrap_or_else(|| fail("a path is needed"));
    let file = File::create_new(path)
        .unwrap_or_else(|_| fail("open"))
        .into_raw_fd();
    let act = scene.ready();

    let area = Area::map(PAGES * WRITES);
    let mut written = 0;
    for turn in 0..WRITES {
        let part = area.part(turn * PAGES, (turn + 1) * PAGES);
        // SAFETY: the part is as long as pwrite is told.
        written += unsafe { libc::pwrite(file, part.start as *const _, part.bytes(), 0) };
    }
    act.report(&[
        ("pages", area.pages as i64),
        ("written_bytes", written as i64),
        ("bytes", area.bytes() as i64),
    ]);
}
