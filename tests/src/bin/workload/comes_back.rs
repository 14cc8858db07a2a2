//! Frees pages lazily, and writes to a part of them again when it is told to.
//!
//! `comes_back PAGES BACK`

use memtrace_tests::area::{Area, stay_on_this_cpu};
use memtrace_tests::scene::{Scene, number_argument};

pub fn main() {
    let scene = Scene::open();
    stay_on_this_cpu();
    let [pages, back] = [2, 3].map(|index| number_argument(index).unwrap_or(1));
    let mut act = scene.ready();
    let area = Area::map(pages);
    area.write();
    area.give_back(libc::MADV_FREE);
    act.tell(&[("present", area.residence().present as i64)]);
    act.hear("back");
    let before = (area.residence().present as i64, act.faults() as i64);
    area.part(0, back).write();
    let faults = act.faults() as i64 - before.1;
    act.report(&[
        ("present_before", before.0),
        ("present", area.residence().present as i64),
        ("faults", faults),
    ]);
}
