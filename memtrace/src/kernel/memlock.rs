//! The limit of locked memory, which BPF maps and programs are charged to before Linux 5.11.

use std::io;

use super::{Kernel, Version};

/// Lifts the limit where this kernel still charges BPF to it.
///
/// # Errors
/// EPERM without CAP_SYS_RESOURCE: a warning only, since the limit may still be enough.
pub fn lift() -> io::Result<()> {
    if Kernel::running()?.version >= Version::NO_MEMLOCK {
        return Ok(());
    }
    let limit = libc::rlimit {
        rlim_cur: libc::RLIM_INFINITY,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: the structure is valid for the call, and only read.
    if unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// The limit in force, in bytes; `None` for no limit.
pub fn limit() -> Option<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: libc::RLIM_INFINITY,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: the structure is valid for the call, and only written.
    let asked = unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &mut limit) } == 0;
    (asked && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifting_works_or_is_refused_and_leaves_no_less() {
        let before = limit();
        if lift().is_ok() {
            assert!(limit().is_none() || limit() == before);
        } else {
            assert_eq!(limit(), before);
        }
    }
}
