//! Gives pages back and refaults them, then runs itself anew in the same process.

use std::ffi::CStr;
use std::ptr;

use memtrace_tests::area::Area;
use memtrace_tests::scene::{Scene, fail};

const PAGES: usize = 64;
const PAGES_AFTER: usize = 32;

pub fn main() {
    if std::env::args().nth(2).as_deref() == Some("again") {
        return second_image();
    }
    let _act = Scene::open().ready();
    let area = Area::map(PAGES);
    area.write();
    area.give_back(libc::MADV_DONTNEED);
    area.write();
    // SAFETY: both arrays end with null, and the strings are C strings. An empty environment
    // keeps what the kernel copies for the new image within one page.
    unsafe {
        let args = [c"workload", c"exec_again", c"again"].map(CStr::as_ptr);
        let args = [args[0], args[1], args[2], ptr::null()];
        libc::execve(
            c"/proc/self/exe".as_ptr(),
            args.as_ptr(),
            [ptr::null()].as_ptr(),
        );
    }
    fail("execve");
}

fn second_image() {
    let act = Scene::open_unpopulated().act();
    let area = Area::map(PAGES_AFTER);
    // Not populated before: were the first image's ledger still in force, a page at the same
    // address would look given back.
    area.give_back(libc::MADV_DONTNEED);
    area.write();
    act.report(&[("pages", PAGES as i64), ("pages_after", PAGES_AFTER as i64)]);
}
