//! The rights of the user who runs memtrace, for the files that this user names.
//!
//! A program with file capabilities, or a setuid one, may open what its user may not. All that is
//! the kernel's own to check then goes by the effective capabilities and the file-system ids of one
//! *thread* (credentials(7)), so that lowering them reaches no other thread, and what was permitted
//! stays permitted and can be raised again.

use std::io;

/// _LINUX_CAPABILITY_VERSION_3 of include/uapi/linux/capability.h: two words for each set.
const VERSION_3: u32 = 0x2008_0522;
/// The highest number that two words have room for.
const LAST: u32 = 63;

#[repr(C)]
struct Head {
    version: u32,
    pid: libc::c_int,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Word {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// The capabilities of a thread.
type Sets = [Word; 2];

/// What the user has without memtrace's own file: its ids, and the capabilities that it passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Own {
    uid: libc::uid_t,
    gid: libc::gid_t,
    /// The ambient ones: they were the user's before memtrace was executed, and a file's
    /// capabilities or a setuid bit would have cleared them (capabilities(7)).
    capabilities: u64,
}

impl Own {
    /// What is to be gone back to; `None` where memtrace has no more than its user. Root's rights
    /// are its own, whatever they are.
    ///
    /// # Errors
    /// Those of capget(2).
    pub fn if_less() -> io::Result<Option<Self>> {
        let ids = Ids::of_this_process();
        if ids.real == (0, ids.real.1) {
            return Ok(None);
        }
        let own = Self {
            uid: ids.real.0,
            gid: ids.real.1,
            capabilities: ambient(),
        };
        let more = effective(&sets()?) & !own.capabilities != 0;
        Ok((more || ids.real != ids.effective).then_some(own))
    }

    /// Gives up all else for good, this process's permitted capabilities included; false, with
    /// errno set, where that fails. For the only thread of a process: a fork's child may call it,
    /// since it makes system calls only.
    pub(crate) fn keep_only(&self) -> bool {
        // SAFETY: the calls take integers only. Groups first: without a user's rights they stay.
        unsafe {
            if libc::setresgid(self.gid, self.gid, self.gid) != 0
                || libc::setresuid(self.uid, self.uid, self.uid) != 0
            {
                return false;
            }
        }
        let Ok(mut sets) = sets() else { return false };
        for (word, kept) in sets.iter_mut().zip(words(self.capabilities)) {
            word.permitted &= kept;
            word.effective = word.permitted;
        }
        set(&sets).is_ok()
    }
}

/// Does something with the user's own rights, in this thread.
///
/// # Errors
/// When the rights could not be lowered: then nothing was done.
pub fn with_own<T>(work: impl FnOnce() -> T) -> io::Result<T> {
    let _lowered = match Own::if_less()? {
        Some(own) => Some(Lowered::to(&own)?),
        None => None,
    };
    Ok(work())
}

/// The words to go with a refusal, where memtrace itself could have done it.
pub fn hint(error: &io::Error) -> &'static str {
    let refused = error.kind() == io::ErrorKind::PermissionDenied;
    match Own::if_less() {
        Ok(Some(_)) if refused => {
            ": memtrace opens what you name with your rights, not with its own"
        }
        _ => "",
    }
}

/// Raises the thread's rights again when it goes.
struct Lowered {
    ids: Ids,
    sets: Sets,
}

impl Lowered {
    fn to(own: &Own) -> io::Result<Self> {
        let before = Self {
            ids: Ids::of_this_process(),
            sets: sets()?,
        };
        if !set_file_ids((own.uid, own.gid)) {
            // What was changed goes back with `before`.
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let mut lower = before.sets;
        for (word, kept) in lower.iter_mut().zip(words(own.capabilities)) {
            word.effective &= kept;
        }
        set(&lower)?;
        Ok(before)
    }
}

impl Drop for Lowered {
    fn drop(&mut self) {
        // The ids first: they take capabilities along (capabilities(7), "Effect of user ID changes").
        // If any of it fails, this thread goes on with less than it had, and what it misses is told where it is missed.
        set_file_ids(self.ids.effective);
        let _ = set(&self.sets);
    }
}

/// A user and a group, really and effectively.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ids {
    real: (libc::uid_t, libc::gid_t),
    effective: (libc::uid_t, libc::gid_t),
}

