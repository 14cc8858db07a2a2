//! Frees pages lazily and holds still, so that samples of LazyFree can be compared with its own.

use memtrace_tests::area::{Area, stay_on_this_cpu};
use memtrace_tests::scene::Scene;
use memtrace_tests::smaps::Memory;

/// Unless told otherwise.
const PAGES: usize = 4096;

pub fn main() {
    let scene = Scene::open();
    stay_on_this_cpu();
    let told = std::env::args().nth(2).and_then(|word| word.parse().ok());
    let pages: usize = told.unwrap_or(PAGES);
    let act = scene.ready();
    let area = Area::map(pages);
    area.write();
    area.give_back(libc::MADV_FREE);
    // Not exact as to faults: reading this makes some, and nothing here is about them.
    let memory = Memory::of(std::process::id());
    act.report(&[
        ("pages", pages as i64),
        ("rss_bytes", memory.rss_bytes as i64),
        ("lazyfree_bytes", memory.lazyfree_bytes as i64),
    ]);
}
