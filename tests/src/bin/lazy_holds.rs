//! Frees pages lazily and holds still, so that samples of LazyFree can be compared with its own.

use std::fs;

use memtrace_tests::area::{Area, stay_on_this_cpu};
use memtrace_tests::scene::{Scene, fail};

const PAGES: usize = 4096;

fn main() {
    let scene = Scene::open();
    stay_on_this_cpu();
    let act = scene.ready();
    let area = Area::map(PAGES);
    area.write();
    area.give_back(libc::MADV_FREE);
    // Not exact as to faults: reading this makes some, and nothing here is about them.
    let rollup = fs::read_to_string("/proc/self/smaps_rollup")
        .unwrap_or_else(|_| fail("/proc/self/smaps_rollup"));
    act.report(&[
        ("pages", PAGES as i64),
        ("rss_bytes", bytes_of(&rollup, "Rss:")),
        ("lazyfree_bytes", bytes_of(&rollup, "LazyFree:")),
    ]);
}

/// A line's number of kilobytes, as bytes.
fn bytes_of(rollup: &str, name: &str) -> i64 {
    let line = rollup.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|rest| rest.split_whitespace().next());
    match number.and_then(|number| number.parse::<i64>().ok()) {
        Some(kilobytes) => kilobytes * 1024,
        None => fail("smaps_rollup lacks a line"),
    }
}
