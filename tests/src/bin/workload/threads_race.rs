//! Lets 64 threads touch the same given-back pages at once: each page is populated by one of them.

use std::sync::Barrier;

use memtrace_tests::area::Area;
use memtrace_tests::processes::Crew;
use memtrace_tests::scene::Scene;

const THREADS: usize = 64;
const PAGES: usize = 64;
const ROUNDS: usize = 20;

pub fn main() {
    let area = Area::map(PAGES);
    area.write();
    let together = Barrier::new(THREADS);
    let crew = Crew::hire(THREADS, move |_| {
        for _ in 0..ROUNDS {
            // One of them gives back while all the others are held.
            if together.wait().is_leader() {
                area.give_back(libc::MADV_DONTNEED);
            }
            together.wait();
            area.write();
        }
    });
    let act = Scene::open().ready();
    crew.work();
    act.report(&[("pages", PAGES as i64), ("rounds", ROUNDS as i64)]);
}
