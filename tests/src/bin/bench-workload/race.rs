//! Faults as fast as several threads can, for a given time: what a tracer must keep up with.
//!
//! `race THREADS SECONDS PAGES`

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use memtrace_tests::area::now_ns;
use memtrace_tests::processes::Crew;

use crate::warm;

const NS: i64 = 1_000_000_000;

pub fn main() {
    let [threads, seconds, pages] = [0, 1, 2].map(crate::argument);
    let mut act = crate::begin();
    let area = warm::map(threads * pages);
    let faults = Arc::new(AtomicI64::new(0));
    let crew = Crew::hire(threads, {
        let faults = faults.clone();
        move |thread| {
            let own = area.part(thread * pages, (thread + 1) * pages);
            let until = now_ns() + seconds as i64 * NS;
            while now_ns() < until {
                own.write();
                own.give_back(libc::MADV_DONTNEED);
                faults.fetch_add(pages as i64, Ordering::Relaxed);
            }
        }
    });
    act.tell(&[]);
    act.hear("act");
    let begun = now_ns();
    crew.work();
    act.report(&[
        ("events", faults.load(Ordering::Relaxed)),
        ("elapsed_ns", now_ns() - begun),
    ]);
}
