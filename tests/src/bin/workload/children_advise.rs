//! Has three children map, touch and give back memory, each another amount, as it does itself.

use memtrace_tests::area::Area;
use memtrace_tests::processes::{fork, reap};
use memtrace_tests::scene::{Scene, exit};

const PAGES: [usize; 4] = [16, 32, 64, 128];

pub fn main() {
    let act = Scene::open().ready();
    let [own, first, second, third] = PAGES;
    let children = [first, second, third].map(|pages| {
        let child = fork();
        if child == 0 {
            advise(pages);
            exit(0);
        }
        child
    });
    advise(own);
    for child in children {
        reap(child);
    }
    act.report(&[
        ("pages", own as i64),
        ("first", i64::from(children[0])),
        ("first_pages", first as i64),
        ("second", i64::from(children[1])),
        ("second_pages", second as i64),
        ("third", i64::from(children[2])),
        ("third_pages", third as i64),
    ]);
}

/// Gives all of it back at once, and half of what came again lazily.
fn advise(pages: usize) {
    let area = Area::map(pages);
    area.write();
    area.give_back(libc::MADV_DONTNEED);
    area.write();
    area.part(0, pages / 2).give_back(libc::MADV_FREE);
}
