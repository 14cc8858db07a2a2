//! Gives a populated mapping back in chunks, one madvise each; only those calls are timed.
//!
//! `madvise PAGES ROUNDS CHUNK_PAGES`

use memtrace_tests::area::Area;

use crate::rounds::Rounds;

pub fn main() {
    let [pages, rounds, chunk] = [0, 1, 2].map(crate::argument);
    let mut act = crate::begin();
    let mut times = Rounds::new(rounds, pages / chunk);
    let area = Area::map(pages);
    area.write();
    area.give_back(libc::MADV_DONTNEED);
    act.tell(&[]);
    act.hear("act");
    for _ in 0..rounds {
        area.write();
        times.time(|| {
            for from in (0..pages).step_by(chunk) {
                area.part(from, from + chunk).give_back(libc::MADV_DONTNEED);
            }
        });
    }
    act.report(&times.report());
}
