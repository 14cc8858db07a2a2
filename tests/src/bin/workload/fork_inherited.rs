//! Gives pages back and forks: parent and child each touch them, and each has its own refaults.

use memtrace_tests::area::Area;
use memtrace_tests::processes::{Pipe, fork, reap};
use memtrace_tests::scene::{Scene, exit};

const PAGES: usize = 64;

pub fn main() {
    let act = Scene::open().ready();
    let area = Area::map(PAGES);
    area.write();
    area.give_back(libc::MADV_DONTNEED);
    let turn = Pipe::new();
    let child = fork();
    if child == 0 {
        turn.wait();
        area.write();
        exit(0);
    }
    area.write();
    turn.signal();
    let faults = reap(child).faults;
    act.report(&[
        ("pages", PAGES as i64),
        ("child_pid", i64::from(child)),
        ("child_minflt", faults.minor as i64),
        ("child_majflt", faults.major as i64),
    ]);
}
