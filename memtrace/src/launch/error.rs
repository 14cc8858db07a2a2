//! Why a command could not be launched, in sentences, and the exit status that each gives.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::ExitStatus;

use super::child::Stage;
use crate::rights;

/// Why no process could be made. The exit status is 1.
#[derive(Debug)]
pub enum LaunchError {
    NoCommand,
    /// A word holds a NUL byte, which no command line can pass on.
    Nul,
    NoSuchUser(String),
    /// The passwd database could not be read.
    Lookup(String, io::Error),
    /// The user is known, and becoming that user was refused.
    BecomeUser(OsString, io::Error),
    /// It ended before it was ready.
    Ended(ExitStatus),
    /// What could not be done, and why.
    Io(&'static str, io::Error),
}

impl fmt::Display for LaunchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCommand => f.write_str("there is no command to launch"),
            Self::Nul => f.write_str("the command line holds a NUL byte"),
            Self::NoSuchUser(name) => write!(f, "there is no user {name:?} (--user)"),
            Self::Lookup(name, error) => write!(f, "user {name:?} could not be looked up: {error}"),
            Self::BecomeUser(name, error) => write!(
                f,
                "the command cannot run as user {name:?}: {error}: --user needs root (CAP_SETUID and CAP_SETGID)"
            ),
            Self::Ended(status) => write!(
                f,
                "the new process ended before the command began ({status})"
            ),
            Self::Io(what, error) => write!(f, "the command cannot be launched: {what}: {error}"),
        }
    }
}

impl std::error::Error for LaunchError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Lookup(_, error) | Self::BecomeUser(_, error) | Self::Io(_, error) => Some(error),
            _ => None,
        }
    }
}

/// Why the process did not become the command.
#[derive(Debug)]
pub enum ExecError {
    /// No such command; or its script names an interpreter that is not there.
    NotFound {
        command: OsString,
        interpreter: bool,
    },
    /// It is there and cannot be executed.
    NotExecutable(OsString, io::Error),
    /// ptrace(2) was refused, so that it could not be stopped at its first instruction.
    Trace(io::Error),
    /// A signal (Ctrl-C, say) ended it before the command began.
    Ended(ExitStatus),
    Io(io::Error),
}

impl ExecError {
    /// What memtrace exits with, as shells and env(1) do: 127 not found, 126 not executable, 128 and the signal's number.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NotFound { .. } => 127,
            Self::NotExecutable(..) => 126,
            Self::Ended(status) => super::exit_code(*status),
            Self::Trace(_) | Self::Io(_) => 1,
        }
    }
}

impl fmt::Display for ExecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound {
                command,
                interpreter: true,
            } => write!(
                f,
                "cannot run {command:?}: the interpreter that it names is missing"
            ),
            Self::NotFound { command, .. } if has_slash(command) => {
                write!(f, "cannot run {command:?}: there is no such file")
            }
            Self::NotFound { command, .. } => {
                write!(
                    f,
                    "cannot run {command:?}: there is no such command in PATH"
                )
            }
            Self::NotExecutable(command, error) => write!(f, "cannot run {command:?}: {error}"),
            Self::Trace(error) => write!(
                f,
                "the command cannot be stopped at its first instruction: ptrace(2): {error}: another tracer (strace, a debugger), a seccomp filter or kernel.yama.ptrace_scope=3 forbids it"
            ),
            Self::Ended(status) => {
                write!(f, "the process ended before the command began ({status})")
            }
            Self::Io(error) => write!(f, "the command cannot be launched: {error}"),
        }
    }
}

impl std::error::Error for ExecError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NotExecutable(_, error) | Self::Trace(error) | Self::Io(error) => Some(error),
            Self::NotFound { .. } | Self::Ended(_) => None,
        }
    }
}

/// From what the child reported before it ended.
pub(super) fn exec_error(
    command: &OsStr,
    status: ExitStatus,
    failure: Option<(Stage, io::Error)>,
) -> ExecError {
    let command = command.to_owned();
    match failure {
        Some((Stage::Exec, error)) if error.raw_os_error() == Some(libc::ENOENT) => {
            let exists = || Path::new(&command).exists();
            let interpreter = has_slash(&command) && rights::with_own(exists).unwrap_or(false);
            ExecError::NotFound {
                command,
                interpreter,
            }
        }
        // execvp(3) says so too for any directory of PATH that may not be searched.
        Some((Stage::Exec, error))
            if error.kind() == io::ErrorKind::PermissionDenied && !is_anywhere(&command) =>
        {
            ExecError::NotFound {
                command,
                interpreter: false,
            }
        }
        Some((Stage::Exec, error)) => ExecError::NotExecutable(command, error),
        Some((Stage::Trace, error)) => ExecError::Trace(error),
        _ => ExecError::Ended(status),
    }
}

/// Whether there is such a file, at its path or in PATH, as far as memtrace may look.
fn is_anywhere(command: &OsStr) -> bool {
    if has_slash(command) {
        return true;
    }
    std::env::var_os("PATH").is_none_or(|path| {
        let any = || std::env::split_paths(&path).any(|folder| folder.join(command).exists());
        rights::with_own(any).unwrap_or(true)
    })
}

/// Whether it is a path instead of a name to be looked for in PATH.
fn has_slash(command: &OsStr) -> bool {
    command.as_bytes().contains(&b'/')
}
