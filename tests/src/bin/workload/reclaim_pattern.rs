//! Fills memory with a pattern, frees a part lazily, writes some of that again, and checks every byte while threads go on writing.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use memtrace_tests::area::{Area, page_bytes, stay_on_this_cpu};
use memtrace_tests::scene::{Scene, fail};
use memtrace_tests::smaps::Memory;

const PAGES: usize = 16 * 1024;
/// Of every so many pages the first is left to the writers.
const GROUP: usize = 8;
/// From here on nothing is given back.
const KEPT_FROM: usize = 12 * 1024;

/// What becomes of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Not given back.
    Kept,
    /// Not given back, and written to all the time.
    KeptWritten,
    /// Freed lazily, and not touched since.
    Freed,
    /// Freed lazily, then filled again.
    Rewritten,
    /// Freed lazily, then written to all the time.
    FreedWritten,
}

fn fate(page: usize) -> Fate {
    match (page >= KEPT_FROM, page % GROUP) {
        (true, 0) => Fate::KeptWritten,
        (true, _) => Fate::Kept,
        (false, 0) => Fate::FreedWritten,
        (false, 1) => Fate::Rewritten,
        (false, _) => Fate::Freed,
    }
}

/// The pages of the two writers.
const WRITTEN: [Fate; 2] = [Fate::KeptWritten, Fate::FreedWritten];

fn pages(wanted: Fate) -> impl Iterator<Item = usize> {
    (0..PAGES).filter(move |&page| fate(page) == wanted)
}

/// The word at an index of a page, of one generation of content.
fn word(page: usize, index: usize, generation: u64) -> u64 {
    let seed = (page * 512 + index) as u64 ^ generation << 40;
    seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1
}

fn at(area: Area, page: usize) -> *mut u64 {
    (area.start + page * page_bytes()) as *mut u64
}

fn words() -> usize {
    page_bytes() / 8
}

fn fill(area: Area, page: usize, generation: u64) {
    for index in 0..words() {
        // SAFETY: inside the area, which lasts as long as the process, and one thread's own page.
        unsafe {
            at(area, page)
                .add(index)
                .write_volatile(word(page, index, generation));
        }
    }
}

/// How many words of a page are not as they were filled.
fn wrong(area: Area, page: usize, generation: u64) -> i64 {
    let differs = |index: usize| {
        // SAFETY: as in fill.
        let found = unsafe { at(area, page).add(index).read_volatile() };
        found != word(page, index, generation)
    };
    (0..words()).filter(|&index| differs(index)).count() as i64
}

/// As [`wrong`], for a page that may as well have been taken: then all of it reads zero.
fn neither_old_nor_zero(area: Area, page: usize) -> i64 {
    // SAFETY: as in fill.
    let first = unsafe { at(area, page).read_volatile() };
    if first != 0 {
        return wrong(area, page, 0);
    }
    // SAFETY: as in fill.
    let zero = |&index: &usize| unsafe { at(area, page).add(index).read_volatile() } == 0;
    (words() - (0..words()).filter(zero).count()) as i64
}

/// Writes to the pages of two fates again and again, until told to stop. Each round writes a new
/// generation and first looks whether the last one is still there.
struct Writers {
    stop: Arc<AtomicBool>,
    /// Pages written so far, by all of them.
    written: Arc<AtomicU64>,
    begun: Arc<Barrier>,
    threads: Vec<thread::JoinHandle<(u64, i64)>>,
}

impl Writers {
    /// They exist now, and write from [`Writers::begin`] on.
    fn hire(area: Area) -> Self {
        let (stop, written) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let begun = Arc::new(Barrier::new(3));
        let begin = |wanted: Fate| {
            let (stop, written, begun) = (stop.clone(), written.clone(), begun.clone());
            thread::spawn(move || {
                begun.wait();
                let (mut generation, mut lost) = (0, 0);
                while !stop.load(Ordering::Relaxed) {
                    for page in pages(wanted) {
                        // The first round finds the old content, or none where it was freed.
                        if generation > 0 {
                            lost += wrong(area, page, generation);
                        }
                        fill(area, page, generation + 1);
                        written.fetch_add(1, Ordering::Relaxed);
                    }
                    generation += 1;
                }
                (generation, lost)
            })
        };
        let threads = WRITTEN.map(begin).into();
        Self {
            stop,
            written,
            begun,
            threads,
        }
    }

    fn begin(&self) {
        self.begun.wait();
    }

    fn written(&self) -> i64 {
        self.written.load(Ordering::Relaxed) as i64
    }

    /// Waits until as many pages have been written again as there are for them.
    fn wait(&self) {
        let all: usize = WRITTEN.map(|wanted| pages(wanted).count()).iter().sum();
        let target = self.written() + all as i64;
        while self.written() < target {
            thread::yield_now();
        }
    }

    /// Stops them: how many words were ever lost, the last round's included.
    fn end(self, area: Area) -> i64 {
        self.stop.store(true, Ordering::Relaxed);
        let mut lost = 0;
        for (thread, wanted) in self.threads.into_iter().zip(WRITTEN) {
            let Ok((generation, seen)) = thread.join() else {
                fail("a writer panicked");
            };
            lost += seen;
            lost += pages(wanted)
                .map(|page| wrong(area, page, generation))
                .sum::<i64>();
        }
        lost
    }
}

/// Reports what it freed while the writers write, and what each byte was after `check`.
pub fn main() {
    let scene = Scene::open();
    let area = Area::map(PAGES);
    // Hired before this thread stays on its CPU, so that they run on any.
    let writers = Writers::hire(area);
    // Pages that were freed and are in another CPU's batch would not be taken.
    stay_on_this_cpu();
    for page in 0..PAGES {
        fill(area, page, 0);
    }
    area.part(0, KEPT_FROM).give_back(libc::MADV_FREE);
    for page in 0..KEPT_FROM {
        if matches!(fate(page), Fate::Rewritten | Fate::FreedWritten) {
            fill(area, page, 1);
        }
    }
    let mut act = scene.ready();

    writers.begin();
    writers.wait();
    let memory = Memory::of(std::process::id());
    let freed = pages(Fate::Freed).count();
    let before = writers.written();
    act.tell(&[
        ("addr", area.start as i64),
        ("len_bytes", area.bytes() as i64),
        ("freed_bytes", (freed * page_bytes()) as i64),
        ("rss_bytes", memory.rss_bytes as i64),
        ("lazyfree_bytes", memory.lazyfree_bytes as i64),
    ]);

    act.hear("check");
    let meanwhile = writers.written() - before;
    // They look at what they wrote before, too.
    writers.wait();
    let present = area.residence().present;
    let written_wrong = writers.end(area);
    let sum = |wanted: Fate, count: &dyn Fn(usize) -> i64| pages(wanted).map(count).sum::<i64>();
    act.report(&[
        ("written_meanwhile", meanwhile),
        ("written_wrong", written_wrong),
        ("kept_wrong", sum(Fate::Kept, &|page| wrong(area, page, 0))),
        (
            "rewritten_wrong",
            sum(Fate::Rewritten, &|page| wrong(area, page, 1)),
        ),
        (
            "freed_wrong",
            sum(Fate::Freed, &|page| neither_old_nor_zero(area, page)),
        ),
        ("gone_pages", (PAGES - present) as i64),
    ]);
}
