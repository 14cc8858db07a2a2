//! Has a thread hang inside madvise until it is let go, while the others go on.
//!
//! `hangs ADVICE WHEN`: MADV_POPULATE_WRITE or MADV_DONTNEED by its number; `before` or `after` tracing began

use std::sync::atomic::{AtomicI64, Ordering};

use memtrace_tests::area::Area;
use memtrace_tests::processes::Crew;
use memtrace_tests::scene::{Scene, number_argument};
use memtrace_tests::userfault::Userfault;

const HANGING_PAGES: usize = 32;
const PAGES: usize = 64;

/// What the call returned, and before that nothing it could have.
static RETURNED: AtomicI64 = AtomicI64::new(i64::MIN);

pub fn main() {
    let advice = number_argument(2).unwrap_or(0) as i32;
    let before = std::env::args().any(|arg| arg == "before");
    let hanging = Area::map(HANGING_PAGES);
    let crew = Crew::hire(1, move |_| {
        RETURNED.store(hanging.advise(advice), Ordering::Relaxed);
    });
    // Which populates all that is mapped.
    let scene = Scene::open();
    if advice != libc::MADV_DONTNEED {
        hanging.give_back(libc::MADV_DONTNEED);
    }
    let userfault = Userfault::on(hanging);
    if before {
        crew.begin();
        userfault.wait();
    }
    let mut act = scene.ready();
    if !before {
        crew.begin();
        userfault.wait();
    }
    // Everything else, meanwhile.
    let area = Area::map(PAGES);
    area.write();
    area.give_back(libc::MADV_DONTNEED);
    area.write();
    let truth = [
        ("pages", PAGES as i64),
        ("hanging_pages", HANGING_PAGES as i64),
        ("hanging_addr", hanging.start as i64),
    ];
    act.tell(&truth);
    act.hear("release");
    let still = RETURNED.load(Ordering::Relaxed) == i64::MIN;
    userfault.release(hanging);
    crew.finish();
    hanging.write();
    let returned = RETURNED.load(Ordering::Relaxed);
    act.report(&[("was_hanging", i64::from(still)), ("ret", returned)]);
}
