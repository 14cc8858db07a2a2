//! How much more a process can be charged before the limit of a memory cgroup over it is reached.

use std::io;
use std::path::Path;

use super::{MAX_MOUNTINFO, located, memberships, number, stat_value};
use crate::proc::read_bounded;

/// The tightest of the limits over a process, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headroom {
    pub limit_bytes: u64,
    /// What is not charged yet.
    pub free_bytes: u64,
    /// That, and what reclaim can take without swap: page cache, and what is lazily free.
    pub room_bytes: u64,
}

/// Reads it; `None` where nothing limits the process, as far as can be seen from here.
///
/// # Errors
/// Those of reading /proc/PID/cgroup.
pub fn tightest(pid: u32) -> io::Result<Option<Headroom>> {
    let text = read_bounded(format!("/proc/{pid}/cgroup"), 64 * 1024)?;
    let mounts = read_bounded("/proc/self/mountinfo", MAX_MOUNTINFO)?;
    let mut tightest: Option<Headroom> = None;
    for membership in memberships(&text) {
        let Some((mount, below)) = located(&mounts, &membership) else {
            continue;
        };
        // A limit further up binds those below.
        for dir in below.ancestors().map(|below| mount.join(below)) {
            if let Some(found) = read(&dir, membership.version) {
                tightest = match tightest {
                    Some(known) if known.room_bytes <= found.room_bytes => Some(known),
                    _ => Some(found),
                };
            }
        }
    }
    Ok(tightest)
}

fn read(dir: &Path, version: u8) -> Option<Headroom> {
    let number = |name: &str| number(&read_bounded(dir.join(name), 64).ok()?);
    let stat = read_bounded(dir.join("memory.stat"), 64 * 1024).ok()?;
    let (usage, limit, lists) = if version == 1 {
        // Without a limit it shows the largest number of pages (mm/page_counter.c).
        let limit = number("memory.limit_in_bytes").filter(|limit| *limit < 1 << 62);
        let lists = ["total_inactive_file", "total_active_file"];
        (number("memory.usage_in_bytes")?, limit?, lists)
    } else {
        // Above memory.high its processes are slowed down.
        let limits = [number("memory.max"), number("memory.high")];
        let limit = limits.into_iter().flatten().min();
        let lists = ["inactive_file", "active_file"];
        (number("memory.current")?, limit?, lists)
    };
    let free_bytes = limit.saturating_sub(usage);
    let taken_first = lists
        .iter()
        .filter_map(|list| stat_value(&stat, list))
        .fold(0, u64::saturating_add);
    Some(Headroom {
        limit_bytes: limit,
        free_bytes,
        room_bytes: free_bytes.saturating_add(taken_first),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_what_is_not_charged_and_what_can_be_taken() {
        let dir = std::env::temp_dir().join(format!("memtrace-headroom-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.join(name), text).unwrap();
        write("memory.current", "1000\n");
        write("memory.max", "max\n");
        write("memory.high", "max\n");
        write("memory.usage_in_bytes", "2000\n");
        write("memory.limit_in_bytes", "5000\n");
        write(
            "memory.stat",
            "inactive_file 300\nactive_file 30\ntotal_inactive_file 400\ntotal_active_file 40\n",
        );
        let unlimited = read(&dir, 2);
        write("memory.max", "9000\n");
        let max = read(&dir, 2).unwrap();
        write("memory.high", "900\n");
        let high = read(&dir, 2).unwrap();
        let first = read(&dir, 1).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        let figures = |one: Headroom| (one.limit_bytes, one.free_bytes, one.room_bytes);
        assert_eq!(unlimited, None);
        assert_eq!(figures(max), (9000, 8000, 8330));
        assert_eq!(figures(high), (900, 0, 330));
        assert_eq!(figures(first), (5000, 3000, 3440));
    }
}
