//! Lets 64 threads at once give back and touch pages of their own, which lie side by side.

use memtrace_tests::area::Area;
use memtrace_tests::processes::Crew;
use memtrace_tests::scene::Scene;

const THREADS: usize = 64;
const PAGES: usize = 32;
const ROUNDS: usize = 20;

pub fn main() {
    let area = Area::map(THREADS * PAGES);
    area.write();
    let crew = Crew::hire(THREADS, move |thread| {
        let own = area.part(thread * PAGES, (thread + 1) * PAGES);
        for _ in 0..ROUNDS {
            own.give_back(libc::MADV_DONTNEED);
            own.write();
        }
    });
    let act = Scene::open().ready();
    crew.work();
    act.report(&[
        ("pages", (THREADS * PAGES) as i64),
        ("calls", (THREADS * ROUNDS) as i64),
        ("refaults", (THREADS * PAGES * ROUNDS) as i64),
    ]);
}
