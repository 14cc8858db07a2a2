//! /proc/meminfo: what the machine has, and what it could give without swapping.

use std::io;

use super::{kib_value, read_bounded};

/// In bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemInfo {
    pub total_bytes: u64,
    /// Used for nothing.
    pub free_bytes: u64,
    /// An estimate of what can be had without swapping: page cache counts, and so do lazily freed
    /// pages, since they lie on the same list (mm/show_mem.c:si_mem_available).
    pub available_bytes: u64,
    /// Page cache, shared memory included; lazily freed pages are not.
    pub cached_bytes: u64,
}

/// Reads it.
///
/// # Errors
/// Those of open(2) and read(2), and `InvalidData` where a figure is missing.
pub fn read() -> io::Result<MemInfo> {
    parse(&read_bounded("/proc/meminfo", 64 * 1024)?).ok_or(io::ErrorKind::InvalidData.into())
}

/// Huge pages in the page cache, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HugeCache {
    /// Of shared memory and tmpfs.
    pub shmem_bytes: u64,
    /// Of other files.
    pub file_bytes: u64,
}

/// Reads how much of the page cache is huge; None where the kernel does not tell.
pub fn huge_cache() -> Option<HugeCache> {
    let text = read_bounded("/proc/meminfo", 64 * 1024).ok()?;
    let value = |key: &str| {
        text.split(|&b| b == b'\n')
            .find_map(|line| kib_value(line, key))
    };
    Some(HugeCache {
        shmem_bytes: value("ShmemHugePages:")?,
        // Linux 5.4; before that files had none.
        file_bytes: value("FileHugePages:").unwrap_or(0),
    })
}

/// The figures in the text of a meminfo file.
pub fn parse(text: &[u8]) -> Option<MemInfo> {
    let value = |key: &str| {
        text.split(|&b| b == b'\n')
            .find_map(|line| kib_value(line, key))
    };
    Some(MemInfo {
        total_bytes: value("MemTotal:")?,
        free_bytes: value("MemFree:")?,
        available_bytes: value("MemAvailable:")?,
        cached_bytes: value("Cached:")?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_figure_is_found_by_its_whole_name() {
        let text = b"MemTotal:       2048 kB\nMemFree:         100 kB\nMemAvailable:    900 kB\n\
            Buffers:          10 kB\nSwapCached:        7 kB\nCached:          500 kB\n";
        let expected = MemInfo {
            total_bytes: 2048 << 10,
            free_bytes: 100 << 10,
            available_bytes: 900 << 10,
            cached_bytes: 500 << 10,
        };
        assert_eq!(parse(text), Some(expected));
        assert_eq!(parse(b"MemTotal: 2048 kB\n"), None);
    }

    #[test]
    fn this_machine_has_more_than_it_can_give() {
        let now = read().unwrap();
        assert!(now.total_bytes > now.available_bytes && now.free_bytes > 0);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
            parse(&bytes);
        }
    }
}
