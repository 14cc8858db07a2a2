//! Frees pages lazily before it is traced, and then holds still.

use memtrace_tests::area::{Area, stay_on_this_cpu};
use memtrace_tests::scene::Scene;
use memtrace_tests::smaps::Memory;

const PAGES: usize = 4096;

pub fn main() {
    let scene = Scene::open();
    stay_on_this_cpu();
    let area = Area::map(PAGES);
    area.write();
    area.give_back(libc::MADV_FREE);
    let act = scene.ready();
    let memory = Memory::of(std::process::id());
    act.report(&[
        ("pages", PAGES as i64),
        ("rss_bytes", memory.rss_bytes as i64),
        ("lazyfree_bytes", memory.lazyfree_bytes as i64),
    ]);
}
