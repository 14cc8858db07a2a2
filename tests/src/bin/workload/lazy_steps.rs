//! Frees pages lazily, and then does with them what it is told, step by step, telling what became of them.

use std::io::{BufRead, stdin};

use memtrace_tests::area::{Area, stay_on_this_cpu};
use memtrace_tests::scene::{Scene, exit};
use memtrace_tests::smaps::Memory;

/// Unless told otherwise.
const PAGES: usize = 8192;

pub fn main() {
    let scene = Scene::open();
    stay_on_this_cpu();
    let told = std::env::args().nth(2).and_then(|word| word.parse().ok());
    let pages: usize = told.unwrap_or(PAGES);
    let quarter = pages / 4;
    let mut act = scene.ready();
    let area = Area::map(pages);
    area.write();
    area.give_back(libc::MADV_FREE);
    let first = area.part(0, quarter);
    let second = area.part(quarter, 2 * quarter);
    let mut more = None;
    loop {
        let memory = Memory::of(std::process::id());
        let residence = area.residence();
        act.tell(&[
            ("pages", pages as i64),
            ("start", area.start as i64),
            ("present", residence.present as i64),
            ("swapped", residence.swapped as i64),
            ("rss_bytes", memory.rss_bytes as i64),
            ("lazyfree_bytes", memory.lazyfree_bytes as i64),
        ]);
        let mut word = String::new();
        let heard = stdin().lock().read_line(&mut word);
        match (heard, word.trim_end()) {
            // Writes a quarter again: silently, where it is still there.
            (Ok(1..), "reuse") => first.write(),
            (Ok(1..), "touch") => second.write(),
            (Ok(1..), "free") => area.give_back(libc::MADV_FREE),
            // Takes so much more that a limit is felt.
            (Ok(1..), "more") => {
                let new = Area::map(quarter);
                new.write();
                more = Some(new);
            }
            (Ok(1..), "less") => {
                if let Some(new) = more.take() {
                    new.unmap();
                }
            }
            (Ok(1..), "drop") => area.give_back(libc::MADV_DONTNEED),
            _ => exit(0),
        }
    }
}
