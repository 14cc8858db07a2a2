//! Fills as many pages as it is told, so that the machine runs short of memory, and holds them.
//!
//! `fills PAGES`

use memtrace_tests::area::Area;
use memtrace_tests::scene::{Scene, number_argument};

pub fn main() {
    let scene = Scene::open();
    let pages = number_argument(2).unwrap_or(1);
    let act = scene.ready();
    Area::map(pages).write();
    act.report(&[("pages", pages as i64)]);
}
