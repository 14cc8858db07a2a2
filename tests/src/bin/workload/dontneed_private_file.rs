//! Writes to a private file mapping, gives the copies back and touches again: the file's content returns.

use std::fs::File;
use std::os::fd::IntoRawFd;

use memtrace_tests::area::{Area, page_bytes};
use memtrace_tests::scene::{Scene, fail};

const PAGES: usize = 64;

pub fn main() {
    let scene = Scene::open();
    let path = std::env::args()
        .nth(2)
        .unwrap_or_else(|| fail("a path is needed"));
    std::fs::write(&path, vec![7u8; PAGES * page_bytes()]).unwrap_or_else(|_| fail("write"));
    let file = File::open(&path)
        .unwrap_or_else(|_| fail("open"))
        .into_raw_fd();
    let mut act = scene.ready();

    let area = Area::map_with(
        PAGES,
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_PRIVATE,
        file,
    );
    area.write();
    let first = act.faults();
    area.give_back(libc::MADV_DONTNEED);
    area.write();
    let again = act.faults() - first;
    act.report(&[
        ("pages", PAGES as i64),
        ("first_faults", first as i64),
        ("again_faults", again as i64),
    ]);
}
