//! Touches a page of one more huge page in each step, all of memory that it mapped and advised before it was traced.
//!
//! `huge_grows STEPS`

use memtrace_tests::area::{Area, page_bytes};
use memtrace_tests::scene::{Scene, number_argument};

const HUGE_BYTES: usize = 2 << 20;

pub fn main() {
    let steps = number_argument(2).unwrap_or(1);
    let scene = Scene::open_with_huge_pages();
    let huge = HUGE_BYTES / page_bytes();
    let area = Area::map_aligned(steps * huge, HUGE_BYTES);
    area.give_back(libc::MADV_HUGEPAGE);
    let mut act = scene.ready();
    act.tell(&[("step", 0)]);
    for step in 1..=steps {
        act.hear("step");
        area.part((step - 1) * huge, step * huge).write_every(huge);
        let bytes = area.residence().present * page_bytes();
        act.tell(&[("step", step as i64), ("bytes", bytes as i64)]);
    }
    act.hear("end");
}
