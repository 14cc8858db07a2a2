//! Keeps some pages in use and frees others lazily, and tells what of each is in memory and in swap.
//!
//! `swaps USED LAZY`, in pages

use std::io::{BufRead, stdin};

use memtrace_tests::area::{Area, page_bytes};
use memtrace_tests::scene::{Scene, exit, number_argument};

pub fn main() {
    let scene = Scene::open();
    let [used, lazy] = [2, 3].map(|index| number_argument(index).unwrap_or(1));
    let mut act = scene.ready();
    let [used, lazy] = [used, lazy].map(Area::map);
    used.write();
    lazy.write();
    lazy.give_back(libc::MADV_FREE);
    let mut wrong = 0;
    loop {
        let (of_used, of_lazy) = (used.residence(), lazy.residence());
        act.tell(&[
            ("used_start", used.start as i64),
            ("used_present", of_used.present as i64),
            ("used_swapped", of_used.swapped as i64),
            ("used_wrong", wrong),
            ("lazy_start", lazy.start as i64),
            ("lazy_present", of_lazy.present as i64),
            ("lazy_swapped", of_lazy.swapped as i64),
        ]);
        let mut word = String::new();
        match (stdin().lock().read_line(&mut word), word.trim_end()) {
            (Ok(1..), "look") => {}
            // What was in use must come back with what was in it.
            (Ok(1..), "touch") => wrong = lost(used),
            _ => exit(0),
        }
    }
}

/// How many pages have not the byte that was written to them.
fn lost(area: Area) -> i64 {
    let pages = 0..area.pages;
    let bytes = pages.map(|page| {
        // SAFETY: the area is mapped, and nothing of Rust's lives in it.
        unsafe { std::ptr::read_volatile((area.start + page * page_bytes()) as *const u8) }
    });
    bytes.filter(|&byte| byte != 1).count() as i64
}
