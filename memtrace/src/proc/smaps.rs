//! /proc/PID/smaps_rollup: what is resident and what is lazily free.
//!
//! It walks the page tables of the process with its mmap lock held for reading: about 9 ms for
//! each resident GiB of 4 KiB pages, during which its mmap and munmap calls may wait.

use std::io;

use super::{kib_value, read_bounded};

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
    fn this_process_has_a_rollup() {
        let rollup = rollup(std::process::id()).unwrap().unwrap();
        assert!(rollup.rss_bytes >= rollup.pss_bytes && rollup.pss_bytes > 0);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            parse_rollup(&bytes);
        }
    }
}
