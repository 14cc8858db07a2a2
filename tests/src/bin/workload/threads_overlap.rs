//! Lets 64 threads give back and touch the same pages with nothing to order them.

use memtrace_tests::area::Area;
use memtrace_tests::processes::Crew;
use memtrace_tests::scene::Scene;

const THREADS: usize = 64;
const PAGES: usize = 64;
const ROUNDS: usize = 50;

pub fn main() {
    let area = Area::map(PAGES);
    area.write();
    let crew = Crew::hire(THREADS, move |_| {
        for _ in 0..ROUNDS {
            area.give_back(libc::MADV_DONTNEED);
            area.write();
        }
    });
    let act = Scene::open().ready();
    crew.work();
    act.report(&[
        ("pages", PAGES as i64),
        ("calls", (THREADS * ROUNDS) as i64),
        ("touches", (THREADS * ROUNDS * PAGES) as i64),
    ]);
}
