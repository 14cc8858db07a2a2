//! Does nothing but wait, with some memory lazily free if asked: what is traced while a bystander is measured.
//!
//! `waits LAZY_PAGES`

use memtrace_tests::area::Area;

pub fn main() {
    let lazy_pages = crate::argument(0);
    let mut act = crate::begin();
    if lazy_pages > 0 {
        let lazy = Area::map(lazy_pages);
        lazy.write();
        lazy.give_back(libc::MADV_FREE);
    }
    act.tell(&[]);
    act.hear("act");
    act.report(&[]);
}
