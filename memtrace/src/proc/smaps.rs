//! /proc/PID/smaps and smaps_rollup: what is resident, what is lazily free, and which mappings ask for huge pages.
//!
//! Both walk the page tables of the process with its mmap lock held for reading: about 9 ms for
//! each resident GiB of 4 KiB pages, during which its mmap and munmap calls may wait.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::ops::Range;

use super::{for_each_line, kib_value, read_bounded};
use crate::kernel::folios::Thp;

/// A process with more resident memory than this is not asked which mappings are advised, in bytes.
const MAX_RSS_TO_WALK: u64 = 1 << 30;
/// Advised ranges that are kept.
const MAX_RANGES: usize = 1 << 20;

/// Sums over a whole process, in bytes (fs/proc/task_mmu.c:show_smaps_rollup).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rollup {
    pub rss_bytes: u64,
    pub pss_bytes: u64,
    pub lazyfree_bytes: u64,
    pub swap_bytes: u64,
    pub anonymous_bytes: u64,
    pub anon_huge_bytes: u64,
}

/// Reads the sums of a process; `None` for one that has no memory any more.
///
/// # Errors
/// Those of open(2) and read(2): EACCES without CAP_SYS_PTRACE for another user's process, ESRCH for one that has ended.
pub fn rollup(pid: u32) -> io::Result<Option<Rollup>> {
    let text = read_bounded(format!("/proc/{pid}/smaps_rollup"), 64 * 1024)?;
    Ok(parse_rollup(&text))
}

/// The sums in the text of a smaps_rollup file; `None` if Rss or LazyFree is not there.
pub fn parse_rollup(text: &[u8]) -> Option<Rollup> {
    let value = |key: &str| {
        text.split(|&b| b == b'\n')
            .find_map(|line| kib_value(line, key))
    };
    Some(Rollup {
        rss_bytes: value("Rss:")?,
        lazyfree_bytes: value("LazyFree:")?,
        pss_bytes: value("Pss:").unwrap_or(0),
        swap_bytes: value("Swap:").unwrap_or(0),
        anonymous_bytes: value("Anonymous:").unwrap_or(0),
        anon_huge_bytes: value("AnonHugePages:").unwrap_or(0),
    })
}

/// Which mappings are advised MADV_HUGEPAGE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HugeAdvised {
    /// The advice changes nothing on this machine as it is set up, so nobody asked.
    NoMatter,
    /// These, in ascending order.
    Known(Vec<Range<u64>>),
    /// Finding out would stall so large a process, or smaps could not be read.
    Unknown,
}

/// Finds out which mappings of a process are advised, where that matters and costs little.
///
/// It matters where a size of /sys/kernel/mm/transparent_hugepage is given on advice only; it
/// costs little below 1 GiB of RSS.
pub fn huge_advised_ranges(pid: u32, thp: &Thp) -> HugeAdvised {
    if !thp.advice_matters() {
        return HugeAdvised::NoMatter;
    }
    match super::rss::rss_bytes(pid) {
        Ok(rss) if rss <= MAX_RSS_TO_WALK => {}
        _ => return HugeAdvised::Unknown,
    }
    File::open(format!("/proc/{pid}/smaps"))
        .and_then(|file| from_reader(BufReader::with_capacity(64 * 1024, file)))
        .map_or(HugeAdvised::Unknown, HugeAdvised::Known)
}

/// The advised ranges in the text of a smaps file.
pub fn parse_huge_advised(text: &[u8]) -> Vec<Range<u64>> {
    // Reading from memory cannot fail.
    from_reader(text).unwrap_or_default()
}

fn from_reader(reader: impl BufRead) -> io::Result<Vec<Range<u64>>> {
    let mut ranges: Vec<Range<u64>> = Vec::new();
    let mut current = None;
    for_each_line(reader, |line| {
        if let Some(flags) = line.strip_prefix(b"VmFlags:") {
            if flags.split(|&b| b == b' ').any(|flag| flag == b"hg")
                && let Some(range) = current.take()
            {
                push(&mut ranges, range);
            }
        } else if let Some(range) = header(line) {
            current = Some(range);
        }
        ranges.len() < MAX_RANGES
    })?;
    Ok(ranges)
}

