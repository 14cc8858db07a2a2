//! Frees the same pages lazily after each time that it has written to them, and to some of them only.

use memtrace_tests::area::{Area, stay_on_this_cpu};
use memtrace_tests::scene::Scene;
use memtrace_tests::smaps::Memory;

const PAGES: usize = 4096;
const ROUNDS: usize = 10;

pub fn main() {
    let scene = Scene::open();
    stay_on_this_cpu();
    let other = Area::map(1);
    other.write();
    // Reading it allocates, which is to be over before the first fault counts.
    let lazyfree = || Memory::of(std::process::id()).lazyfree_bytes;
    lazyfree();
    let act = scene.ready();
    let area = Area::map(PAGES);
    let mut freed = 0;
    for round in 0..ROUNDS {
        // In every other round the second half stays lazily free.
        area.part(0, PAGES / (1 + round % 2)).write();
        let before = lazyfree();
        area.give_back(libc::MADV_FREE);
        // Which has the kernel count what this CPU held back (mm/madvise.c:madvise_cold).
        other.give_back(libc::MADV_COLD);
        freed += lazyfree() - before;
    }
    act.report(&[
        ("pages", PAGES as i64),
        ("rounds", ROUNDS as i64),
        ("freed_bytes", freed as i64),
    ]);
}
