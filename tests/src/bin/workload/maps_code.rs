//! Maps files as if there were code in them, before it is traced, and later touches new memory.
//!
//! `maps_code FILE...`

use std::fs::File;
use std::os::fd::AsRawFd;

use memtrace_tests::area::{Area, page_bytes};
use memtrace_tests::scene::{Scene, fail};

const PAGES: usize = 64;

pub fn main() {
    let scene = Scene::open();
    for path in std::env::args().skip(2) {
        let Ok(file) = File::open(&path) else {
            fail("open");
        };
        let bytes = file.metadata().map_or(0, |status| status.len() as usize);
        let pages = bytes.div_ceil(page_bytes()).max(1);
        let prot = libc::PROT_READ | libc::PROT_EXEC;
        Area::map_with(pages, prot, libc::MAP_PRIVATE, file.as_raw_fd());
    }
    let act = scene.ready();
    let area = Area::map(PAGES);
    area.write();
    act.report(&[("pages", PAGES as i64)]);
}
