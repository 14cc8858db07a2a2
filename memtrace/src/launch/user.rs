//! The user that a launched command runs as, looked up before the fork: afterwards nothing may allocate.

use std::ffi::{CStr, CString, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStringExt;

/// No passwd entry, and no list of groups, is larger than this.
const MAX_ENTRY_BYTES: usize = 1 << 20;
const MAX_GROUPS: usize = 1 << 16;

/// An entry of the passwd database and the groups that go with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub name: OsString,
    pub uid: libc::uid_t,
    pub gid: libc::gid_t,
    /// All its groups, the one above among them.
    pub groups: Vec<libc::gid_t>,
    pub home: OsString,
}

impl User {
    /// Looks a user up by name; `None` if there is no such user.
    ///
    /// # Errors
    /// Those of getpwnam_r(3), when the database cannot be read.
    pub fn by_name(name: &str) -> io::Result<Option<Self>> {
        let Ok(c_name) = CString::new(name) else {
            return Ok(None);
        };
        let mut size = 1024;
        loop {
            let mut buffer: Vec<libc::c_char> = vec![0; size];
            let mut entry = MaybeUninit::<libc::passwd>::uninit();
            let mut found = std::ptr::null_mut();
            // SAFETY: every pointer is to something of the length told, and outlives the call.
            let error = unsafe {
                libc::getpwnam_r(
                    c_name.as_ptr(),
                    entry.as_mut_ptr(),
                    buffer.as_mut_ptr(),
                    buffer.len(),
                    &mut found,
                )
            };
            match error {
                libc::ERANGE if size < MAX_ENTRY_BYTES => size *= 2,
                0 if found.is_null() => return Ok(None),
                0 => {
                    // SAFETY: the call succeeded with a result, so that the entry is filled.
                    let entry = unsafe { entry.assume_init() };
                    return Ok(Some(Self {
                        // SAFETY: the strings of the entry lie in `buffer`, which still lives.
                        name: unsafe { text(entry.pw_name) },
                        // SAFETY: as above.
                        home: unsafe { text(entry.pw_dir) },
                        uid: entry.pw_uid,
                        gid: entry.pw_gid,
                        groups: groups_of(&c_name, entry.pw_gid),
                    }));
                }
                // What some libraries answer for a name that nobody has (getpwnam(3)).
                libc::ENOENT | libc::ESRCH => return Ok(None),
                error => return Err(io::Error::from_raw_os_error(error)),
            }
        }
    }
}

/// A C string as owned text; empty for a null pointer.
///
/// # Safety
/// The pointer is null or to a string that ends in NUL.
unsafe fn text(pointer: *const libc::c_char) -> OsString {
    if pointer.is_null() {
        return OsString::new();
    }
    // SAFETY: the caller says that a string is there.
    let bytes = unsafe { CStr::from_ptr(pointer) }.to_bytes();
    OsString::from_vec(bytes.to_vec())
}

fn groups_of(name: &CStr, gid: libc::gid_t) -> Vec<libc::gid_t> {
    let mut room = 64usize;
    loop {
        let mut groups: Vec<libc::gid_t> = vec![0; room];
        let mut count = libc::c_int::try_from(room).unwrap_or(libc::c_int::MAX);
        // SAFETY: `count` says how many fit into `groups`; no more are written.
        let fits =
            unsafe { libc::getgrouplist(name.as_ptr(), gid, groups.as_mut_ptr(), &mut count) } >= 0;
        if fits || room >= MAX_GROUPS {
            groups.truncate(usize::try_from(count).unwrap_or(0).min(room));
            return groups;
        }
        room *= 4;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_known_everywhere() {
        let root = User::by_name("root").unwrap().unwrap();
        assert_eq!((root.uid, root.gid), (0, 0));
        assert!(root.groups.contains(&0) && !root.home.is_empty());
    }

    #[test]
    fn a_user_that_does_not_exist_is_none() {
        for name in ["no-such-user-here", "", "with\0nul"] {
            assert_eq!(User::by_name(name).unwrap(), None, "{name:?}");
        }
    }
}
