//! Gives back a part of a mapping, its length not a multiple of the page: the kernel rounds it up.

use memtrace_tests::area::{Area, advise};
use memtrace_tests::scene::Scene;

const PAGES: usize = 256;
const FROM: usize = 64;
const TO: usize = 128;

pub fn main() {
    let act = Scene::open().ready();
    let area = Area::map(PAGES);
    area.write();
    let part = area.part(FROM, TO);
    let answer = advise(part.start, part.bytes() - 100, libc::MADV_DONTNEED);
    area.write();
    act.report(&[
        ("pages", PAGES as i64),
        ("given_back", part.pages as i64),
        ("addr", part.start as i64),
        ("ret", answer),
    ]);
}
