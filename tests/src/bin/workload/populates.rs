//! Populates more memory in every step, without a page fault.
//!
//! `populates STEPS PAGES`

use memtrace_tests::area::Area;
use memtrace_tests::scene::{Scene, number_argument};

const MADV_POPULATE_WRITE: i32 = 23;

pub fn main() {
    let scene = Scene::open();
    let [steps, pages] = [2, 3].map(|index| number_argument(index).unwrap_or(1));
    let mut act = scene.ready();
    act.tell(&[("step", 0)]);
    for step in 1..=steps {
        act.hear("step");
        Area::map(pages).give_back(MADV_POPULATE_WRITE);
        act.tell(&[("step", step as i64)]);
    }
    act.hear("end");
}
