//! Gives memory back, touches it, maps and unmaps without a pause, long before it is traced.
//!
//! `busy PAUSE_US`: after each round

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use memtrace_tests::area::Area;
use memtrace_tests::processes::Crew;
use memtrace_tests::scene::{Scene, number_argument};

const PAGES: usize = 16;

static ROUNDS: AtomicU64 = AtomicU64::new(0);
static STOP: AtomicBool = AtomicBool::new(false);

pub fn main() {
    let pause_us = number_argument(2).unwrap_or(0) as u32;
    let area = Area::map(PAGES);
    let crew = Crew::hire(1, move |_| {
        while !STOP.load(Ordering::Relaxed) {
            round(area);
            if pause_us > 0 {
                // SAFETY: plain integers.
                unsafe { libc::usleep(pause_us) };
            }
        }
    });
    let scene = Scene::open();
    crew.begin();
    while rounds() == 0 {
        std::thread::yield_now();
    }
    let mut act = scene.ready();
    act.tell(&[("rounds", rounds())]);
    act.hear("stop");
    STOP.store(true, Ordering::Relaxed);
    crew.finish();
    act.report(&[("rounds", rounds()), ("bytes", area.bytes() as i64)]);
}

fn round(area: Area) {
    area.write();
    area.give_back(libc::MADV_DONTNEED);
    let new = Area::map(PAGES);
    new.write();
    new.unmap();
    ROUNDS.fetch_add(1, Ordering::Relaxed);
}

fn rounds() -> i64 {
    ROUNDS.load(Ordering::Relaxed) as i64
}
