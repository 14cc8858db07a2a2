//! Faults at a given rate for a given time, in bursts of a thousandth of a second's worth.
//!
//! `paced FAULTS_PER_SECOND SECONDS PAGES`

use memtrace_tests::area::now_ns;
use memtrace_tests::scene::fail;

use crate::warm;

const NS: i64 = 1_000_000_000;

pub fn main() {
    let [per_second, seconds, pages] = [0, 1, 2].map(crate::argument);
    let burst = (per_second / 1000).max(1);
    if pages < burst {
        fail("the mapping is smaller than a burst");
    }
    let mut act = crate::begin();
    let area = warm::map(pages);
    act.tell(&[]);
    act.hear("act");
    let begun = now_ns();
    let until = begun + seconds as i64 * NS;
    let (mut faults, mut next) = (0, 0);
    loop {
        // Where it should be by now. After a stall it catches up.
        let now = now_ns();
        if now >= until {
            break;
        }
        let due = (now - begun) / 1000 * per_second as i64 / (NS / 1000);
        if faults >= due {
            std::hint::spin_loop();
            continue;
        }
        if next + burst > pages {
            area.give_back(libc::MADV_DONTNEED);
            next = 0;
        }
        area.part(next, next + burst).write();
        next += burst;
        faults += burst as i64;
    }
    act.report(&[("events", faults), ("elapsed_ns", now_ns() - begun)]);
}
