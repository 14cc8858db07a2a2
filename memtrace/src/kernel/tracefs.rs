//! tracefs where it is mounted, and a private mount of it, seen by one thread only, where it is not.

use std::ffi::CStr;
use std::fmt;
use std::io;
use std::path::Path;

use super::{Lockdown, lockdown};

/// Where tracefs is looked for, in aya's own order (aya's programs/utils.rs:find_tracefs_path).
const ROOTS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];
const MOUNT_POINT: &CStr = c"/sys/kernel/tracing";

/// Why there is no tracefs to work with.
#[derive(Debug)]
pub enum TracefsError {
    /// The directory to mount it on does not exist.
    NoMountPoint,
    /// It is mounted, and this user may not look into it.
    Denied,
    /// It is not mounted, and must not be here.
    LockedDown,
    /// A mount namespace of its own was refused.
    Unshare(io::Error),
    /// The mount in that namespace was refused.
    Mount(io::Error),
    /// No thread could be started.
    Thread(io::Error),
}

impl TracefsError {
    /// What the user can do about it.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::NoMountPoint => {
                "mount /sys if it is not there; else the kernel needs CONFIG_TRACING and CONFIG_FTRACE_SYSCALLS"
            }
            Self::Denied => "run memtrace with sudo, or give it CAP_DAC_READ_SEARCH",
            Self::LockedDown => "boot with lockdown=integrity or without Secure Boot's lockdown",
            Self::Unshare(_) | Self::Mount(_) => {
                "as root on the host: mount -t tracefs tracefs /sys/kernel/tracing; in a container, mount the host's /sys/kernel/tracing into it"
            }
            Self::Thread(_) => "raise the limit of threads (ulimit -u)",
        }
    }
}

impl fmt::Display for TracefsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let refused = "mounting it privately needs CAP_SYS_ADMIN, and a container's seccomp filter or security module may forbid it";
        match self {
            Self::NoMountPoint => write!(
                f,
                "tracefs is not mounted, and there is no /sys/kernel/tracing to mount it on"
            ),
            Self::Denied => write!(f, "tracefs is mounted, but only root may look into it"),
            Self::LockedDown => write!(
                f,
                "the kernel is locked down (confidentiality), which forbids tracing"
            ),
            Self::Unshare(error) => write!(
                f,
                "tracefs is not mounted, and unshare(2) failed ({error}): {refused}"
            ),
            Self::Mount(error) => write!(
                f,
                "tracefs is not mounted, and mount(2) failed ({error}): {refused}"
            ),
            Self::Thread(error) => write!(
                f,
                "tracefs is not mounted, and no thread to mount it in could be started: {error}"
            ),
        }
    }
}

impl std::error::Error for TracefsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unshare(error) | Self::Mount(error) | Self::Thread(error) => Some(error),
            Self::NoMountPoint | Self::Denied | Self::LockedDown => None,
        }
    }
}

/// Where this thread sees tracefs.
pub fn root() -> Option<&'static Path> {
    ROOTS
        .iter()
        .map(Path::new)
        .find(|root| root.join("events").is_dir())
}

