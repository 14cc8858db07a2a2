//! Gives memory back by the advice that it is told, needs a part of it again, over and over, and then holds still.
//!
//! `switches ADVICE PAGES REUSED ROUNDS`: ADVICE is the number of MADV_FREE or MADV_DONTNEED. All of PAGES are given
//! back; then the first REUSED of them are written ROUNDS times, and given back again between the rounds.

use memtrace_tests::area::{Area, stay_on_this_cpu};
use memtrace_tests::scene::{Scene, number_argument};
use memtrace_tests::smaps::Memory;

pub fn main() {
    let scene = Scene::open();
    stay_on_this_cpu();
    let [advice, pages, reused, rounds] = [2, 3, 4, 5].map(|i| number_argument(i).unwrap_or(0));
    let advice = advice as i32;
    let act = scene.ready();
    let area = Area::map(pages);
    area.write();
    area.give_back(advice);
    let first = area.part(0, reused);
    for round in 1..=rounds {
        first.write();
        if round < rounds {
            first.give_back(advice);
        }
    }
    let memory = Memory::of(std::process::id());
    act.report(&[
        ("pages", pages as i64),
        ("rss_bytes", memory.rss_bytes as i64),
    ]);
}
