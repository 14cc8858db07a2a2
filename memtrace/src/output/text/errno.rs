//! Why a call failed: the errno by name, in words that fit the call.

use crate::ledger::event::Op;

// Results that restart a call after a signal; no program sees them (include/linux/errno.h).
const ERESTARTSYS: i32 = 512;
const ERESTARTNOINTR: i32 = 513;
const ERESTARTNOHAND: i32 = 514;
const ERESTART_RESTARTBLOCK: i32 = 516;

/// A failure, as in `ENOMEM: not all of the range is mapped, or no memory`.
pub(super) fn explain(op: &Op, errno: i32) -> String {
    match name(errno) {
        Some(name) => format!("{name}: {}", words(op, errno)),
        None => format!("failed with an error without a name (errno {errno})"),
    }
}

/// The name of each errno that these calls return (mm/madvise.c, mmap.c, mremap.c, and what a
/// file's mmap may return).
fn name(errno: i32) -> Option<&'static str> {
    Some(match errno {
        libc::EPERM => "EPERM",
        libc::ENOENT => "ENOENT",
        libc::ESRCH => "ESRCH",
        libc::EINTR => "EINTR",
        libc::EIO => "EIO",
        libc::ENXIO => "ENXIO",
        libc::EBADF => "EBADF",
        libc::EAGAIN => "EAGAIN",
        libc::ENOMEM => "ENOMEM",
        libc::EACCES => "EACCES",
        libc::EFAULT => "EFAULT",
        libc::EBUSY => "EBUSY",
        libc::EEXIST => "EEXIST",
        libc::ENODEV => "ENODEV",
        libc::EINVAL => "EINVAL",
        libc::ENFILE => "ENFILE",
        libc::ETXTBSY => "ETXTBSY",
        libc::ENOSPC => "ENOSPC",
        libc::ENOSYS => "ENOSYS",
        libc::EOVERFLOW => "EOVERFLOW",
        libc::EOPNOTSUPP => "EOPNOTSUPP",
        libc::EHWPOISON => "EHWPOISON",
        ERESTARTSYS => "ERESTARTSYS",
        ERESTARTNOINTR => "ERESTARTNOINTR",
        ERESTARTNOHAND => "ERESTARTNOHAND",
        ERESTART_RESTARTBLOCK => "ERESTART_RESTARTBLOCK",
        _ => return None,
    })
}

fn words(op: &Op, errno: i32) -> &'static str {
    let advice = matches!(op, Op::Madvise { .. } | Op::ProcessMadvise { .. });
    match errno {
        libc::ENOMEM if advice => "not all of the range is mapped, or no memory",
        libc::ENOMEM => "no memory, address space or room for a mapping",
        libc::EINVAL if advice => "this mapping does not take this advice, or a wrong argument",
        libc::EINVAL => "a wrong argument",
        libc::EPERM => "not permitted",
        libc::ENOENT => "no such thing",
        libc::ESRCH => "the process is gone",
        libc::EINTR => "interrupted by a signal",
        libc::EIO => "the file could not be read",
        libc::ENXIO => "the file has nothing there",
        libc::EBADF if matches!(op, Op::ProcessMadvise { range: None, .. }) => "no pidfd",
        libc::EBADF if advice => "the mapping is not of a file that takes this advice",
        libc::EBADF => "the file descriptor is not open",
        libc::EAGAIN if advice => "not possible right now",
        libc::EAGAIN => "too much memory is locked",
        libc::EACCES => "access is denied",
        libc::EFAULT if advice => "the pages could not be populated",
        libc::EFAULT => "the range is not mapped",
        libc::EBUSY => "the pages are busy",
        libc::EEXIST => "something is mapped there",
        libc::ENODEV => "the file cannot be mapped",
        libc::ENFILE => "too many open files",
        libc::ETXTBSY => "the file is being run",
        libc::ENOSPC => "no space left",
        libc::ENOSYS => "the kernel does not have it",
        libc::EOVERFLOW => "the file's pages would overflow",
        libc::EOPNOTSUPP => "not supported",
        libc::EHWPOISON => "the memory is broken",
        _ => "a signal came; the call starts again",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::advice::Advice;

    const MADVISE: Op = Op::Madvise {
        advice: Advice::FREE,
        addr: 0,
        len: 0,
    };
    const MUNMAP: Op = Op::Munmap { addr: 0, len: 0 };

    #[test]
    fn failures_are_named_and_put_in_words() {
        for (op, errno, text) in [
            (
                MADVISE,
                12,
                "ENOMEM: not all of the range is mapped, or no memory",
            ),
            (
                MUNMAP,
                12,
                "ENOMEM: no memory, address space or room for a mapping",
            ),
            (MUNMAP, 22, "EINVAL: a wrong argument"),
            (
                MADVISE,
                513,
                "ERESTARTNOINTR: a signal came; the call starts again",
            ),
            (MUNMAP, 40, "failed with an error without a name (errno 40)"),
        ] {
            assert_eq!(explain(&op, errno), text);
        }
    }

    #[test]
    fn only_restarts_share_the_words_of_restarts() {
        let restarts: Vec<i32> = (1..600)
            .filter(|errno| name(*errno).is_some())
            .filter(|errno| words(&MADVISE, *errno).contains("starts again"))
            .collect();
        assert_eq!(restarts, [512, 513, 514, 516]);
    }
}
