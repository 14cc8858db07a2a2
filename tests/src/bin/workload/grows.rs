//! Takes more memory step by step, for all of the steps or the first of them, and gives none back but what it frees lazily at first.
//!
//! `grows STEPS GROWING PAGES [LAZY_PAGES]`: each of the first GROWING steps touches PAGES new pages.

use memtrace_tests::area::{Area, stay_on_this_cpu};
use memtrace_tests::scene::{Scene, number_argument};

pub fn main() {
    let scene = Scene::open();
    stay_on_this_cpu();
    let [steps, growing, pages] = [2, 3, 4].map(|index| number_argument(index).unwrap_or(0));
    let lazy_pages = number_argument(5).unwrap_or(0);
    let mut act = scene.ready();
    if lazy_pages > 0 {
        let lazy = Area::map(lazy_pages);
        lazy.write();
        lazy.give_back(libc::MADV_FREE);
    }
    act.tell(&[("step", 0)]);
    for step in 1..=steps {
        act.hear("step");
        if step <= growing {
            Area::map(pages).write();
        }
        act.tell(&[("step", step as i64)]);
    }
    act.hear("end");
}