/// Runs `f` where tracefs can be seen at one of the usual paths.
///
/// If it is mounted, `f` runs on this thread. Else it runs on a helper thread with a mount
/// namespace of its own, in which tracefs is mounted; the namespace ends with that thread, and
/// neither this process's mount table nor anybody else's changes. What `f` opened stays open.
///
/// aya remembers the first path at which it finds tracefs, or that it found none: nothing may
/// have asked it for a tracepoint before.
///
/// # Errors
/// When tracefs is neither there nor can be mounted; `f` has then not run.
///
/// # Panics
/// When `f` does.
pub fn with_tracefs<T: Send>(f: impl FnOnce() -> T + Send) -> Result<T, TracefsError> {
    if root().is_some() {
        return Ok(f());
    }
    let denied = |root: &&str| {
        let events = Path::new(root).join("events");
        events
            .symlink_metadata()
            .is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
    };
    // /sys/kernel/debug is closed to others than root even where nothing is mounted in it.
    if denied(&ROOTS[0]) {
        return Err(TracefsError::Denied);
    }
    if !Path::new(ROOTS[0]).is_dir() {
        return Err(TracefsError::NoMountPoint);
    }
    std::thread::scope(|scope| {
        let helper = std::thread::Builder::new()
            .name("tracefs".to_owned())
            .spawn_scoped(scope, || {
                mount_for_this_thread()?;
                Ok(f())
            })
            .map_err(TracefsError::Thread)?;
        match helper.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Gives the calling thread a mount namespace of its own with tracefs in it.
fn mount_for_this_thread() -> Result<(), TracefsError> {
    // SAFETY: unshare takes flags only. The thread's view of files changes; memory is as before.
    if unsafe { libc::unshare(libc::CLONE_FS | libc::CLONE_NEWNS) } != 0 {
        return Err(TracefsError::Unshare(io::Error::last_os_error()));
    }
    // Systemd shares every mount: without this step ours would appear on the host too.
    mount(c"none", c"/", None, libc::MS_REC | libc::MS_PRIVATE)?;
    if is_locked_down() {
        return Err(TracefsError::LockedDown);
    }
    mount_kind(c"tracefs", MOUNT_POINT)
}

/// Whether tracefs would come up empty. Linux 6.12 has been seen to crash as such a one was taken off
/// again: the end of the namespace corrupts its list of inodes (fs/tracefs/inode.c).
fn is_locked_down() -> bool {
    if lockdown() == Lockdown::Unknown {
        // Only securityfs tells, and where there is none there is no lockdown.
        let _ = mount_kind(c"securityfs", c"/sys/kernel/security");
    }
    lockdown() == Lockdown::Confidentiality
}

fn mount_kind(kind: &CStr, target: &CStr) -> Result<(), TracefsError> {
    let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    mount(kind, target, Some(kind), flags)
}

fn mount(
    source: &CStr,
    target: &CStr,
    kind: Option<&CStr>,
    flags: libc::c_ulong,
) -> Result<(), TracefsError> {
    let kind = kind.map_or(std::ptr::null(), CStr::as_ptr);
    // SAFETY: the strings end in NUL and outlive the call; a null type and null data are allowed.
    let result = unsafe {
        libc::mount(
            source.as_ptr(),
            target.as_ptr(),
            kind,
            flags,
            std::ptr::null(),
        )
    };
    if result != 0 {
        return Err(TracefsError::Mount(io::Error::last_os_error()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proc::{is_root, not_run};

    fn mounts() -> String {
        std::fs::read_to_string("/proc/self/mountinfo").unwrap()
    }

    #[test]
    fn tracefs_is_there_inside_and_the_mount_table_is_as_before_afterwards() {
        if !is_root() {
            return not_run("mounting needs root", "run the tests as root");
        }
        let before = (mounts(), root());
        let namespace = || std::fs::read_link("/proc/thread-self/ns/mnt").unwrap();
        let outside = namespace();
        let (inside, seen) = with_tracefs(|| (namespace(), root())).unwrap();
        assert!(seen.is_some());
        assert_eq!(inside == outside, before.1.is_some());
        assert_eq!((mounts(), root()), before);
        assert_eq!(namespace(), outside);
    }

    #[test]
    fn what_was_opened_inside_stays_open() {
        if !is_root() {
            return not_run("mounting needs root", "run the tests as root");
        }
        let mut file = with_tracefs(|| {
            let path = root()
                .unwrap()
                .join("events/exceptions/page_fault_user/format");
            std::fs::File::open(path)
        })
        .unwrap()
        .unwrap();
        let mut text = String::new();
        io::Read::read_to_string(&mut file, &mut text).unwrap();
        assert!(text.contains("page_fault_user"));
    }

    #[test]
    fn a_panic_inside_comes_out() {
        let result = std::panic::catch_unwind(|| with_tracefs(|| panic!("from inside")));
        match result {
            Err(panic) => assert_eq!(panic.downcast_ref(), Some(&"from inside")),
            Ok(refused) => assert!(refused.is_err() && !is_root()),
        }
    }

    #[test]
    fn a_refused_mount_names_the_capability_and_the_command() {
        let refused = TracefsError::Mount(io::Error::from_raw_os_error(libc::EPERM));
        assert!(refused.to_string().contains("CAP_SYS_ADMIN"));
        assert!(
            refused
                .advice()
                .contains("mount -t tracefs tracefs /sys/kernel/tracing")
        );
    }
}