impl Ids {
    fn of_this_process() -> Self {
        // SAFETY: the calls take nothing and cannot fail.
        unsafe {
            Self {
                real: (libc::getuid(), libc::getgid()),
                effective: (libc::geteuid(), libc::getegid()),
            }
        }
    }
}

/// Sets the ids that files are opened with, of this thread alone; whether that was done.
fn set_file_ids((uid, gid): (libc::uid_t, libc::gid_t)) -> bool {
    let is = |now: libc::c_int, wanted: u32| now.cast_unsigned() == wanted;
    // SAFETY: plain integers. They answer with the id from before, and -1 is never taken.
    unsafe {
        libc::setfsgid(gid);
        libc::setfsuid(uid);
        is(libc::setfsgid(u32::MAX), gid) && is(libc::setfsuid(u32::MAX), uid)
    }
}

fn ambient() -> u64 {
    (0..=LAST)
        .filter(|&number| {
            let (ask, number) = (libc::PR_CAP_AMBIENT_IS_SET, libc::c_ulong::from(number));
            // SAFETY: plain integers; a number that the kernel does not know is refused.
            unsafe { libc::prctl(libc::PR_CAP_AMBIENT, ask, number, 0, 0) == 1 }
        })
        .fold(0, |all, number| all | 1 << number)
}

fn words(capabilities: u64) -> [u32; 2] {
    // Each half on its own.
    [capabilities as u32, (capabilities >> 32) as u32]
}

fn effective([low, high]: &Sets) -> u64 {
    u64::from(high.effective) << 32 | u64::from(low.effective)
}

/// Those of this thread.
fn sets() -> io::Result<Sets> {
    let (mut head, mut sets) = (this_thread(), Sets::default());
    // SAFETY: the header asks for two words, and there is room for two.
    let done = unsafe { libc::syscall(libc::SYS_capget, &raw mut head, sets.as_mut_ptr()) };
    answered(done).map(|()| sets)
}

fn set(sets: &Sets) -> io::Result<()> {
    let mut head = this_thread();
    // SAFETY: the header announces two words, and two are there.
    answered(unsafe { libc::syscall(libc::SYS_capset, &raw mut head, sets.as_ptr()) })
}

fn this_thread() -> Head {
    Head {
        version: VERSION_3,
        pid: 0,
    }
}

fn answered(done: libc::c_long) -> io::Result<()> {
    match done {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::proc::{is_root, not_run};

    /// Neither CAP_DAC_OVERRIDE nor CAP_DAC_READ_SEARCH.
    const NOBODY: Own = Own {
        uid: 65534,
        gid: 65534,
        capabilities: 0,
    };

    #[test]
    fn a_thread_opens_with_lower_rights_and_has_its_own_again_afterwards() {
        if !is_root() {
            return not_run("only root has rights to lower", "run the tests as root");
        }
        let path = std::env::temp_dir().join(format!("memtrace-rights-{}", std::process::id()));
        fs::write(&path, "secret").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let before = sets().unwrap();
        assert!(File::open(&path).is_ok());
        let lowered = Lowered::to(&NOBODY).unwrap();
        let refused = File::open(&path).unwrap_err();
        let other_thread = std::thread::scope(|scope| {
            // A thread begins with what its maker has, so this one is lowered too; the test's main thread is not.
            scope.spawn(|| File::open(&path).is_err()).join().unwrap()
        });
        drop(lowered);
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
        assert!(other_thread);
        assert_eq!(sets().unwrap(), before);
        assert!(File::open(&path).is_ok());
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn what_the_user_passed_on_is_kept_while_all_else_is_lowered() {
        if !is_root() {
            return not_run("only root has rights to lower", "run the tests as root");
        }
        let kept = 1 << 39 | 1 << 2;
        let lowered = Lowered::to(&Own {
            capabilities: kept,
            ..NOBODY
        });
        let during = lowered.as_ref().map(|_| effective(&sets().unwrap()));
        assert_eq!(during.unwrap(), kept & effective(&lowered.unwrap().sets));
    }

    #[test]
    fn roots_rights_are_its_own() {
        if !is_root() {
            return not_run("asked of root", "run the tests as root");
        }
        assert_eq!(Own::if_less().unwrap(), None);
        assert_eq!(hint(&io::ErrorKind::PermissionDenied.into()), "");
    }
}
