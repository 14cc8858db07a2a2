//! Reads a byte of a mapped file, by which the kernel maps the pages around it, and gives them back; then reads one of these.
//!
//! `fault_around PATH SKIPPED PAGES`: a mapping of PAGES that begins SKIPPED pages after a multiple of 2 MiB

use std::fs::{self, File};
use std::os::fd::IntoRawFd;

use memtrace_tests::area::{Area, page_bytes};
use memtrace_tests::scene::{Scene, fail, number_argument};

/// What a page table covers, since the kernel maps none beyond its end (mm/memory.c:do_fault_around).
const ALIGN_BYTES: usize = 2 << 20;
const ROUNDS: usize = 20;
/// The page that is read again.
const AGAIN: usize = 5;

pub fn main() {
    let scene = Scene::open();
    let path = std::env::args()
        .nth(2)
        .unwrap_or_else(|| fail("a path is needed"));
    let [skipped, pages] = [3, 4].map(|index| number_argument(index).unwrap_or(16));
    fs::write(&path, vec![7; pages * page_bytes()]).unwrap_or_else(|_| fail("write"));
    let file = File::open(path).unwrap_or_else(|_| fail("open"));
    // Pages that are being written back are locked, and left out (mm/filemap.c:next_uptodate_folio).
    file.sync_all().unwrap_or_else(|_| fail("fsync"));
    let file = file.into_raw_fd();
    let mut act = scene.ready();
    let room = Area::map_aligned(skipped + pages, ALIGN_BYTES);
    let place = room.part(skipped, skipped + pages).start;
    let (mut released, mut first, mut again, mut unmapped) = (0, 0, 0, 0);
    for _ in 0..ROUNDS {
        let flags = libc::MAP_PRIVATE | libc::MAP_FIXED;
        let area = Area::map_at(place, pages, libc::PROT_READ, flags, file);
        let begun = act.faults();
        area.part(0, 1).read();
        first += act.faults() - begun;
        released += area.released_by(libc::MADV_DONTNEED);
        let begun = act.faults();
        area.part(AGAIN, AGAIN + 1).read();
        again += act.faults() - begun;
        unmapped += area.residence().present * page_bytes();
        area.unmap();
    }
    act.report(&[
        ("rounds", ROUNDS as i64),
        ("released_bytes", released as i64),
        ("unmapped_bytes", unmapped as i64),
        ("first_faults", first as i64),
        ("again_faults", again as i64),
    ]);
}
