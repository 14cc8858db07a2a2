//! Where a path leads, followed one name at a time, so that no link of another user's is followed.
//!
//! The kernel's own fs.protected_symlinks, protected_regular, protected_fifos and protected_hardlinks
//! guard sticky folders of all users, where an administrator has not turned them off; this guards
//! every folder that others can write, whatever these are set to.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

/// As many links as the kernel follows (include/linux/namei.h:MAXSYMLINKS).
const MOST_LINKS: u32 = 40;

/// A name in a folder, and what has it now.
#[derive(Debug)]
pub(super) struct Place {
    pub folder: OwnedFd,
    pub name: CString,
    /// `None`: nothing has that name.
    pub found: Option<Status>,
    /// A link of /proc, which is no path but leads to the very file.
    pub magic: bool,
    /// The folder's.
    status: Status,
    trusted: Trusted,
}

/// What counts of a file's status.
#[derive(Clone, Copy, Debug)]
pub(super) struct Status {
    mode: libc::mode_t,
    uid: libc::uid_t,
    /// How many names it has.
    names: libc::nlink_t,
}

impl Status {
    /// As S_IFMT has it.
    pub(super) fn kind(self) -> libc::mode_t {
        self.mode & libc::S_IFMT
    }
}

/// Why nothing is written there.
#[derive(Debug)]
pub(super) enum Refusal {
    Folder,
    /// A link of this user's in a folder that others can write.
    Link(PathBuf, libc::uid_t),
    /// A file of this user's there.
    Theirs(libc::uid_t),
    /// One of so many names of a file.
    Names(libc::nlink_t),
    Io(io::Error),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder => f.write_str("it is a folder: name a file in it"),
            Self::Link(path, uid) => write!(
                f,
                "{path:?} is a symbolic link of user {uid} in a folder that others can write, and may lead to a \
                 file that is not meant: name that file, or one in a folder of your own"
            ),
            Self::Theirs(uid) => write!(
                f,
                "it belongs to user {uid}, in a folder that others can write, and others may read or change it: \
                 remove it, or name one in a folder of your own"
            ),
            Self::Names(names) => write!(
                f,
                "it has {names} names (hard links), in a folder that others can write, and may be a file that is \
                 not meant: remove it, or name one in a folder of your own"
            ),
            Self::Io(error) => {
                write!(f, "{error}")?;
                f.write_str(match error.raw_os_error() {
                    Some(libc::ENOENT | libc::ENOTDIR) => {
                        ": there is no such folder; make it first"
                    }
                    Some(libc::ETXTBSY) => ": it is a program that runs; name another file",
                    Some(libc::EROFS) => ": name a file elsewhere",
                    Some(libc::ENOSPC | libc::EDQUOT) => ": make room, or name a file elsewhere",
                    Some(libc::EACCES | libc::EPERM) => match crate::rights::hint(error) {
                        "" => ": name a file that you may write",
                        hint => hint,
                    },
                    _ => "",
                })
            }
        }
    }
}

/// Users who do nothing to this one: itself, root, and under sudo who called it.
#[derive(Clone, Copy, Debug)]
struct Trusted {
    own: libc::uid_t,
    caller: Option<libc::uid_t>,
}

impl Trusted {
    fn now() -> Self {
        Self {
            // SAFETY: getuid takes nothing and cannot fail.
            own: unsafe { libc::getuid() },
            caller: super::caller().map(|(uid, _)| uid),
        }
    }

    fn has(self, uid: libc::uid_t) -> bool {
        uid == 0 || uid == self.own || Some(uid) == self.caller
    }

    /// Whether somebody else can put names into a folder of that status.
    fn shares(self, folder: Status) -> bool {
        folder.mode & 0o022 != 0 || !self.has(folder.uid)
    }
}

impl Place {
    /// Follows a path to its last name, with the rights that this thread has.
    pub(super) fn find(path: &Path) -> Result<Self, Refusal> {
        if path.as_os_str().as_bytes().ends_with(b"/") {
            return Err(Refusal::Folder);
        }
        let trusted = Trusted::now();
        // The last is the next; and how far it has come, for a message.
        let mut left = names(path);
        let mut links = 0;
        let (mut folder, mut at) = (open_folder(libc::AT_FDCWD, c".", 0)?, PathBuf::new());
        while let Some(next) = left.pop() {
            if next == OsStr::new("/") {
                (folder, at) = (open_folder(libc::AT_FDCWD, c"/", 0)?, PathBuf::from("/"));
                continue;
            }
            at.push(&next);
            let name = CString::new(next.into_vec()).map_err(io::Error::from)?;
            let status = status(&folder, c"", libc::AT_EMPTY_PATH)?;
            let found = match self::status(&folder, &name, libc::AT_SYMLINK_NOFOLLOW) {
                Ok(found) => Some(found),
                Err(error) if left.is_empty() && error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(error.into()),
            };
            let is_link = found.is_some_and(|found| found.kind() == libc::S_IFLNK);
            let magic = is_link && is_proc(&folder);
            if let Some(link) = found.filter(|_| is_link && !magic) {
                if trusted.shares(status) && !trusted.has(link.uid) {
                    return Err(Refusal::Link(at, link.uid));
                }
                links += 1;
                if links > MOST_LINKS {
                    return Err(io::Error::from_raw_os_error(libc::ELOOP).into());
                }
                at.pop();
                left.extend(names(&read_link(&folder, &name)?));
                continue;
            }
            if left.is_empty() && found.is_none_or(|found| found.kind() != libc::S_IFDIR) {
                return Ok(Self {
                    folder,
                    name,
                    found,
                    magic,
                    status,
                    trusted,
                });
            }
            // Not even one that has come into the place of the folder since.
            let nofollow = if magic { 0 } else { libc::O_NOFOLLOW };
            folder = open_folder(folder.as_raw_fd(), &name, nofollow)?;
        }
        Err(Refusal::Folder)
    }

