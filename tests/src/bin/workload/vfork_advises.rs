//! Lets a child that shares the address space give the parent's pages back: all of it belongs to one memory.

use memtrace_tests::area::Area;
use memtrace_tests::processes::reap;
use memtrace_tests::scene::{Scene, exit, must};

const PAGES: usize = 64;
/// Touched again by the child, the others by the parent.
const BY_CHILD: usize = 16;
const STACK_PAGES: usize = 16;

pub fn main() {
    let stack = Area::map(STACK_PAGES);
    stack.write();
    let area = Area::map(PAGES);
    area.write();
    let act = Scene::open().ready();

    let top = stack.start + stack.bytes();
    // SAFETY: the stack is ours, populated and large enough; the parent waits (CLONE_VFORK) while
    // the child runs, and the child leaves by _exit.
    let child = unsafe {
        libc::clone(
            in_child,
            top as *mut _,
            libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD,
            (&raw const area).cast_mut().cast(),
        )
    };
    must(child, "clone");
    area.write();
    let faults = reap(child).faults;
    act.report(&[
        ("pages", PAGES as i64),
        ("by_child", BY_CHILD as i64),
        ("child_pid", i64::from(child)),
        ("child_minflt", faults.minor as i64),
        ("child_majflt", faults.major as i64),
    ]);
}

extern "C" fn in_child(area: *mut libc::c_void) -> i32 {
    // SAFETY: the parent passes its area and waits.
    let area = unsafe { *area.cast::<Area>() };
    area.give_back(libc::MADV_DONTNEED);
    area.part(0, BY_CHILD).write();
    exit(0)
}
