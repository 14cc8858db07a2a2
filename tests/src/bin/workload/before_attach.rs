//! Maps everything before it is traced: some touched, some not, some given back only then.

use memtrace_tests::area::Area;
use memtrace_tests::scene::Scene;

const PAGES: usize = 64;

pub fn main() {
    let scene = Scene::open();
    let dropped = Area::map(PAGES);
    let freed = Area::map(PAGES);
    let kept = Area::map(PAGES);
    let untouched = Area::map(PAGES);
    for area in [dropped, freed, kept] {
        area.write();
    }
    let act = scene.ready();

    dropped.give_back(libc::MADV_DONTNEED);
    freed.give_back(libc::MADV_FREE);
    for area in [dropped, freed, kept, untouched] {
        area.write();
    }
    act.report(&[("pages", PAGES as i64)]);
}
