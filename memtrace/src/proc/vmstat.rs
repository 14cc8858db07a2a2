//! /proc/vmstat: how many lazily freed pages the whole machine has lost to reclaim so far.

use std::io;

use super::{page_bytes, read_bounded};

/// Bytes that were marked by MADV_FREE and then reclaimed, on the whole machine since boot
/// (mm/vmstat.c: pglazyfreed). Linux 5.10 counts a huge page as one page.
///
/// # Errors
/// Those of open(2) and read(2), and `InvalidData` for a kernel that does not count them.
pub fn lazyfreed_bytes() -> io::Result<u64> {
    let text = read_bounded("/proc/vmstat", 64 * 1024)?;
    let pages = parse(&text).ok_or(io::ErrorKind::InvalidData)?;
    Ok(pages.saturating_mul(page_bytes()))
}

/// The count in the text of a vmstat file.
pub fn parse(text: &[u8]) -> Option<u64> {
    text.split(|&b| b == b'\n').find_map(|line| {
        let value = line.strip_prefix(b"pglazyfreed ")?;
        std::str::from_utf8(value).ok()?.trim().parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_count_is_found_by_its_whole_name() {
        assert_eq!(
            parse(b"pglazyfree 9\npglazyfreed 12\npgmajfault 3\n"),
            Some(12)
        );
        assert_eq!(parse(b"pglazyfree 9\n"), None);
        assert_eq!(parse(b"pglazyfreed x\n"), None);
    }

    #[test]
    fn this_machine_has_it() {
        assert!(lazyfreed_bytes().is_ok());
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            parse(&bytes);
        }
    }
}
