//! What the launched process does between fork and exec.
//!
//! It is a copy of one thread of a process with several: any lock may be held for ever by a
//! thread that is not there. So everything is prepared before the fork, and nothing in
//! [`Plan::run`] allocates, locks or panics.

use std::ffi::CString;
use std::io;
use std::os::fd::RawFd;

use super::user::User;
use crate::rights::Own;

/// How far the child has come. Sent as [`Report`]: ready once, then at most one failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Stage {
    Ready = 0,
    User = 1,
    Trace = 2,
    Exec = 3,
    Stderr = 4,
    Rights = 5,
}

/// What the child sends on its pipe: a stage, and the errno that it failed with.
pub(super) type Report = [u8; 8];

pub(super) fn report(stage: Stage, errno: i32) -> Report {
    let [a, b, c, d] = (stage as u32).to_ne_bytes();
    let [e, f, g, h] = errno.to_ne_bytes();
    [a, b, c, d, e, f, g, h]
}

pub(super) fn read_report([a, b, c, d, e, f, g, h]: Report) -> Option<(Stage, io::Error)> {
    let stage = match u32::from_ne_bytes([a, b, c, d]) {
        0 => Stage::Ready,
        1 => Stage::User,
        2 => Stage::Trace,
        3 => Stage::Exec,
        4 => Stage::Stderr,
        5 => Stage::Rights,
        _ => return None,
    };
    let errno = i32::from_ne_bytes([e, f, g, h]);
    Some((stage, io::Error::from_raw_os_error(errno)))
}

/// Everything the child needs, made before the fork.
pub(super) struct Plan {
    pub argv: Pointers,
    pub env: Pointers,
    pub user: Option<User>,
    /// What the child is to have, where memtrace has more than its user: the command is found and
    /// run with these, and so is --user refused.
    pub own: Option<Own>,
    /// Ours, to close: else the child would keep its own go pipe open, and our BPF programs alive.
    pub close: Vec<RawFd>,
    /// The child reads one byte from here before it goes on.
    pub go: RawFd,
    /// And writes its reports here. It closes at exec.
    pub report: RawFd,
    /// What its stderr is to be, if not ours.
    pub stderr: Option<RawFd>,
}

/// Strings as exec takes them: an array of pointers with a null at its end.
pub(super) struct Pointers {
    array: Vec<*const libc::c_char>,
    /// What the array points into.
    _strings: Vec<CString>,
}

impl Pointers {
    pub(super) fn new(strings: Vec<CString>) -> Self {
        let end = std::iter::once(std::ptr::null());
        Self {
            array: strings.iter().map(|s| s.as_ptr()).chain(end).collect(),
            _strings: strings,
        }
    }
}

impl Plan {
    /// Becomes the command, or ends.
    ///
    /// # Safety
    /// To be called in the child of a fork only, with all signals blocked.
    pub(super) unsafe fn run(&self) -> ! {
        // SAFETY: only system calls and functions that signal-safety(7) allows, on values made
        // before the fork; the caller says that this is the child.
        unsafe {
            for &fd in &self.close {
                libc::close(fd);
            }
            reset_signals();
            if let Some(fd) = self.stderr
                && libc::dup2(fd, libc::STDERR_FILENO) < 0
            {
                self.fail(Stage::Stderr, 1);
            }
            if let Some(own) = &self.own
                && !own.keep_only()
            {
                self.fail(Stage::Rights, 1);
            }
            if let Some(user) = &self.user
                && !become_user(user)
            {
                self.fail(Stage::User, 1);
            }
            self.send(report(Stage::Ready, 0));
            if !self.wait_for_go() {
                libc::_exit(1);
            }
            if libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) != 0 {
                self.fail(Stage::Trace, 1);
            }
            libc::execvpe(
                self.argv.array[0],
                self.argv.array.as_ptr(),
                self.env.array.as_ptr(),
            );
            self.fail(Stage::Exec, 127)
        }
    }

    /// Whether the byte came; false once memtrace has gone.
    unsafe fn wait_for_go(&self) -> bool {
        let mut byte = 0u8;
        loop {
            // SAFETY: one byte is read into one byte.
            let read = unsafe { libc::read(self.go, (&raw mut byte).cast(), 1) };
            if read >= 0 || errno() != libc::EINTR {
                return read == 1;
            }
        }
    }

    unsafe fn send(&self, report: Report) {
        // SAFETY: the array is of the length told. So short a write to a pipe is whole or fails.
        unsafe { libc::write(self.report, report.as_ptr().cast(), report.len()) };
    }

    unsafe fn fail(&self, stage: Stage, code: libc::c_int) -> ! {
        // SAFETY: see the callees; `_exit` runs no handlers of the copied process.
        unsafe {
            self.send(report(stage, errno()));
            libc::_exit(code)
        }
    }
}

pub(super) fn errno() -> i32 {
    // SAFETY: the C library gives each thread a valid place.
    unsafe { *libc::__errno_location() }
}

/// Takes memtrace's handlers back before any can run here, and lets signals in.
///
/// What was ignored stays so (nohup), but for SIGPIPE, which Rust's runtime ignores for itself.
pub(super) unsafe fn reset_signals() {
    // SAFETY: plain values are exchanged with the kernel; signals that cannot be set are refused.
    unsafe {
        for signal in 1..=64 {
            let mut action: libc::sigaction = std::mem::zeroed();
            if libc::sigaction(signal, std::ptr::null(), &mut action) != 0 {
                continue;
            }
            let keep = matches!(action.sa_sigaction, libc::SIG_DFL | libc::SIG_IGN);
            if !keep || signal == libc::SIGPIPE {
                let mut default: libc::sigaction = std::mem::zeroed();
                default.sa_sigaction = libc::SIG_DFL;
                libc::sigaction(signal, &default, std::ptr::null_mut());
            }
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
    }
}

/// Gives up this process's user for another; false, with errno set, where that is refused.
unsafe fn become_user(user: &User) -> bool {
    // SAFETY: the list of groups is of the length told. Groups go first: afterwards nothing may change them.
    unsafe {
        libc::setgroups(user.groups.len(), user.groups.as_ptr()) == 0
            && libc::setgid(user.gid) == 0
            && libc::setuid(user.uid) == 0
    }
}
