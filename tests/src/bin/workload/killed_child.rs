//! Kills a child that gives pages back and touches them in a loop: what it had done is known to within one step.

use std::sync::atomic::{AtomicU64, Ordering};

use memtrace_tests::area::Area;
use memtrace_tests::processes::{Pipe, fork, reap};
use memtrace_tests::scene::{Scene, must};

const PAGES: usize = 16;
/// Rounds that the child must have done before it is killed.
const ROUNDS: u64 = 200;

/// What the child has begun and what it has done, in memory that the parent shares.
struct Progress {
    rounds_begun: AtomicU64,
    rounds_done: AtomicU64,
    touches_begun: AtomicU64,
    touches_done: AtomicU64,
}

pub fn main() {
    let shared = Area::map_with(
        1,
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_SHARED | libc::MAP_ANONYMOUS,
        -1,
    );
    shared.write();
    // SAFETY: a zeroed page, and Progress is valid from any bytes.
    let progress = unsafe {
        (shared.start as *mut Progress).write_bytes(0, 1);
        &*(shared.start as *const Progress)
    };
    let area = Area::map(PAGES);
    area.write();
    let scene = Scene::open();
    let start = Pipe::new();
    let child = fork();
    if child == 0 {
        area.write();
        start.wait();
        run(area, progress);
    }
    let act = scene.ready_as(child as u32);

    start.signal();
    while progress.rounds_done.load(Ordering::Relaxed) < ROUNDS {
        std::hint::spin_loop();
    }
    // SAFETY: the child is ours and not yet reaped, so that its pid is its own.
    must(unsafe { libc::kill(child, libc::SIGKILL) }, "kill");
    let end = reap(child);
    act.report(&[
        ("child_pid", i64::from(child)),
        ("status", i64::from(end.status)),
        ("page_bytes", (area.bytes() / PAGES) as i64),
        ("area_bytes", area.bytes() as i64),
        ("rounds_begun", get(&progress.rounds_begun)),
        ("rounds_done", get(&progress.rounds_done)),
        ("touches_begun", get(&progress.touches_begun)),
        ("touches_done", get(&progress.touches_done)),
    ]);
}

fn run(area: Area, progress: &Progress) -> ! {
    loop {
        progress.rounds_begun.fetch_add(1, Ordering::Relaxed);
        area.give_back(libc::MADV_DONTNEED);
        progress.rounds_done.fetch_add(1, Ordering::Relaxed);
        for page in 0..area.pages {
            progress.touches_begun.fetch_add(1, Ordering::Relaxed);
            area.part(page, page + 1).write();
            progress.touches_done.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn get(counter: &AtomicU64) -> i64 {
    counter.load(Ordering::Relaxed) as i64
}