/// The range of a mapping's first line; `None` for any other line, whose key ends in a colon.
fn header(line: &[u8]) -> Option<Range<u64>> {
    let word = line.split(|&b| b == b' ').next()?;
    super::maps::range(std::str::from_utf8(word).ok()?)
}

fn push(ranges: &mut Vec<Range<u64>>, range: Range<u64>) {
    match ranges.last_mut() {
        Some(last) if range.start < last.end => last.end = last.end.max(range.end),
        _ => ranges.push(range),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ROLLUP: &str = "\
55e085a65000-7ffc5e6d7000 ---p 00000000 00:00 0                          [rollup]
Rss:                1588 kB
Pss:                 412 kB
Pss_Dirty:           132 kB
Shared_Clean:       1456 kB
Anonymous:           132 kB
LazyFree:             64 kB
Swap:                  8 kB
SwapPss:               8 kB
";

    #[test]
    fn a_rollup_gives_bytes() {
        assert_eq!(
            parse_rollup(ROLLUP.as_bytes()),
            Some(Rollup {
                rss_bytes: 1588 * 1024,
                pss_bytes: 412 * 1024,
                lazyfree_bytes: 64 * 1024,
                swap_bytes: 8 * 1024,
                anonymous_bytes: 132 * 1024,
                anon_huge_bytes: 0,
            })
        );
    }

    #[test]
    fn an_empty_rollup_is_a_process_that_ends() {
        assert_eq!(parse_rollup(b""), None);
    }

    #[test]
    fn only_ranges_with_the_hg_flag_are_advised() {
        let text = "\
1000-2000 rw-p 00000000 00:00 0 
Rss:                   0 kB
VmFlags: rd wr mr mw me ac hg 
2000-4000 rw-p 00000000 00:00 0                          [heap]
Rss:                  44 kB
VmFlags: rd wr mr mw me ac nh 
4000-8000 rw-p 00000000 fe:00 1                          /tmp/VmFlags: hg
AnonHugePages:         0 kB
VmFlags: rd wr hg mr
";
        assert_eq!(
            parse_huge_advised(text.as_bytes()),
            [0x1000..0x2000, 0x4000..0x8000]
        );
    }

    #[test]
    fn a_mapping_advised_by_this_process_is_found() {
        const LEN: usize = 4 << 20;
        // SAFETY: a new private mapping at an address of the kernel's choice.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                LEN,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        assert_ne!(at, libc::MAP_FAILED);
        // SAFETY: the range is the mapping above, whose memory nobody uses.
        let advised = unsafe { libc::madvise(at, LEN, libc::MADV_HUGEPAGE) } == 0;
        let here = at as u64;
        let text = std::fs::read(format!("/proc/{}/smaps", std::process::id())).unwrap();
        let found = parse_huge_advised(&text)
            .iter()
            .any(|range| range.contains(&here));
        // SAFETY: the mapping above, which nothing refers to.
        unsafe { libc::munmap(at, LEN) };
        assert_eq!(found, advised);
    }

    #[test]
    fn this_process_has_a_rollup() {
        let rollup = rollup(std::process::id()).unwrap().unwrap();
        assert!(rollup.rss_bytes >= rollup.pss_bytes && rollup.pss_bytes > 0);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            parse_rollup(&bytes);
            parse_huge_advised(&bytes);
        }

        #[test]
        fn advised_ranges_ascend(text in "(([0-9a-f]{1,6}000-[0-9a-f]{1,6}000 x|VmFlags: hg)\n){0,30}") {
            let ranges = parse_huge_advised(text.as_bytes());
            prop_assert!(ranges.windows(2).all(|pair| pair[0].end <= pair[1].start));
        }
    }
}
