//! Writes a byte to each page of a private anonymous mapping and gives it all back, round after round.
//!
//! `faults PAGES ROUNDS RANDOM LAZY_PAGES`: in random order if RANDOM is 1, while LAZY_PAGES more are lazily free.

use std::ptr;

use memtrace_tests::area::{Area, page_bytes};

use crate::rounds::Rounds;
use crate::warm;

pub fn main() {
    let [pages, rounds, random, lazy_pages] = [0, 1, 2, 3].map(crate::argument);
    let act = crate::begin();
    let order = (random == 1).then(|| shuffled(pages));
    let mut times = Rounds::new(rounds, pages);
    let area = warm::map(pages);
    if lazy_pages > 0 {
        let lazy = Area::map(lazy_pages);
        lazy.write();
        lazy.give_back(libc::MADV_FREE);
    }
    act.turns("act", || {
        for _ in 0..rounds {
            times.time(|| match &order {
                None => area.write(),
                Some(order) => write_in(area, order),
            });
            area.give_back(libc::MADV_DONTNEED);
        }
        times.report()
    });
}

fn write_in(area: Area, order: &[u32]) {
    for &page in order {
        // SAFETY: the numbers are those of the area's pages, and it is mapped and writable.
        unsafe { ptr::write_volatile((area.start + page as usize * page_bytes()) as *mut u8, 1) };
    }
}

/// All numbers below `len`, in an order that looks random and is the same each time (Fisher and
/// Yates, with the xorshift generator of Marsaglia).
fn shuffled(len: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..len as u32).collect();
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for last in (1..order.len()).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        order.swap(last, (state % (last as u64 + 1)) as usize);
    }
    order
}
