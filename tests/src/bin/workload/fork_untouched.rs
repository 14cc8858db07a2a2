//! Has a child give back memory of which the fork handed it no page, or none but the zero page.
//!
//! `fork_untouched read|shared|mixed`: the parent only read it; wrote to it, and it is shared; read it and wrote to its first page.

use memtrace_tests::area::Area;
use memtrace_tests::processes::{fork, reap};
use memtrace_tests::scene::{Scene, exit, fail};

const PAGES: usize = 128;

pub fn main() {
    let how = std::env::args().nth(2).unwrap_or_default();
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    let shared = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
    let told = Area::map_with(1, prot, shared, -1).start as *mut [usize; 2];
    let act = Scene::open().ready();
    // With room around it: joined with a neighbour it would be handed on as that is.
    let room = Area::map(PAGES + 2);
    room.unmap();
    let place = room.part(1, PAGES + 1);
    let area = match how.as_str() {
        "shared" => Area::map_at(place.start, PAGES, prot, shared | libc::MAP_FIXED, -1),
        _ => place.map_again(),
    };
    match how.as_str() {
        "shared" => area.write(),
        "mixed" => {
            area.read();
            area.part(0, 1).write();
        }
        _ => area.read(),
    }
    let child = fork();
    if child == 0 {
        let inherited = area.residence().present;
        if how != "shared" {
            area.write();
        }
        let released = area.released_by(libc::MADV_DONTNEED);
        // SAFETY: the page is shared, and the parent reads it once the child has ended.
        unsafe { told.write_volatile([inherited, released]) };
        exit(0);
    }
    if reap(child).status != 0 {
        fail("the child failed");
    }
    // SAFETY: as above.
    let [inherited, released] = unsafe { told.read_volatile() };
    act.report(&[
        ("pages", PAGES as i64),
        ("child_pid", i64::from(child)),
        ("inherited", inherited as i64),
        ("released_bytes", released as i64),
    ]);
}
