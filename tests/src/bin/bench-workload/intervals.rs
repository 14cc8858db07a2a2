//! Leaves many stretches given back that do not touch each other, which a tracer has to remember one by one.
//!
//! `intervals COUNT`: every second page is populated and given back, the pages between never exist.

use memtrace_tests::area::Area;

pub fn main() {
    let count = crate::argument(0);
    let mut act = crate::begin();
    let area = Area::map(2 * count);
    act.tell(&[]);
    act.hear("act");
    for page in (0..2 * count).step_by(2) {
        let page = area.part(page, page + 1);
        page.write();
        page.give_back(libc::MADV_DONTNEED);
    }
    act.report(&[("intervals", count as i64)]);
}
