//! Calls process_madvise in ways that the kernel refuses before it comes to any memory.

use std::ptr;

use memtrace_tests::area::{Area, last_errno};
use memtrace_tests::processes::{fork, reap};
use memtrace_tests::scene::{Scene, exit, fail};

const PAGES: usize = 64;
const UIO_MAXIOV: usize = 1024;

pub fn main() {
    let area = Area::map(PAGES);
    area.write();
    let range = libc::iovec {
        iov_base: area.start as *mut _,
        iov_len: area.bytes(),
    };
    let good = (&raw const range).addr();
    let child = fork();
    if child == 0 {
        exit(0);
    }
    let [own, dead] = [std::process::id() as i32, child].map(pidfd);
    reap(child);
    let act = Scene::open().ready();

    let (stdin, closed, negative) = (0, 1000, -7);
    // Descriptor, ranges, number of ranges, flags, and the error that must come.
    let refused = [
        (negative, good, 1, 0, libc::EBADF),
        (closed, good, 1, 0, libc::EBADF),
        (i32::MAX, good, 1, 0, libc::EBADF),
        (stdin, good, 1, 0, libc::EBADF),
        (dead, good, 1, 0, libc::ESRCH),
        (closed, good, 1, 1, libc::EINVAL),
        (own, good, 1, 1 << 31, libc::EINVAL),
        (negative, good, UIO_MAXIOV + 1, 0, libc::EINVAL),
        (closed, 16, 1, 0, libc::EFAULT),
        (negative, 16, 2, 0, libc::EFAULT),
    ];
    for (fd, ranges, count, flags, errno) in refused {
        // SAFETY: nothing is advised, since the kernel refuses each.
        let ret = unsafe {
            libc::syscall(
                libc::SYS_process_madvise,
                fd,
                ptr::without_provenance::<libc::iovec>(ranges),
                count,
                libc::MADV_COLD,
                flags,
            )
        };
        if ret != -1 || last_errno() != i64::from(errno) {
            fail("a call was not refused as it should be");
        }
    }
    // What is known of the pages must not have suffered.
    area.give_back(libc::MADV_DONTNEED);
    area.write();
    act.report(&[("pages", PAGES as i64), ("refused", refused.len() as i64)]);
}

fn pidfd(pid: i32) -> i32 {
    // SAFETY: the call takes and returns plain integers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        fail("pidfd_open");
    }
    fd as i32
}
