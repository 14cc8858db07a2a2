//! Gives the same memory back and touches it again in every step.
//!
//! `churns STEPS PAGES ROUNDS`

use memtrace_tests::area::Area;
use memtrace_tests::scene::{Scene, number_argument};

pub fn main() {
    let scene = Scene::open();
    let [steps, pages, rounds] = [2, 3, 4].map(|index| number_argument(index).unwrap_or(1));
    let mut act = scene.ready();
    let area = Area::map(pages);
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
