//! Two processes on one address space since before `go`: a parent, and a child made by CLONE_VM alone.
//!
//! `sharers TRACED CHILD`: which of the two is named as the one to trace, `parent` or `child`; and
//! whether the child then `exits` or `execs`, or is the first in a pid namespace of its own
//! (`inside`), and lives until `end`.

use memtrace_tests::area::Area;
use memtrace_tests::processes::{Pipe, reap};
use memtrace_tests::scene::{Scene, exit, fail, must};

const PAGES: usize = 64;
/// Touched again by the child, the others by the parent.
const BY_CHILD: usize = 16;
const STACK_PAGES: usize = 16;

struct Shared {
    area: Area,
    begin: Pipe,
    done: Pipe,
    end: Pipe,
    execs: bool,
}

pub fn main() {
    let words: Vec<String> = std::env::args().skip(2).collect();
    let [traced, child_does] = &words[..] else {
        fail("two arguments are missing");
    };
    let stack = Area::map(STACK_PAGES);
    stack.write();
    let area = Area::map(PAGES);
    area.write();
    let shared = Shared {
        area,
        begin: Pipe::new(),
        done: Pipe::new(),
        end: Pipe::new(),
        execs: child_does == "execs",
    };
    let scene = Scene::open();
    let top = stack.start + stack.bytes();
    let namespace = if child_does == "inside" {
        libc::CLONE_NEWPID
    } else {
        0
    };
    // SAFETY: the stack is ours, populated and large enough, and both processes take turns: what one
    // has of the C library's state the other does not touch meanwhile.
    let child = unsafe {
        libc::clone(
            in_child,
            top as *mut _,
            libc::CLONE_VM | namespace | libc::SIGCHLD,
            (&raw const shared).cast_mut().cast(),
        )
    };
    must(child, "clone");
    let mut act = match &**traced {
        "child" => scene.ready_as(child as u32),
        _ => scene.ready(),
    };
    shared.begin.signal();
    shared.done.wait();
    area.write();
    let truth = [
        ("pages", PAGES as i64),
        ("by_child", BY_CHILD as i64),
        ("child_pid", i64::from(child)),
        ("parent_pid", i64::from(std::process::id())),
    ];
    if namespace == 0 {
        shared.end.signal();
        reap(child);
        act.report(&truth);
    }
    // With the first process of a namespace all others in it end.
    act.tell(&truth);
    act.hear("end");
    shared.end.signal();
    reap(child);
    exit(0)
}

extern "C" fn in_child(shared: *mut libc::c_void) -> i32 {
    // SAFETY: the parent keeps it until the child has ended.
    let shared = unsafe { &*shared.cast::<Shared>() };
    // SAFETY: plain integers; a test that fails must not leave it behind.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    shared.begin.wait();
    shared.area.give_back(libc::MADV_DONTNEED);
    shared.area.part(0, BY_CHILD).write();
    shared.done.signal();
    shared.end.wait();
    if shared.execs {
        // SAFETY: the strings and the array end as they must.
        unsafe {
            libc::execv(
                c"/bin/true".as_ptr(),
                [c"true".as_ptr(), std::ptr::null()].as_ptr(),
            )
        };
        fail("execv");
    }
    exit(0)
}
