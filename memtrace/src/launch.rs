//! Starts a command stopped at its first instruction, so that nothing it does is missed.
//!
//! The command's process is forked by a thread of its own, which stays its tracer until it runs:
//! ptrace(2) belongs to a thread. The process waits until the tracing programs are attached to
//! its pid, asks to be traced and execs; at the stop that follows, before a single instruction,
//! the caller reads what is mapped. Then it is let go and no longer traced.

mod child;
mod error;
pub mod relay;
mod user;
mod worker;

use std::ffi::{CString, OsStr, OsString};
use std::io::{self, PipeWriter, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::mpsc::{Receiver, Sender};
use std::thread::JoinHandle;

use child::Pointers;
pub use error::{ExecError, LaunchError};
pub use user::User;
use worker::Event;

/// A command that has been prepared, runs or has ended.
///
/// Dropped before [`Launch::exec`], its process is killed and reaped; dropped after, it runs on.
pub struct Launch {
    pid: u32,
    pidfd: OwnedFd,
    command: OsString,
    /// Until it is let go: closing this makes the process end itself, also when memtrace is killed.
    go: Option<PipeWriter>,
    events: Receiver<Event>,
    /// Dropping this makes the worker let a stopped process run.
    release: Option<Sender<()>>,
    worker: Option<JoinHandle<()>>,
    ended: Option<ExitStatus>,
}

impl Launch {
    /// Makes the process, with its pid and its user, and leaves it waiting.
    ///
    /// It shares memtrace's process group, so that Ctrl-C reaches both, its standard input and
    /// outputs, its working directory and its environment (with HOME, USER and LOGNAME of `user`).
    ///
    /// # Errors
    /// When there is no such user or no process could be made. Nothing is left behind.
    pub fn prepare(argv: &[OsString], user: Option<&str>) -> Result<Self, LaunchError> {
        Self::prepare_with(argv, user, None)
    }

    /// As [`Launch::prepare`], with another stderr than ours.
    ///
    /// # Errors
    /// As there.
    pub fn prepare_with(
        argv: &[OsString],
        user: Option<&str>,
        stderr: Option<&OwnedFd>,
    ) -> Result<Self, LaunchError> {
        let command = argv.first().ok_or(LaunchError::NoCommand)?.clone();
        let user = match user {
            None => None,
            Some(name) => Some(
                User::by_name(name)
                    .map_err(|error| LaunchError::Lookup(name.to_owned(), error))?
                    .ok_or_else(|| LaunchError::NoSuchUser(name.to_owned()))?,
            ),
        };
        let strings = argv.iter().map(|word| c_string(word.clone()));
        let argv = strings.collect::<Option<_>>().ok_or(LaunchError::Nul)?;
        let env = Pointers::new(environment(user.as_ref()));
        let stderr = stderr.map(AsRawFd::as_raw_fd);
        if let (Some(fd), Some(user)) = (stderr, &user) {
            // So that it can be opened anew by its name, /dev/stderr. Where that is refused it still works.
            // SAFETY: plain integers; the descriptor is open.
            unsafe { libc::fchown(fd, user.uid, user.gid) };
        }
        worker::start(command, Pointers::new(argv), env, user, stderr)
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Lets the process become the command. `on_stopped` is called once, with the pid, while the
    /// command stands at its first instruction; it runs when this returns.
    ///
    /// # Errors
    /// When it could not be executed, or ended (a signal came) before it was. It is then reaped.
    pub fn exec(&mut self, on_stopped: impl FnOnce(u32)) -> Result<(), ExecError> {
        if let Some(mut go) = self.go.take() {
            // A process that is not there any more is reported below.
            let _ = go.write_all(b"g");
        }
        let event = self.events.recv();
        if matches!(event, Ok(Event::Stopped)) {
            on_stopped(self.pid);
        }
        self.finish();
        match event {
            Ok(Event::Stopped) => Ok(()),
            Ok(Event::Ended(status, failure)) => {
                self.ended = Some(status);
                Err(error::exec_error(&self.command, status, failure))
            }
            Ok(Event::Failed(error)) => Err(ExecError::Io(error)),
            Err(_) => Err(ExecError::Io(io::Error::other(
                "the thread that launches the command is gone",
            ))),
        }
    }

    /// A descriptor that is readable once the command has ended (pidfd_open(2)); for poll or tokio's `AsyncFd`.
    ///
    /// # Errors
    /// Those of dup(2).
    pub fn pidfd(&self) -> io::Result<OwnedFd> {
        self.pidfd.try_clone()
    }

    /// How the command ended, if it has; does not wait.
    ///
    /// # Errors
    /// Those of waitpid(2).
    pub fn reap(&mut self) -> io::Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            let pid = libc::pid_t::try_from(self.pid).map_err(io::Error::other)?;
            let mut status = 0;
            // SAFETY: the status is written to a valid place; the process is our own child.
            match unsafe { libc::waitpid(pid, &mut status, libc::WNOHANG) } {
                0 => {}
                -1 => return Err(io::Error::last_os_error()),
                _ => self.ended = Some(ExitStatus::from_raw(status)),
            }
        }
        Ok(self.ended)
    }

    /// Leaves the command to itself: it runs on when memtrace ends.
    pub fn detach(self) {
        drop(self);
    }

    /// Lets the worker let the process go, and waits for its end.
    fn finish(&mut self) {
        self.release = None;
        if let Some(worker) = self.worker.take() {
            // Its panic, if any, is already on stderr, and the closed channel tells of it.
            let _ = worker.join();
        }
    }
}

impl Drop for Launch {
    fn drop(&mut self) {
        if self.go.take().is_some() {
            // The closed pipe would do, but not for a process that is stopped.
            // SAFETY: the pidfd is ours and stands for our own child; no siginfo is passed.
            unsafe {
                libc::syscall(
                    libc::SYS_pidfd_send_signal,
                    self.pidfd.as_raw_fd(),
                    libc::SIGKILL,
                    std::ptr::null::<libc::siginfo_t>(),
                    0,
                );
            }
        }
        self.finish();
    }
}

/// The exit status that a shell would give for it: 128 and the signal's number for one ended by a signal.
pub fn exit_code(status: ExitStatus) -> u8 {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    // The kernel keeps 8 bits of an exit code.
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

/// Our environment, with what goes with another user.
fn environment(user: Option<&User>) -> Vec<CString> {
    let theirs = user.map_or(Vec::new(), |user| {
        vec![
            ("HOME", user.home.clone()),
            ("USER", user.name.clone()),
            ("LOGNAME", user.name.clone()),
        ]
    });
    let kept = std::env::vars_os()
        .filter(|(key, _)| !theirs.iter().any(|(theirs, _)| key == OsStr::new(theirs)))
        .collect::<Vec<_>>();
    let set = theirs
        .iter()
        .map(|(key, value)| (OsString::from(key), value.clone()));
    kept.into_iter()
        .chain(set)
        .filter_map(|(mut key, value)| {
            key.push("=");
            key.push(value);
            c_string(key)
        })
        .collect()
}

fn c_string(text: OsString) -> Option<CString> {
    CString::new(text.into_vec()).ok()
}

#[cfg(test)]
mod tests;
