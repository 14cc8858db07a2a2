//! A process held on to by a pidfd, so that whoever gets its pid is not taken for it.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// One process, whatever becomes of its pid.
#[derive(Debug)]
pub struct Handle(OwnedFd);

impl Handle {
    /// Holds on to whichever process has this pid now.
    ///
    /// # Errors
    /// Those of pidfd_open(2).
    pub fn open(pid: u32) -> io::Result<Self> {
        // SAFETY: pidfd_open takes two integers and gives a new descriptor or -1.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        match i32::try_from(fd).map_err(io::Error::other)? {
            ..0 => Err(io::Error::last_os_error()),
            // SAFETY: the descriptor is new and nobody else's.
            fd => Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) })),
        }
    }

    /// Whether the process lives: its pid is its own up to now.
    pub fn is_alive(&self) -> bool {
        // A pidfd becomes readable when its process ends (kernel/fork.c, later fs/pidfs.c: pidfd_poll).
        let mut poll = libc::pollfd {
            fd: self.0.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: the one entry is ours, and the call does not wait.
        unsafe { libc::poll(&mut poll, 1, 0) == 0 }
    }
}

impl AsRawFd for Handle {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_process_is_known_to_have_ended_while_its_pid_is_still_its_own() {
        let mut child = Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let handle = Handle::open(child.id()).unwrap();
        assert!(handle.is_alive());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!handle.is_alive());
        assert!(Handle::open(child.id()).is_err());
    }
}
