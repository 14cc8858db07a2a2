//! /proc/PID/statm: resident memory without walking any page table.

use std::io;

use super::{page_bytes, read_bounded};

/// The resident memory of a process in bytes (fs/proc/array.c:proc_pid_statm).
///
/// Since Linux 6.2 the counters behind it are kept per CPU and can be off by some tens of pages
/// for each CPU. It is 0 for a process that is ending.
///
/// # Errors
/// Those of open(2) and read(2), and `InvalidData` for a file that does not hold numbers.
pub fn rss_bytes(pid: u32) -> io::Result<u64> {
    Ok(read(pid)?.resident_bytes)
}

/// The sizes of an address space, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// All that is mapped, touched or not: VSZ.
    pub virtual_bytes: u64,
    pub resident_bytes: u64,
}

/// As [`rss_bytes`], with the virtual size.
///
/// # Errors
/// As [`rss_bytes`].
pub fn read(pid: u32) -> io::Result<Sizes> {
    let text = read_bounded(format!("/proc/{pid}/statm"), 4096)?;
    let (size, resident) = parse(&text).ok_or(io::ErrorKind::InvalidData)?;
    Ok(Sizes {
        virtual_bytes: size.saturating_mul(page_bytes()),
        resident_bytes: resident.saturating_mul(page_bytes()),
    })
}

/// The mapped and the resident pages in the text of a statm file: its first two numbers.
pub fn parse(text: &[u8]) -> Option<(u64, u64)> {
    let text = std::str::from_utf8(text).ok()?;
    let mut numbers = text.split_ascii_whitespace();
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_two_numbers_are_mapped_and_resident_pages() {
        assert_eq!(parse(b"765 397 369 5 0 90 0\n"), Some((765, 397)));
        assert_eq!(parse(b"765\n"), None);
        assert_eq!(parse(b""), None);
        assert_eq!(parse(b"765 -3 0"), None);
    }

    #[test]
    fn this_process_is_resident() {
        assert!(rss_bytes(std::process::id()).unwrap() > page_bytes());
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            parse(&bytes);
        }
    }
}
