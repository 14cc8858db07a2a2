//! Lets threads map, touch, give back and unmap at once, so that they take over each other's addresses.

use memtrace_tests::area::Area;
use memtrace_tests::processes::Crew;
use memtrace_tests::scene::Scene;

const THREADS: usize = 8;
const PAGES: usize = 16;
const GIVEN_BACK: usize = 4;
const ROUNDS: usize = 400;

pub fn main() {
    let crew = Crew::hire(THREADS, |_| {
        for _ in 0..ROUNDS {
            let area = Area::map(PAGES);
            area.write();
            let part = area.part(0, GIVEN_BACK);
            part.give_back(libc::MADV_DONTNEED);
            part.write();
            // These marks must not outlive the mapping: the next owner's touches are first ones.
            area.give_back(libc::MADV_DONTNEED);
            area.unmap();
        }
    });
    let act = Scene::open().ready();
    crew.work();
    act.report(&[
        ("maps", (THREADS * ROUNDS) as i64),
        ("pages", PAGES as i64),
        ("first_touches", (THREADS * ROUNDS * PAGES) as i64),
        ("refaults", (THREADS * ROUNDS * GIVEN_BACK) as i64),
    ]);
}
