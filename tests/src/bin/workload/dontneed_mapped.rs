//! Gives back pages of a shared file or of shared anonymous memory: they leave the mapping, not the cache.

use std::fs::File;
use std::os::fd::IntoRawFd;

use memtrace_tests::area::{Area, page_bytes};
use memtrace_tests::scene::{Scene, fail};

const PAGES: usize = 64;

pub fn main() {
    let scene = Scene::open();
    let path = std::env::args().nth(2);
    let (file, flags) = match &path {
        Some(path) => (open(path), libc::MAP_SHARED),
        None => (-1, libc::MAP_SHARED | libc::MAP_ANONYMOUS),
    };
    let mut act = scene.ready();

    let area = Area::map_with(PAGES, libc::PROT_READ | libc::PROT_WRITE, flags, file);
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

/// A new file of the area's length.
fn open(path: &str) -> i32 {
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path)
        .unwrap_or_else(|_| fail("open"));
    file.set_len((PAGES * page_bytes()) as u64)
        .unwrap_or_else(|_| fail("ftruncate"));
    file.into_raw_fd()
}
