//! Frees a range that is anonymous, then a file, then anonymous: the kernel stops at the file with EINVAL.

use memtrace_tests::area::{Area, OwnPidfd, page_bytes, stay_on_this_cpu};
use memtrace_tests::scene::{Scene, must};

const PART: usize = 64;

pub fn main() {
    let scene = Scene::open();
    stay_on_this_cpu();
    let pidfd = OwnPidfd::open();
    // SAFETY: the name is a C string, and the new file is ours alone.
    let file = unsafe {
        let file = libc::memfd_create(c"middle".as_ptr(), 0);
        must(file, "memfd_create");
        must(
            libc::ftruncate(file, (PART * page_bytes()) as i64),
            "ftruncate",
        );
        file
    };
    let act = scene.ready();

    let area = Area::map(3 * PART);
    let middle = Area::map_at(
        area.part(PART, 2 * PART).start,
        PART,
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_SHARED | libc::MAP_FIXED,
        file,
    );
    let (first, last) = (area.part(0, PART), area.part(2 * PART, 3 * PART));
    first.write();
    last.write();
    let answer = area.advise(libc::MADV_FREE);
    pidfd.page_out(&[first, last]);
    let (left_first, left_last) = (first.residence(), last.residence());
    first.write();
    last.write();
    act.report(&[
        ("part_pages", PART as i64),
        ("middle", middle.start as i64),
        ("ret", answer),
        (
            "taken_first",
            (PART - left_first.present - left_first.swapped) as i64,
        ),
        (
            "taken_last",
            (PART - left_last.present - left_last.swapped) as i64,
        ),
        ("swapped", (left_first.swapped + left_last.swapped) as i64),
    ]);
}
