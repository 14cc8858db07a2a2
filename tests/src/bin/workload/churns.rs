//! Gives the same memory back and touches it again in every step.
//!
//! `churns STEPS PAGES ROUNDS [huge]`

use memtrace_tests::area::Area;
use memtrace_tests::scene::{Scene, number_argument};

const HUGE_BYTES: usize = 2 << 20;

pub fn main() {
    let huge = std::env::args().any(|arg| arg == "huge");
    let scene = if huge {
        Scene::open_with_huge_pages()
    } else {
        Scene::open()
    };
    let [steps, pages, rounds] = [2, 3, 4].map(|index| number_argument(index).unwrap_or(1));
    let mut act = scene.ready();
    let area = if huge {
        let area = Area::map_aligned(pages, HUGE_BYTES);
        area.give_back(libc::MADV_HUGEPAGE);
        area
    } else {
        Area::map(pages)
    };
    area.write();
    act.tell(&[("step", 0)]);
    for step in 1..=steps {
        act.hear("step");
        for _ in 0..rounds {
            area.give_back(libc::MADV_DONTNEED);
            area.write();
        }
        act.tell(&[("step", step as i64)]);
    }
    act.hear("end");
}
