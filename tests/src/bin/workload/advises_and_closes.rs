//! Advises on a child's memory by a pidfd that nobody can look at afterwards.

use memtrace_tests::area::{Area, last_errno};
use memtrace_tests::processes::{Pipe, fork, reap};
use memtrace_tests::scene::{Scene, exit, fail};

const PAGES: usize = 64;
const ROUNDS: usize = 20;

pub fn main() {
    let area = Area::map(PAGES);
    let end = Pipe::new();
    let act = Scene::open().ready();
    area.write();
    let child = fork();
    if child == 0 {
        end.wait();
        exit(0);
    }
    for _ in 0..ROUNDS {
        let advised = advise(child, area);
        if advised != area.bytes() as i64 {
            fail("process_madvise on the child");
        }
    }
    end.signal();
    reap(child);
    act.report(&[
        ("bytes", area.bytes() as i64),
        ("rounds", ROUNDS as i64),
        ("child_pid", i64::from(child)),
    ]);
}

/// What process_madvise returns, by a pidfd that is closed right afterwards; a negative errno on failure.
fn advise(pid: i32, area: Area) -> i64 {
    let range = libc::iovec {
        iov_base: area.start as *mut _,
        iov_len: area.bytes(),
    };
    // SAFETY: the calls take integers and one range; MADV_COLD changes no content.
    unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, pid, 0);
        if fd < 0 {
            return -last_errno();
        }
        let advised = libc::syscall(
            libc::SYS_process_madvise,
            fd,
            &raw const range,
            1,
            libc::MADV_COLD,
            0,
        );
        let advised = if advised < 0 { -last_errno() } else { advised };
        libc::close(fd as i32);
        advised
    }
}
