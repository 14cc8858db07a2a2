//! Touches a page of a huge page and gives all of it back, over and over.
//!
//! `huge_rounds [small]`: first it is filled with base pages and given back.

use memtrace_tests::area::{Area, page_bytes};
use memtrace_tests::scene::Scene;

const HUGE_BYTES: usize = 2 << 20;
const ROUNDS: usize = 10;

pub fn main() {
    let small = std::env::args().any(|arg| arg == "small");
    let act = Scene::open_with_huge_pages().ready();
    let area = Area::map_aligned(HUGE_BYTES / page_bytes(), HUGE_BYTES);
    let (mut first, mut again, mut whole) = (0, 0, 0);
    if small {
        area.give_back(libc::MADV_NOHUGEPAGE);
        area.write();
        first = area.released_by(libc::MADV_DONTNEED);
    }
    area.give_back(libc::MADV_HUGEPAGE);
    for _ in 0..ROUNDS {
        area.part(0, 1).write();
        let released = area.released_by(libc::MADV_DONTNEED);
        whole += i64::from(released == area.bytes());
        if first == 0 {
            first = released;
        } else {
            again += released;
        }
    }
    act.report(&[
        ("rounds", ROUNDS as i64),
        ("whole", whole),
        ("first_bytes", first as i64),
        ("again_bytes", again as i64),
    ]);
}
