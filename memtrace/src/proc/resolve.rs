//! From a pid that the user gave to the process to trace, or a sentence that says why not.

use std::fmt;
use std::io;

use super::{comm, exe, is_gone, stat, status};

/// A process that can be traced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    pub pid: u32,
    /// Not escaped.
    pub comm: String,
    /// The path of its executable, where readable. Not escaped.
    pub exe: Option<String>,
    /// See [`stat::Stat::start_ticks`]: tells it from a later process with the same pid.
    pub start_ticks: u64,
    pub threads: u64,
    /// What the user should know about how the pid was taken.
    pub note: Option<String>,
}

/// Why a pid cannot be traced.
#[derive(Debug)]
pub enum ResolveError {
    Nobody(u32),
    /// /proc shows nothing of it, yet it exists.
    Hidden(u32),
    Ended(u32),
    KernelThread(u32),
    Itself(u32),
    Io(u32, io::Error),
}

impl fmt::Display for ResolveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nobody(pid) => write!(f, "there is no process {pid}"),
            Self::Hidden(pid) => write!(
                f,
                "process {pid} exists, but /proc hides it (hidepid): run memtrace as root"
            ),
            Self::Ended(pid) => write!(f, "process {pid} has ended (its parent has not reaped it)"),
            Self::KernelThread(pid) => write!(
                f,
                "{pid} is a kernel thread, which has no memory of its own"
            ),
            Self::Itself(pid) => write!(f, "{pid} is memtrace itself, which it leaves alone"),
            Self::Io(pid, error) => write!(f, "process {pid} cannot be read: {error}"),
        }
    }
}

impl std::error::Error for ResolveError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(_, error) => Some(error),
            _ => None,
        }
    }
}

/// Finds the process of a pid, or of the id of one of its threads.
///
/// # Errors
/// When there is nothing to trace, or nothing that this user may see.
pub fn resolve(id: u32) -> Result<Process, ResolveError> {
    let failed = |error: io::Error| {
        if !is_gone(&error) {
            ResolveError::Io(id, error)
        } else if exists(id) {
            ResolveError::Hidden(id)
        } else {
            ResolveError::Nobody(id)
        }
    };
    let pid = status::read(id).map_err(failed)?.tgid;
    if pid == std::process::id() {
        return Err(ResolveError::Itself(pid));
    }
    let stat = stat::read(pid).map_err(failed)?;
    if stat.is_kernel_thread() {
        return Err(ResolveError::KernelThread(pid));
    }
    if stat.is_dead() && stat.threads <= 1 {
        return Err(ResolveError::Ended(pid));
    }
    let comm = comm(pid).map_err(failed)?;
    let note = (pid != id).then(|| {
        format!("{id} is a thread of process {pid}: the whole process is traced, since its threads share their memory")
    });
    Ok(Process {
        pid,
        comm,
        exe: exe(pid),
        start_ticks: stat.start_ticks,
        threads: stat.threads,
        note,
    })
}

/// Whether a process has this pid, asked of the kernel instead of /proc.
fn exists(pid: u32) -> bool {
    let Ok(pid) = libc::pid_t::try_from(pid) else {
        return false;
    };
    // SAFETY: signal 0 sends nothing; it only checks that the process is there.
    let sent = pid > 0 && unsafe { libc::kill(pid, 0) } == 0;
    sent || (pid > 0 && io::Error::last_os_error().raw_os_error() == Some(libc::EPERM))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_child_is_resolved_and_is_gone_when_it_has_ended() {
        let mut child = Command::new("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let process = resolve(child.id()).unwrap();
        assert_eq!((process.pid, process.note), (child.id(), None));
        assert!(process.start_ticks > 0);

        drop(child.stdin.take());
        // Its pidfd is readable once it is a zombie; waitid can wait for that without reaping.
        // SAFETY: the siginfo is only written to; the pid is our own child's.
        unsafe {
            let mut info = std::mem::zeroed();
            libc::waitid(
                libc::P_PID,
                child.id(),
                &mut info,
                libc::WEXITED | libc::WNOWAIT,
            );
        }
        assert!(matches!(resolve(child.id()), Err(ResolveError::Ended(_))));
        child.wait().unwrap();
        assert!(matches!(resolve(child.id()), Err(ResolveError::Nobody(_))));
    }

    #[test]
    fn memtrace_is_refused_whichever_of_its_threads_is_named() {
        std::thread::spawn(|| {
            // SAFETY: gettid takes nothing and cannot fail.
            let tid = unsafe { libc::gettid() };
            let refused = resolve(u32::try_from(tid).unwrap());
            assert!(matches!(refused, Err(ResolveError::Itself(_))));
        })
        .join()
        .unwrap();
    }

    /// Not a test of its own: the process in which the next one finds a thread.
    #[test]
    fn helper_with_threads() {
        if std::env::var_os("MEMTRACE_TEST_HELPER").is_some() {
            std::io::stdin().read_line(&mut String::new()).unwrap();
        }
    }

    #[test]
    fn a_thread_is_resolved_to_its_process_with_a_note() {
        // The test harness runs a test in a thread beside its main one.
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "proc::resolve::tests::helper_with_threads"])
            .env("MEMTRACE_TEST_HELPER", "1")
            .env("RUST_TEST_THREADS", "2")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let task = format!("/proc/{}/task", child.id());
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        let tid = loop {
            let tid = std::fs::read_dir(&task)
                .unwrap()
                .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok())
                .find(|&tid: &u32| tid != child.id());
            if let Some(tid) = tid {
                break tid;
            }
            assert!(
                std::time::Instant::now() < deadline,
                "the helper made no thread"
            );
            std::thread::yield_now();
        };
        let process = resolve(tid).unwrap();
        assert_eq!(process.pid, child.id());
        assert!(process.note.unwrap().contains(&tid.to_string()));
        drop(child.stdin.take());
        child.wait().unwrap();
    }

    #[test]
    fn pids_that_cannot_be_are_nobody() {
        for pid in [0, u32::MAX, i32::MAX as u32] {
            assert!(
                matches!(resolve(pid), Err(ResolveError::Nobody(_))),
                "{pid}"
            );
        }
    }
}
