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
    let text = read_bounded(format!("/proc/{pid}/statm"), 4096)?;
    let pages = parse(&text).ok_or(io::ErrorKind::InvalidData)?;
    Ok(pages.saturating_mul(page_bytes()))
}

/// The resident pages in the text of a statm file: its second number.
pub fn parse(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    text.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_second_number_is_the_resident_pages() {
        assert_eq!(parse(b"765 397 369 5 0 90 0\n"), Some(397));
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
