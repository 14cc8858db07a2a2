//! What the kernel says of a process's memory, read from outside.

use std::fs;

/// From /proc/PID/smaps_rollup, in one reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    pub rss_bytes: u64,
    pub lazyfree_bytes: u64,
}

impl Memory {
    pub fn of(pid: u32) -> Self {
        let path = format!("/proc/{pid}/smaps_rollup");
        let rollup = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let bytes_of = |name: &str| {
            let line = rollup.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|rest| rest.split_whitespace().next());
            let kilobytes: Option<u64> = number.and_then(|number| number.parse().ok());
            kilobytes.unwrap_or_else(|| panic!("no {name} in\n{rollup}")) * 1024
        };
        Self {
            rss_bytes: bytes_of("Rss:"),
            lazyfree_bytes: bytes_of("LazyFree:"),
        }
    }
}
