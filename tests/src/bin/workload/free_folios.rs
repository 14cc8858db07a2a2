//! Touches a page of each folio, frees all of them lazily and has the kernel take them, over and over.
//!
//! `free_folios KILOBYTES`: of a folio. They are first taken when `take` is said.

use memtrace_tests::area::{Area, page_bytes, stay_on_this_cpu};
use memtrace_tests::scene::{Scene, number_argument};

const BYTES: usize = 8 << 20;
const ROUNDS: usize = 4;
const HUGE_BYTES: usize = 2 << 20;

pub fn main() {
    let scene = Scene::open_with_huge_pages();
    stay_on_this_cpu();
    let step = number_argument(2).unwrap_or(4) * 1024 / page_bytes();
    let mut act = scene.ready();
    // Each time elsewhere: where the kernel has split a folio before it took it, a page table is left, and no
    // huge page has room.
    let areas: [Area; ROUNDS] = std::array::from_fn(|_| {
        let area = Area::map_aligned(BYTES / page_bytes(), HUGE_BYTES);
        area.give_back(libc::MADV_HUGEPAGE);
        area
    });
    let free = |area: &Area| {
        area.write_every(step);
        let present = area.residence().present * page_bytes();
        area.give_back(libc::MADV_FREE);
        present
    };
    let [first, others @ ..] = &areas;
    let mut freed = free(first);
    act.tell(&[]);
    act.hear("take");
    let mut taken = first.released_by(libc::MADV_PAGEOUT);
    for area in others {
        freed += free(area);
        taken += area.released_by(libc::MADV_PAGEOUT);
    }
    act.report(&[
        ("touched", (ROUNDS * first.pages.div_ceil(step)) as i64),
        ("freed_bytes", freed as i64),
        ("taken_bytes", taken as i64),
    ]);
}
