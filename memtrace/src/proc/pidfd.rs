//! Which process a pidfd held by another process stands for.

use super::read_bounded;

/// The values that stand for the caller itself instead of a descriptor (include/uapi/linux/pidfd.h, Linux 6.14).
const PIDFD_SELF_THREAD: i32 = -10000;
const PIDFD_SELF_THREAD_GROUP: i32 = -10001;

/// The process whose pidfd `fd` is in the process `pid`, in the namespace of this /proc.
///
/// `None` when it has ended, is not visible from here, or the descriptor was closed or reused for
/// something else meanwhile.
pub fn pidfd_target(pid: u32, fd: i32) -> Option<u32> {
    if matches!(fd, PIDFD_SELF_THREAD | PIDFD_SELF_THREAD_GROUP) {
        return Some(pid);
    }
    if fd < 0 {
        return None;
    }
    parse(&read_bounded(format!("/proc/{pid}/fdinfo/{fd}"), 64 * 1024).ok()?)
}

/// The pid in the text of a pidfd's fdinfo (kernel/fork.c, later fs/pidfs.c: pidfd_show_fdinfo).
///
/// It is -1 once the process is dead and 0 when it is in no namespace that this /proc shows.
pub fn parse(text: &[u8]) -> Option<u32> {
    text.split(|&b| b == b'\n').find_map(|line| {
        let value = std::str::from_utf8(line.strip_prefix(b"Pid:")?).ok()?;
        value.trim().parse().ok().filter(|&pid| pid != 0)
    })
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_a_living_visible_process_is_named() {
        assert_eq!(
            parse(b"pos:\t0\nflags:\t02000002\nmnt_id:\t15\nPid:\t77\nNSpid:\t77\n"),
            Some(77)
        );
        assert_eq!(parse(b"pos:\t0\nPid:\t-1\nNSpid:\t-1\n"), None);
        assert_eq!(parse(b"pos:\t0\nPid:\t0\n"), None);
        assert_eq!(parse(b"pos:\t0\nflags:\t0100002\n"), None);
    }

    #[test]
    fn the_values_for_the_caller_itself_need_no_descriptor() {
        assert_eq!(pidfd_target(42, -10000), Some(42));
        assert_eq!(pidfd_target(42, -10001), Some(42));
        assert_eq!(pidfd_target(42, -1), None);
    }

    #[test]
    fn a_real_pidfd_names_its_process() {
        let own = std::process::id();
        // SAFETY: pidfd_open takes two integers and gives a new descriptor or -1.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, own, 0) };
        let fd = i32::try_from(fd).unwrap();
        assert!(fd >= 0);
        // SAFETY: the descriptor is new and nobody else's.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        assert_eq!(pidfd_target(own, fd.as_raw_fd()), Some(own));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            parse(&bytes);
        }
    }
}
