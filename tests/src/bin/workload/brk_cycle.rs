//! Grows the heap, shrinks it and grows it again: what grows back is touched for the first time.

use memtrace_tests::area::{Area, page_bytes};
use memtrace_tests::scene::{Scene, fail};

const PAGES: usize = 64;

pub fn main() {
    let scene = Scene::open();
    let old = brk(0);
    // Whole pages from here on, so that every count is one of pages.
    let start = old.next_multiple_of(page_bytes());
    let heap = Area {
        start,
        pages: PAGES,
    };
    let act = scene.ready();

    must_be(start + heap.bytes());
    heap.write();
    // Marks must end with the heap that had them.
    heap.part(0, PAGES / 2).give_back(libc::MADV_DONTNEED);
    must_be(start);
    must_be(start + heap.bytes());
    heap.write();
    act.report(&[
        ("pages", PAGES as i64),
        // The first growth begins at the old break; rounding it up adds no page.
        ("addr", start as i64),
        ("odd_bytes", (start - old) as i64),
    ]);
}

fn must_be(end: usize) {
    if brk(end) != end {
        fail("brk");
    }
}

/// The system call itself: libc's wrapper keeps a break of its own.
fn brk(end: usize) -> usize {
    // SAFETY: malloc takes no memory while the break is moved, and gets its break back.
    unsafe { libc::syscall(libc::SYS_brk, end) as usize }
}
