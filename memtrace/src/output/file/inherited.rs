//! Paths that stand for a descriptor which memtrace was started with: /dev/stdout, /dev/fd/N, /proc/self/fd/N.
//!
//! To open such a path opens the file anew: it would empty what `>>` was to append to, and fail for a
//! socket (ENXIO) or for a file of another user's. The descriptor itself can do what it was made for.

use std::fs::{self, File};
use std::io;
use std::os::fd::{BorrowedFd, RawFd};
use std::path::{Path, PathBuf};

/// /dev/stdout leads to /proc/self/fd/1, and a user's own link may lead to that.
const MOST_LINKS: usize = 8;

/// The descriptor behind such a path, doubled; `None` for any other path.
///
/// # Errors
/// When it is not open, or not for writing.
pub(super) fn open(path: &Path) -> Option<io::Result<File>> {
    Some(doubled(number(path)?))
}

fn number(path: &Path) -> Option<RawFd> {
    let own = Path::new("/proc").join(fs::read_link("/proc/self").ok()?);
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        let name = path.file_name()?;
        let folder = match path.parent()? {
            folder if folder == Path::new("") => PathBuf::from("."),
            folder => folder.to_owned(),
        };
        let folder = folder.canonicalize().ok()?;
        // Of a thread of ours too (/proc/thread-self).
        if folder.starts_with(&own) && folder.ends_with("fd") {
            return name.to_str()?.parse().ok();
        }
        let target = fs::read_link(&path).ok()?;
        path = folder.join(target);
    }
    None
}

fn doubled(number: RawFd) -> io::Result<File> {
    // SAFETY: asking a number that is no descriptor gives -1.
    let (own, mode) = unsafe {
        (
            libc::fcntl(number, libc::F_GETFD),
            libc::fcntl(number, libc::F_GETFL),
        )
    };
    // What closes at an exec came to us by none: it is memtrace's own.
    if own < 0 || mode < 0 || own & libc::FD_CLOEXEC != 0 {
        return Err(io::Error::other(
            "memtrace was started without that descriptor",
        ));
    }
    if mode & libc::O_ACCMODE == libc::O_RDONLY {
        return Err(io::Error::other("that descriptor is open for reading only"));
    }
    // SAFETY: it was open a moment ago, and nobody closes what we were started with.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    borrowed.try_clone_to_owned().map(File::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_own_descriptors_are_told_from_others() {
        for (path, expected) in [
            ("/dev/stdout", Some(1)),
            ("/dev/fd/2", Some(2)),
            ("/proc/self/fd/2", Some(2)),
            ("/proc/thread-self/fd/1", Some(1)),
            ("/dev/null", None),
            ("/proc/self/fd", None),
            ("/proc/self/fd/x", None),
            ("/proc/1/fd/1", None),
            ("/no/such/folder/1", None),
        ] {
            assert_eq!(number(Path::new(path)), expected, "{path}");
        }
    }

    #[test]
    fn what_is_not_inherited_or_not_for_writing_is_refused() {
        let own = File::open("/dev/null").unwrap();
        let number = std::os::fd::AsRawFd::as_raw_fd(&own);
        let error = doubled(number).unwrap_err().to_string();
        assert!(error.contains("started without"), "{error}");
        // SAFETY: plain integers; the descriptor is ours.
        unsafe { libc::fcntl(number, libc::F_SETFD, 0) };
        let error = doubled(number).unwrap_err().to_string();
        assert!(error.contains("reading only"), "{error}");
        assert!(doubled(9999).is_err());
    }
}
