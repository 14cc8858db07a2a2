//! Runs another program many times over, by vfork and exec.

use memtrace_tests::processes::reap;
use memtrace_tests::scene::{Scene, exit, must};

const SPAWNS: usize = 60;

pub fn main() {
    let act = Scene::open().ready();
    for _ in 0..SPAWNS {
        let arguments = [c"true".as_ptr(), std::ptr::null()];
        // SAFETY: the child shares our memory and only execs, or leaves by _exit; we wait until then.
        #[expect(deprecated)]
        let child = unsafe { libc::vfork() };
        must(child, "vfork");
        if child == 0 {
            // SAFETY: the strings and the array end as they must.
            unsafe { libc::execv(c"/bin/true".as_ptr(), arguments.as_ptr()) };
            exit(1);
        }
        reap(child);
    }
    act.report(&[("spawns", SPAWNS as i64)]);
}
