//! Gives a populated mapping back in chunks, one madvise each; only those calls are timed.
//!
//! `madvise PAGES ROUNDS CHUNK_PAGES`

use crate::rounds::Rounds;
use crate::warm;

pub fn main() {
    let [pages, rounds, chunk] = [0, 1, 2].map(crate::argument);
    let act = crate::begin();
    let mut times = Rounds::new(rounds, pages / chunk);
    let area = warm::map(pages);
    act.turns("act", || {
        for _ in 0..rounds {
            area.write();
            times.time(|| {
                for from in (0..pages).step_by(chunk) {
                    area.part(from, from + chunk).give_back(libc::MADV_DONTNEED);
                }
            });
        }
        times.report()
    });
}
