//! What /proc tells about a process: pure parsers of its files, and thin readers around them.
//!
//! Whatever a target controls (its comm, its file names, the names of its mappings) is bounded
//! here and passed on unescaped: who prints it escapes it. A process may end at any moment, so
//! ENOENT and ESRCH from any reader mean "it is gone" ([`is_gone`]) and are not failures.

pub mod cgroup;
pub mod handle;
pub mod kcmp;
pub mod lazy;
pub mod mapped;
pub mod maps;
pub mod meminfo;
pub mod namespace;
pub mod pidfd;
pub mod pressure;
pub mod resolve;
pub mod rss;
pub mod shares;
pub mod smaps;
pub mod stat;
pub mod status;
pub mod vmflags;
pub mod vmstat;

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, BufRead, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The longest name (of a file or a mapping) that is kept, in bytes: Linux's PATH_MAX.
pub const MAX_NAME: usize = 4096;
/// More than any line of /proc can have: a name whose every byte became four (`\012`), and the columns before it.
const MAX_LINE: u64 = 4 * MAX_NAME as u64 + 256;

/// Whether an error of a reader says that the process has ended.
pub fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH))
}

/// The name of a process as the kernel keeps it: 15 bytes, set by exec or by the process itself. Not escaped.
pub fn comm(pid: u32) -> io::Result<String> {
    let bytes = read_bounded(format!("/proc/{pid}/comm"), 256)?;
    let name = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    Ok(String::from_utf8_lossy(name).into_owned())
}

/// The path of the executable, as far as it can be read (fs/proc/base.c:proc_exe_link). Not escaped.
pub fn exe(pid: u32) -> Option<String> {
    link(format!("/proc/{pid}/exe"))
}

/// What a descriptor of a process refers to: a path, or something like `socket:[77]`. Not escaped.
pub fn fd_target(pid: u32, fd: i32) -> Option<String> {
    (fd >= 0).then(|| link(format!("/proc/{pid}/fd/{fd}")))?
}

fn link(path: String) -> Option<String> {
    let target = std::fs::read_link(path).ok()?;
    Some(bounded_name(target.as_os_str().as_bytes()))
}

/// A name from the kernel as text of at most [`MAX_NAME`] bytes; what is not UTF-8 is replaced.
pub(crate) fn bounded_name(bytes: &[u8]) -> String {
    let bytes = &bytes[..bytes.len().min(MAX_NAME)];
    let mut name = String::from_utf8_lossy(bytes).into_owned();
    // A replacement character is longer than the byte it stands for.
    if name.len() > MAX_NAME {
        let mut end = MAX_NAME;
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        name.truncate(end);
    }
    name
}

/// Reads a file of /proc or /sys that should be small: never more than `max` bytes of it.
pub(crate) fn read_bounded(path: impl AsRef<Path>, max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(max).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// As [`read_bounded`], as text without white space at its ends.
pub(crate) fn read_word(path: impl AsRef<Path>) -> io::Result<String> {
    let bytes = read_bounded(path, 64 * 1024)?;
    Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
}

/// Calls `each` with every line, without its newline, in pieces of at most `MAX_LINE` bytes; `each` says whether to go on.
fn for_each_line(mut reader: impl BufRead, mut each: impl FnMut(&[u8]) -> bool) -> io::Result<()> {
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = (&mut reader).take(MAX_LINE).read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(());
        }
        if !each(line.strip_suffix(b"\n").unwrap_or(&line)) {
            return Ok(());
        }
    }
}

/// The value of `key` (with its colon) in a line of `Key:   value`, in bytes where it is in kB.
fn kib_value(line: &[u8], key: &str) -> Option<u64> {
    let rest = line.strip_prefix(key.as_bytes())?;
    let text = std::str::from_utf8(rest).ok()?.trim();
    let number = text.strip_suffix("kB")?.trim_end();
    number.parse::<u64>().ok()?.checked_mul(1024)
}

/// The size of a base page, in bytes.
pub fn page_bytes() -> u64 {
    // SAFETY: sysconf reads a constant of the system and takes no pointer.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(size).unwrap_or(4096)
}

/// What `stat` says of a path, through libc, for its raw device number.
fn stat_raw(path: &CStr) -> io::Result<libc::stat> {
    let mut out = std::mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: `path` ends in NUL and `out` has room for what the kernel writes.
    if unsafe { libc::stat(path.as_ptr(), out.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so that the kernel has filled it.
    Ok(unsafe { out.assume_init() })
}

/// For a test whose condition this machine does not meet: says so, and fails where nothing may be left out.
#[cfg(test)]
pub(crate) fn not_run(why: &str, how: &str) {
    println!("NOT RUN: {why}; {how}");
    assert!(
        std::env::var_os("MEMTRACE_TEST_ALL").is_none(),
        "MEMTRACE_TEST_ALL is set and a test could not run: {why}"
    );
}

#[cfg(test)]
pub(crate) fn is_root() -> bool {
    // SAFETY: geteuid takes nothing and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cut_at_4096_bytes_even_when_they_are_not_utf8() {
        assert_eq!(bounded_name(&[b'a'; 10_000]).len(), MAX_NAME);
        let replaced = bounded_name(&[0xff; 10_000]);
        assert!(replaced.len() <= MAX_NAME && replaced.len() > MAX_NAME - 4);
    }

    #[test]
    fn lines_longer_than_any_real_one_come_in_pieces() {
        let hostile = vec![b'x'; 100_000];
        let mut longest = 0;
        for_each_line(&hostile[..], |piece| {
            longest = longest.max(piece.len());
            true
        })
        .unwrap();
        assert_eq!(longest as u64, MAX_LINE);
    }

    #[test]
    fn a_kib_value_too_large_for_bytes_is_no_value() {
        assert_eq!(kib_value(b"Rss:      12 kB", "Rss:"), Some(12 * 1024));
        assert_eq!(kib_value(b"Rss: 18446744073709551615 kB", "Rss:"), None);
        assert_eq!(kib_value(b"Rss: -1 kB", "Rss:"), None);
        assert_eq!(kib_value(b"Rss: 1", "Rss:"), None);
    }

    #[test]
    fn this_process_has_a_comm_an_exe_and_descriptors() {
        let pid = std::process::id();
        assert!(!comm(pid).unwrap().is_empty());
        assert!(exe(pid).unwrap().starts_with('/'));
        let null = File::open("/dev/null").unwrap();
        let fd = std::os::fd::AsRawFd::as_raw_fd(&null);
        assert_eq!(fd_target(pid, fd).as_deref(), Some("/dev/null"));
        assert_eq!(fd_target(pid, -1), None);
        assert!(is_gone(&comm(u32::MAX).unwrap_err()));
    }
}
