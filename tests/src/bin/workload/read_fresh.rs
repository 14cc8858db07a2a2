//! Lets read(2) fill fresh memory: the kernel makes the faults, one a page.

use memtrace_tests::area::{Area, page_bytes};
use memtrace_tests::scene::{Scene, must};

const PAGES: usize = 256;

pub fn main() {
    let scene = Scene::open();
    // SAFETY: the name is a C string, and the new file is ours alone.
    let file = unsafe {
        let file = libc::memfd_create(c"source".as_ptr(), 0);
        must(file, "memfd_create");
        must(
            libc::ftruncate(file, (PAGES * page_bytes()) as i64),
            "ftruncate",
        );
        file
    };
    let source = Area::map_with(
        PAGES,
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_SHARED,
        file,
    );
    source.write();
    let act = scene.ready();

    let area = Area::map(PAGES);
    // SAFETY: the area is as long as read is told.
    let read = unsafe { libc::read(file, area.start as *mut _, area.bytes()) };
    act.report(&[("pages", PAGES as i64), ("read_bytes", read as i64)]);
}
