//! Touches a page between two give-backs that overlap, of which one takes it before the touch and the
//! other after it: the next touch looks just like one of a page that was never there.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use memtrace_tests::area::Area;
use memtrace_tests::processes::Crew;
use memtrace_tests::scene::{Scene, fail};

/// Taking so many away lasts long enough for the other thread to do its part meanwhile.
const PAGES: usize = 16 * 1024;
const ROUNDS: usize = 200;
const ENOUGH: usize = 3;

static BARRIER: Barrier = Barrier::new(2);
static ENDED: AtomicBool = AtomicBool::new(false);
static DOUBTS: AtomicUsize = AtomicUsize::new(0);
static DONE: AtomicUsize = AtomicUsize::new(0);

pub fn main() {
    let area = Area::map(PAGES);
    area.write();
    let crew = Crew::hire(2, move |thread| {
        let job = if thread == 0 {
            takes_all
        } else {
            touches_the_last
        };
        while DONE.load(Ordering::SeqCst) < ROUNDS && DOUBTS.load(Ordering::SeqCst) < ENOUGH {
            BARRIER.wait();
            job(area);
            BARRIER.wait();
        }
    });
    let act = Scene::open().ready();
    crew.work();
    let doubts = DOUBTS.load(Ordering::SeqCst);
    if doubts == 0 {
        fail("two threads never overlapped as they were to");
    }
    act.report(&[
        ("doubts", doubts as i64),
        ("rounds", DONE.load(Ordering::SeqCst) as i64),
        ("pages", PAGES as i64),
    ]);
}

fn takes_all(area: Area) {
    area.give_back(libc::MADV_DONTNEED);
    ENDED.store(true, Ordering::SeqCst);
    // The other one has looked and touched.
    BARRIER.wait();
    area.part(0, PAGES - 1).write();
    ENDED.store(false, Ordering::SeqCst);
    DONE.fetch_add(1, Ordering::SeqCst);
}

fn touches_the_last(area: Area) {
    let (first, last) = (area.part(0, 1), area.part(PAGES - 1, PAGES));
    // Pages go from the first to the last one.
    while first.residence().present == 1 && !ENDED.load(Ordering::SeqCst) {
        thread::yield_now();
    }
    last.give_back(libc::MADV_DONTNEED);
    last.write();
    while !ENDED.load(Ordering::SeqCst) {
        thread::yield_now();
    }
    BARRIER.wait();
    let taken_again = last.residence().present == 0;
    last.write();
    if taken_again {
        DOUBTS.fetch_add(1, Ordering::SeqCst);
    }
}