    /// Whether what has the name may be written, as far as it is somebody else's doing that it is there.
    ///
    /// As in the kernel's fs/namei.c:may_create_in_sticky, a file of the folder's own owner is none of a stranger's.
    pub(super) fn check(&self, file: Status) -> Result<(), Refusal> {
        if !self.trusted.shares(self.status) || self.magic {
            return Ok(());
        }
        if !self.trusted.has(file.uid) && file.uid != self.status.uid {
            return Err(Refusal::Theirs(file.uid));
        }
        if file.kind() == libc::S_IFREG && file.names > 1 {
            return Err(Refusal::Names(file.names));
        }
        Ok(())
    }

    /// Whether a file could be made there, without making one.
    pub(super) fn can_create(&self) -> io::Result<()> {
        let folder = self.folder.as_raw_fd();
        let wanted = libc::W_OK | libc::X_OK;
        // SAFETY: the descriptor is open, and the path ends in NUL.
        let done = unsafe { libc::faccessat(folder, c".".as_ptr(), wanted, libc::AT_EACCESS) };
        if done != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// Opens the name.
    pub(super) fn open(&self, flags: libc::c_int, mode: libc::mode_t) -> io::Result<OwnedFd> {
        let nofollow = if self.magic { 0 } else { libc::O_NOFOLLOW };
        let flags = flags | nofollow | libc::O_CLOEXEC | libc::O_NOCTTY;
        let (folder, name) = (self.folder.as_raw_fd(), self.name.as_ptr());
        // SAFETY: the descriptor is open, and the name ends in NUL.
        owned(unsafe { libc::openat(folder, name, flags, libc::c_uint::from(mode)) })
    }
}

/// The names of a path, the first one last. Its root, if it begins there, is a name of its own.
fn names(path: &Path) -> Vec<OsString> {
    let names = path.components().filter(|&one| one != Component::CurDir);
    let mut names: Vec<OsString> = names.map(|one| one.as_os_str().to_owned()).collect();
    names.reverse();
    names
}

fn open_folder(from: libc::c_int, name: &CStr, flags: libc::c_int) -> io::Result<OwnedFd> {
    let flags = flags | libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
    // SAFETY: the name ends in NUL, and without O_CREAT no mode is read.
    owned(unsafe { libc::openat(from, name.as_ptr(), flags) })
}

fn owned(descriptor: libc::c_int) -> io::Result<OwnedFd> {
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given it to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

pub(super) fn status(folder: &impl AsRawFd, name: &CStr, flags: libc::c_int) -> io::Result<Status> {
    let mut out = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: the name ends in NUL, and `out` has room for what the kernel writes.
    let done = unsafe { libc::fstatat(folder.as_raw_fd(), name.as_ptr(), out.as_mut_ptr(), flags) };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so that the kernel has filled it.
    let status = unsafe { out.assume_init() };
    Ok(Status {
        mode: status.st_mode,
        uid: status.st_uid,
        names: status.st_nlink,
    })
}

fn is_proc(folder: &OwnedFd) -> bool {
    let mut out = MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: the descriptor is open, and `out` has room for what the kernel writes.
    let done = unsafe { libc::fstatfs(folder.as_raw_fd(), out.as_mut_ptr()) };
    // SAFETY: read only where the call succeeded, so that the kernel has filled it.
    done == 0 && unsafe { out.assume_init() }.f_type == libc::PROC_SUPER_MAGIC
}

fn read_link(folder: &OwnedFd, name: &CStr) -> io::Result<PathBuf> {
    let mut target = vec![0u8; libc::PATH_MAX as usize];
    // SAFETY: the descriptor is open, the name ends in NUL, and the buffer has the length that is said.
    let length = unsafe {
        libc::readlinkat(
            folder.as_raw_fd(),
            name.as_ptr(),
            target.as_mut_ptr().cast(),
            target.len(),
        )
    };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    target.truncate(length);
    Ok(OsString::from_vec(target).into())
}

#[cfg(test)]
#[path = "place_tests.rs"]
mod tests;
