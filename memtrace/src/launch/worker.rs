//! The thread that forks the command's process and is its tracer until it runs.

use std::ffi::OsString;
use std::io::{self, PipeReader, PipeWriter, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};

use super::child::{Plan, Pointers, Report, Stage, read_report};
use super::user::User;
use super::{Launch, LaunchError};
use crate::proc::stat;
use crate::rights::Own;

/// What the worker has to tell after the fork.
pub(super) enum Event {
    /// The command is at its first instruction.
    Stopped,
    /// It ended without having got there, for the reason reported, if any; it is reaped.
    Ended(ExitStatus, Option<(Stage, io::Error)>),
    Failed(io::Error),
}

/// The process, as far as the worker can tell before it goes on.
struct Forked {
    pid: libc::pid_t,
    pidfd: OwnedFd,
    reports: PipeReader,
}

/// One launch at a time from its pipes to its fork: else the child of one would hold the pipe of another open.
pub(super) static FORK: Mutex<()> = Mutex::new(());

/// Starts the worker and waits until the process is ready.
pub(super) fn start(
    command: OsString,
    argv: Pointers,
    env: Pointers,
    user: Option<User>,
    stderr: Option<RawFd>,
) -> Result<Launch, LaunchError> {
    let failed = |what| move |error| LaunchError::Io(what, error);
    keep_children();
    let lock = FORK.lock().unwrap_or_else(PoisonError::into_inner);
    let own = Own::if_less().map_err(failed("capget"))?;
    let (go_read, go) = io::pipe().map_err(failed("pipe"))?;
    let (reports, report) = io::pipe().map_err(failed("pipe"))?;
    let name = user.as_ref().map(|user| user.name.clone());
    let (go_fd, report_fd) = (go_read.as_raw_fd(), report.as_raw_fd());
    let keep: Vec<RawFd> = [go_fd, report_fd].into_iter().chain(stderr).collect();
    let plan = SendPlan(Plan {
        argv,
        env,
        user,
        own,
        close: private_fds(&keep, &[go.as_raw_fd(), reports.as_raw_fd()]),
        go: go_fd,
        report: report_fd,
        stderr,
    });
    let (ready, is_ready) = channel();
    let (event, events) = channel();
    let (release, released) = channel();
    let worker = std::thread::Builder::new()
        .name("launch".to_owned())
        .spawn(move || work(plan, (go_read, report), reports, &ready, &event, &released))
        .map_err(failed("thread"))?;
    let forked = is_ready
        .recv()
        .unwrap_or_else(|_| Err(io::Error::other("the launching thread is gone")));
    drop(lock);
    let (pid, pidfd) = forked.map_err(failed("fork"))?;
    let launch = Launch {
        pid,
        pidfd,
        command,
        go: Some(go),
        events,
        release: Some(release),
        worker: Some(worker),
        ended: None,
    };
    // The second message is what the process itself says; dropping `launch` cleans up.
    match is_ready.recv() {
        Ok(Ok(_)) => Ok(launch),
        _ => Err(match launch.events.recv() {
            Ok(Event::Ended(_, Some((Stage::User, error)))) => {
                LaunchError::BecomeUser(name.unwrap_or_default(), error)
            }
            Ok(Event::Ended(_, Some((Stage::Stderr, error)))) => {
                LaunchError::Io("its stderr", error)
            }
            Ok(Event::Ended(_, Some((Stage::Rights, error)))) => {
                LaunchError::Io("giving up memtrace's own rights", error)
            }
            Ok(Event::Ended(status, _)) => LaunchError::Ended(status),
            Ok(Event::Failed(error)) => LaunchError::Io("waiting for it", error),
            Ok(Event::Stopped) | Err(_) => {
                LaunchError::Io("waiting for it", io::ErrorKind::Other.into())
            }
        }),
    }
}

type Ready = Sender<io::Result<(u32, OwnedFd)>>;

/// The worker's whole life.
fn work(
    plan: SendPlan,
    childs_ends: (PipeReader, PipeWriter),
    reports: PipeReader,
    ready: &Ready,
    event: &Sender<Event>,
    released: &Receiver<()>,
) {
    let forked = fork(&plan, reports);
    drop(childs_ends);
    let (mut forked, copy) = match forked.and_then(|f| f.pidfd.try_clone().map(|copy| (f, copy))) {
        Ok(both) => both,
        Err(error) => {
            let _ = ready.send(Err(error));
            return;
        }
    };
    let Ok(pid) = u32::try_from(forked.pid) else {
        return;
    };
    let _ = ready.send(Ok((pid, copy)));
    let mut failure = next_report(&mut forked.reports);
    if matches!(failure, Some((Stage::Ready, _))) {
        let again = forked.pidfd.try_clone();
        let _ = ready.send(again.map(|copy| (pid, copy)));
        failure = None;
    }
    let outcome = follow(&mut forked, failure);
    let stopped = matches!(outcome, Event::Stopped);
    let _ = event.send(outcome);
    if stopped {
        // Either word ends the wait: the caller is done, or gone.
        let _ = released.recv();
        // A process that was killed at its stop is not there to be let go.
        // SAFETY: nothing of ours is read or written; no signal goes with it.
        unsafe { libc::ptrace(libc::PTRACE_DETACH, forked.pid, 0usize, 0usize) };
    }
}

