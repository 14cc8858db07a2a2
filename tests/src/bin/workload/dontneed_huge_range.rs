//! Gives back a reservation of 16 TiB in which a few pages are populated.

use memtrace_tests::area::{Area, page_bytes};
use memtrace_tests::scene::{Scene, must};

const RESERVED_BYTES: usize = 16 << 40;
const PAGES: usize = 64;

pub fn main() {
    let act = Scene::open().ready();
    let reservation = Area::map_with(
        RESERVED_BYTES / page_bytes(),
        libc::PROT_NONE,
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
        -1,
    );
    // Far inside, so that nothing about the start of the range helps to find them.
    let middle = reservation.pages / 2;
    let used = reservation.part(middle, middle + PAGES);
    // SAFETY: the pages are ours and hold nothing.
    let done = unsafe {
        libc::mprotect(
            used.start as *mut _,
            used.bytes(),
            libc::PROT_READ | libc::PROT_WRITE,
        )
    };
    must(done, "mprotect");
    used.write();
    let answer = reservation.advise(libc::MADV_DONTNEED);
    used.write();
    act.report(&[
        ("pages", PAGES as i64),
        ("reserved_bytes", RESERVED_BYTES as i64),
        ("ret", answer),
    ]);
}
