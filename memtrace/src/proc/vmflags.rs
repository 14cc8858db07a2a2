//! The VmFlags of /proc/PID/smaps: which mappings ask for huge pages, and what else maps does not show.
//!
//! Reading smaps walks the page tables with the mmap lock held for reading: about 9 ms for each
//! resident GiB of 4 KiB pages, during which the process's mmap and munmap may wait.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::ops::Range;

use super::{for_each_line, kib_value};
use crate::ledger::event::{HugeAdvice, ReadAhead, VmFlags};

/// Mappings whose flags are kept.
const MOST_MAPPINGS: usize = 1 << 20;

/// Flags of mappings, in ascending order; those that say nothing are left out.
pub type Flags = Vec<(Range<u64>, VmFlags)>;

/// Reads the flags of all mappings of a process.
///
/// # Errors
/// Those of open(2) and read(2): EACCES without CAP_SYS_PTRACE for another user's process.
pub fn read(pid: u32) -> io::Result<Flags> {
    let file = File::open(format!("/proc/{pid}/smaps"))?;
    from_reader(BufReader::with_capacity(64 * 1024, file))
}

/// The flags in the text of a smaps file.
pub fn parse(text: &[u8]) -> Flags {
    // Reading from memory cannot fail.
    from_reader(text).unwrap_or_default()
}

fn from_reader(reader: impl BufRead) -> io::Result<Flags> {
    let mut found: Flags = Vec::new();
    let mut current: Option<(Range<u64>, Option<u64>)> = None;
    for_each_line(reader, |line| {
        if let Some(flags) = line.strip_prefix(b"VmFlags:") {
            if let Some((range, page_bytes)) = current.take() {
                let flags = flags_of(flags, page_bytes);
                let after = found.last().is_none_or(|(last, _)| last.end <= range.start);
                if flags != VmFlags::default() && after {
                    found.push((range, flags));
                }
            }
        } else if let Some(range) = header(line) {
            current = Some((range, None));
        } else if let Some((_, page_bytes)) = &mut current
            && let Some(bytes) = kib_value(line, "KernelPageSize:")
        {
            *page_bytes = Some(bytes);
        }
        found.len() < MOST_MAPPINGS
    })?;
    Ok(found)
}

fn flags_of(line: &[u8], page_bytes: Option<u64>) -> VmFlags {
    let mut flags = VmFlags::default();
    for flag in line.split(|&b| b == b' ') {
        match flag {
            b"hg" => flags.huge = HugeAdvice::Huge,
            b"nh" => flags.huge = HugeAdvice::Base,
            b"ht" => {
                let bytes = page_bytes.filter(|bytes| bytes.is_power_of_two());
                flags.hugetlb = Some(bytes.unwrap_or(2 << 20));
            }
            b"ur" => flags.faults_anew = true,
            b"dc" => flags.dont_fork = true,
            b"wf" => flags.wipe_on_fork = true,
            b"dp" => flags.droppable = true,
            b"dd" => flags.dont_dump = true,
            b"rr" => flags.read_ahead = ReadAhead::Random,
            b"sr" => flags.read_ahead = ReadAhead::Sequential,
            b"mg" => flags.mergeable = true,
            _ => {}
        }
    }
    flags
}

/// The range of a mapping's first line; `None` for any other line, whose key ends in a colon.
fn header(line: &[u8]) -> Option<Range<u64>> {
    let word = line.split(|&b| b == b' ').next()?;
    super::maps::range(std::str::from_utf8(word).ok()?).filter(|range| !range.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_flag_is_found_by_its_whole_name() {
        let text = "\
1000-2000 rw-p 00000000 00:00 0 
Rss:                   0 kB
KernelPageSize:        4 kB
VmFlags: rd wr mr mw me ac hg 
2000-4000 rw-p 00000000 00:00 0                          [heap]
Rss:                  44 kB
VmFlags: rd wr mr mw me ac nh dc
4000-8000 rw-p 00000000 fe:00 1                          /tmp/VmFlags: hg
AnonHugePages:         0 kB
VmFlags: rd wr mr sd
200000-400000 rw-p 00000000 00:00 9              /anon_hugepage (deleted)
KernelPageSize:     2048 kB
VmFlags: rd wr ht ur wf
";
        let huge = |huge| VmFlags {
            huge,
            ..VmFlags::default()
        };
        assert_eq!(
            parse(text.as_bytes()),
            [
                (0x1000..0x2000, huge(HugeAdvice::Huge)),
                (
                    0x2000..0x4000,
                    VmFlags {
                        dont_fork: true,
                        ..huge(HugeAdvice::Base)
                    }
                ),
                (
                    0x20_0000..0x40_0000,
                    VmFlags {
                        hugetlb: Some(2 << 20),
                        faults_anew: true,
                        wipe_on_fork: true,
                        ..VmFlags::default()
                    }
                ),
            ]
        );
    }

    #[test]
    fn each_flag_that_keeps_mappings_apart_is_read() {
        let of = |flag: &str| flags_of(format!(" rd wr {flag} sd").as_bytes(), None);
        assert_eq!(of("mr"), VmFlags::default());
        assert!(of("dd").dont_dump && of("mg").mergeable && of("dp").droppable);
        assert_eq!(of("rr").read_ahead, ReadAhead::Random);
        assert_eq!(of("sr").read_ahead, ReadAhead::Sequential);
        for flag in ["dd", "mg", "dp", "rr", "sr", "hg", "nh", "dc", "wf"] {
            assert!(!of(flag).may_be_joined_with(VmFlags::default()), "{flag}");
            assert!(of(flag).may_be_joined_with(of(flag)), "{flag}");
        }
        assert!(of("ur").may_be_joined_with(VmFlags::default()));
    }

    #[test]
    fn what_this_process_has_advised_is_found() {
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
        let mut maps = super::super::maps::read(std::process::id()).unwrap();
        maps.mark(&read(std::process::id()).unwrap());
        let found = maps
            .list
            .iter()
            .find(|(range, _)| range.contains(&here))
            .map(|(_, mapping)| mapping.flags.huge == HugeAdvice::Huge);
        // SAFETY: the mapping above, which nothing refers to.
        unsafe { libc::munmap(at, LEN) };
        assert_eq!(found, Some(advised));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            parse(&bytes);
        }

        #[test]
        fn ranges_ascend(text in "(([0-9a-f]{1,6}000-[0-9a-f]{1,6}000 x|VmFlags: hg|KernelPageSize: 2048 kB)\n){0,30}") {
            let flags = parse(text.as_bytes());
            prop_assert!(flags.windows(2).all(|pair| pair[0].0.end <= pair[1].0.start));
        }
    }
}
