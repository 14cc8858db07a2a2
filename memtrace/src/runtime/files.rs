//! Opens what belongs to another process: its program, its libraries and files of its root, and nothing of ours instead.
//!
//! Everything goes through one descriptor of /proc/PID, so that a pid that is used again cannot mix
//! two processes. A path of the process is never opened from our own root, where it may be another
//! file, and nothing but a regular file is opened for reading: to open a device can do things.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;

use super::budget::Budget;
use crate::proc::mapped::{self, MappedFile};
use crate::proc::{MAX_NAME, bounded_name};

/// A process, as its directory in /proc.
pub(super) struct Process {
    directory: OwnedFd,
}

impl Process {
    pub(super) fn open(pid: u32) -> io::Result<Self> {
        let path = c_string(format!("/proc/{pid}"))?;
        let flags = libc::O_PATH | libc::O_DIRECTORY;
        open_at(libc::AT_FDCWD, &path, flags).map(|directory| Self { directory })
    }

    /// A file of its directory, at most `max` bytes of it, and whether that was all.
    pub(super) fn read(&self, name: &CStr, max: u64) -> io::Result<(Vec<u8>, bool)> {
        let mut bytes = Vec::new();
        File::from(self.open_own(name, libc::O_RDONLY)?)
            .take(max + 1)
            .read_to_end(&mut bytes)?;
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        let whole = bytes.len() <= max;
        bytes.truncate(max);
        Ok((bytes, whole))
    }

    /// The files it runs code from, and whether these are all.
    pub(super) fn mapped_files(&self, budget: &Budget<'_>) -> io::Result<(Vec<MappedFile>, bool)> {
        let maps = File::from(self.open_own(c"maps", libc::O_RDONLY)?);
        let take = |bytes| budget.take_bytes(bytes) && budget.take_records(1);
        mapped::from_reader(BufReader::with_capacity(64 * 1024, maps), take)
    }

    /// Its program, also where the file has been deleted or replaced since.
    pub(super) fn executable(&self) -> io::Result<File> {
        regular(self.open_own(c"exe", libc::O_PATH)?)
    }

    /// The path of that file, as the kernel gives it.
    pub(super) fn executable_path(&self) -> Option<String> {
        let path = read_link(&self.directory, c"exe").ok()?;
        Some(bounded_name(&path))
    }

    /// A file that it has mapped.
    ///
    /// map_files leads to the very file, but only with CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE
    /// (fs/proc/base.c:proc_map_files_get_link). Without them the path has to do, in the process's
    /// own root, and only if the file there is still the one that is mapped.
    pub(super) fn mapped(&self, file: &MappedFile) -> io::Result<File> {
        let link = format!("map_files/{:x}-{:x}", file.range.start, file.range.end);
        let refused = match self.open_own(&c_string(link)?, libc::O_PATH) {
            Ok(found) => return regular(found),
            Err(error) => error,
        };
        let Ok(found) = self.in_root(file.plain_path(), libc::O_PATH) else {
            return Err(refused);
        };
        let found = regular(found)?;
        let status = found.metadata()?;
        let device = (libc::major(status.dev()), libc::minor(status.dev()));
        if (device, status.ino()) != (file.device, file.inode) {
            return Err(io::Error::other("another file has its path now"));
        }
        Ok(found)
    }

    /// Where a symbolic link in its root leads, as written in the link.
    pub(super) fn link(&self, path: &str) -> io::Result<Vec<u8>> {
        let link = self.in_root(path, libc::O_PATH | libc::O_NOFOLLOW)?;
        // An empty path means the descriptor itself.
        read_link(&link, c"")
    }

    fn open_own(&self, name: &CStr, flags: libc::c_int) -> io::Result<OwnedFd> {
        open_at(self.directory.as_raw_fd(), name, flags)
    }