/// Follows the process to the stop behind its exec, or to its end.
fn follow(forked: &mut Forked, mut failure: Option<(Stage, io::Error)>) -> Event {
    loop {
        let mut status = 0;
        // SAFETY: the status is written to a valid place; the process is this thread's child.
        let waited = unsafe { libc::waitpid(forked.pid, &mut status, libc::__WALL) };
        if waited != forked.pid {
            let error = io::Error::last_os_error();
            if error.kind() == io::ErrorKind::Interrupted {
                continue;
            }
            return Event::Failed(error);
        }
        if !libc::WIFSTOPPED(status) {
            failure = failure.or_else(|| next_report(&mut forked.reports));
            return Event::Ended(ExitStatus::from_raw(status), failure);
        }
        let signal = libc::WSTOPSIG(status);
        if signal == libc::SIGTRAP && has_execed(forked.pid) {
            return Event::Stopped;
        }
        // A signal that came between its request to be traced and its exec: it is to have it.
        // SAFETY: nothing of ours is read or written; the last argument is a signal's number.
        unsafe { libc::ptrace(libc::PTRACE_CONT, forked.pid, 0usize, signal as usize) };
    }
}

/// The next report of the child; `None` once its end of the pipe is closed.
fn next_report(reports: &mut PipeReader) -> Option<(Stage, io::Error)> {
    let mut report = Report::default();
    reports.read_exact(&mut report).ok()?;
    read_report(report)
}

/// Whether it is past its exec. A /proc that does not say so is no reason to think otherwise.
fn has_execed(pid: libc::pid_t) -> bool {
    let stat = u32::try_from(pid).ok().map(stat::read);
    !matches!(stat, Some(Ok(stat)) if !stat.has_execed())
}

/// A plan on its way to the worker.
struct SendPlan(Plan);

// SAFETY: its pointers are into strings that it owns and nobody changes.
unsafe impl Send for SendPlan {}

/// Keeps signals from this thread: a handler of ours must not run in a process that was just forked.
pub(super) struct BlockedSignals(libc::sigset_t);

impl BlockedSignals {
    pub(super) fn all() -> Self {
        // SAFETY: the sets are written before they are read.
        unsafe {
            let mut all: libc::sigset_t = std::mem::zeroed();
            let mut before: libc::sigset_t = std::mem::zeroed();
            libc::sigfillset(&mut all);
            libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
            Self(before)
        }
    }
}

impl Drop for BlockedSignals {
    fn drop(&mut self) {
        // SAFETY: the mask is this thread's own from before.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.0, std::ptr::null_mut()) };
    }
}

fn fork(plan: &SendPlan, reports: PipeReader) -> io::Result<Forked> {
    let blocked = BlockedSignals::all();
    // SAFETY: the child does only what `Plan::run` says it may.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // SAFETY: this is the child, with all signals blocked.
        unsafe { plan.0.run() }
    }
    let error = io::Error::last_os_error();
    drop(blocked);
    if pid < 0 {
        return Err(error);
    }
    // SAFETY: pidfd_open takes two integers and gives a new descriptor or -1. The child is not reaped, so its pid is its own.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let error = io::Error::last_os_error();
    match RawFd::try_from(fd) {
        Ok(fd) if fd >= 0 => Ok(Forked {
            pid,
            // SAFETY: the descriptor is new and nobody else's.
            pidfd: unsafe { OwnedFd::from_raw_fd(fd) },
            reports,
        }),
        _ => {
            // SAFETY: it is our child, which nobody has reaped.
            unsafe {
                libc::kill(pid, libc::SIGKILL);
                libc::waitpid(pid, std::ptr::null_mut(), 0);
            }
            Err(error)
        }
    }
}

/// Our own descriptors, which exec would close: the child closes them at once but for `keep`.
fn private_fds(keep: &[RawFd], always: &[RawFd]) -> Vec<RawFd> {
    let listed = std::fs::read_dir("/proc/self/fd").into_iter().flatten();
    let mut fds: Vec<RawFd> = listed
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .chain(always.iter().copied())
        .filter(|fd| !keep.contains(fd))
        .filter(|&fd| {
            // SAFETY: asking a number that is no descriptor gives -1.
            let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
            flags >= 0 && flags & libc::FD_CLOEXEC != 0
        })
        .collect();
    fds.sort_unstable();
    fds.dedup();
    fds
}

/// Where memtrace was started with SIGCHLD ignored, the kernel would reap the command itself, and its status be lost.
fn keep_children() {
    // SAFETY: plain values are exchanged with the kernel.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        let asked = libc::sigaction(libc::SIGCHLD, std::ptr::null(), &mut action) == 0;
        if asked && action.sa_sigaction == libc::SIG_IGN {
            let mut default: libc::sigaction = std::mem::zeroed();
            default.sa_sigaction = libc::SIG_DFL;
            libc::sigaction(libc::SIGCHLD, &default, std::ptr::null_mut());
        }
    }
}