    /// Opens a path as the process would: no link in it leads out of its root or through /proc.
    fn in_root(&self, path: &str, flags: libc::c_int) -> io::Result<OwnedFd> {
        let root = self.open_own(c"root", libc::O_PATH | libc::O_DIRECTORY)?;
        let path = c_string(path)?;
        // SAFETY: open_how is three integers, for which zero is a valid value.
        let mut how: libc::open_how = unsafe { std::mem::zeroed() };
        how.flags = u64::from((flags | libc::O_CLOEXEC).cast_unsigned());
        how.resolve = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS;
        // SAFETY: both pointers are valid for the call, and the size is that of `how`.
        let descriptor = unsafe {
            libc::syscall(
                libc::SYS_openat2,
                root.as_raw_fd(),
                path.as_ptr(),
                &raw const how,
                size_of::<libc::open_how>(),
            )
        };
        let descriptor = RawFd::try_from(descriptor).map_err(io::Error::other)?;
        owned(descriptor)
    }
}

/// Opens for reading what an O_PATH descriptor stands for, if it is a regular file; else `InvalidInput`.
fn regular(found: OwnedFd) -> io::Result<File> {
    let found = File::from(found);
    if !found.metadata()?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let again = c_string(format!("/proc/self/fd/{}", found.as_raw_fd()))?;
    // O_NONBLOCK: a lease on the file makes the open fail at once instead of waiting for its holder.
    let flags = libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY;
    open_at(libc::AT_FDCWD, &again, flags).map(File::from)
}

fn read_link(directory: &OwnedFd, path: &CStr) -> io::Result<Vec<u8>> {
    let mut target = vec![0u8; MAX_NAME];
    // SAFETY: the descriptor is open, the path ends in NUL, and the buffer has the length that is said.
    let length = unsafe {
        libc::readlinkat(
            directory.as_raw_fd(),
            path.as_ptr(),
            target.as_mut_ptr().cast(),
            target.len(),
        )
    };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    target.truncate(length);
    Ok(target)
}

fn open_at(directory: RawFd, path: &CStr, flags: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: the path ends in NUL, and without O_CREAT no mode is read.
    owned(unsafe { libc::openat(directory, path.as_ptr(), flags | libc::O_CLOEXEC) })
}

fn owned(descriptor: RawFd) -> io::Result<OwnedFd> {
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given it to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

fn c_string(text: impl Into<Vec<u8>>) -> io::Result<CString> {
    CString::new(text).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::super::budget::tests::ample;
    use super::*;

    fn own() -> Process {
        Process::open(std::process::id()).unwrap()
    }

    #[test]
    fn this_process_can_read_its_own_program_and_libraries() {
        let process = own();
        let mut magic = [0; 4];
        process
            .executable()
            .unwrap()
            .read_exact(&mut magic)
            .unwrap();
        assert_eq!(&magic, b"\x7fELF");
        let files = process.mapped_files(ample()).unwrap().0;
        assert!(!files.is_empty());
        for file in &files {
            process.mapped(file).unwrap();
        }
    }

    #[test]
    fn a_path_that_another_file_has_now_is_refused() {
        let process = own();
        let mut file = process.mapped_files(ample()).unwrap().0.remove(0);
        // No such range, so that the path must do.
        file.range = 0x1000..0x2000;
        file.inode ^= 1;
        assert!(process.mapped(&file).is_err());
    }

    #[test]
    fn only_regular_files_are_opened_for_reading() {
        let process = own();
        let null = process.in_root("/dev/null", libc::O_PATH).unwrap();
        assert!(regular(null).is_err());
        let directory = process.in_root("/proc", libc::O_PATH).unwrap();
        assert!(regular(directory).is_err());
    }

    #[test]
    fn no_magic_link_is_followed_in_a_root() {
        let process = own();
        assert!(process.in_root("/proc/self/exe", libc::O_PATH).is_err());
        let link = process.link("/proc/self/exe").unwrap();
        assert!(link.starts_with(b"/"));
        assert!(process.link("/no such link").is_err());
    }

    #[test]
    fn what_is_longer_than_wanted_is_cut_and_said_to_be() {
        let process = own();
        let (bytes, whole) = process.read(c"maps", 100).unwrap();
        assert_eq!((bytes.len(), whole), (100, false));
        assert!(process.read(c"maps", 1 << 30).unwrap().1);
    }
}
