//! Whether MADV_PAGEOUT could send a process's memory to swap instead of only taking what is lazily free.

use std::path::{Path, PathBuf};

use crate::proc::{read_bounded, read_word};

/// Longer than any list of swap areas or mounts, in bytes.
const MAX_FILE: u64 = 4 << 20;

/// How much room for swap a process has now, in bytes: 0 where there is none, or its cgroup may have none.
pub fn room(pid: u32) -> u64 {
    let free = room_of_all();
    if free > 0 && forbidden(pid) { 0 } else { free }
}

/// How much room for swap the machine has, whoever may use it.
pub fn room_of_all() -> u64 {
    let swaps = read_bounded("/proc/swaps", MAX_FILE).unwrap_or_default();
    free_bytes(&String::from_utf8_lossy(&swaps))
}

/// The free space in the text of /proc/swaps: name, type, size and used (in KiB), priority.
///
/// Names are escaped by the kernel (mm/swapfile.c:swap_show), so that a blank ends one.
fn free_bytes(swaps: &str) -> u64 {
    let free = |line: &str| {
        let mut words = line.split_ascii_whitespace().skip(2);
        let size: u64 = words.next()?.parse().ok()?;
        let used: u64 = words.next()?.parse().ok()?;
        Some(size.saturating_sub(used).saturating_mul(1024))
    };
    // What cannot be understood is taken for room: it is there, after all.
    swaps
        .lines()
        .skip(1)
        .fold(0, |sum, line| sum.saturating_add(free(line).unwrap_or(1)))
}

/// Whether cgroup v2 gives the process no swap at all: memory.swap.max is 0 in its cgroup or one above.
///
/// Where any of that can't be told, it is not forbidden.
fn forbidden(pid: u32) -> bool {
    let file = |name: &str| {
        let bytes = read_bounded(format!("/proc/{name}"), MAX_FILE).ok()?;
        String::from_utf8(bytes).ok()
    };
    let dir = || cgroup_dir(&file(&format!("{pid}/cgroup"))?, &file("self/mountinfo")?);
    dir().is_some_and(|(root, below)| forbidden_in(&root, &below))
}

/// Where cgroup v2 is mounted, and the process's own directory below it.
fn cgroup_dir(cgroup: &str, mountinfo: &str) -> Option<(PathBuf, PathBuf)> {
    let below = cgroup.lines().find_map(|line| line.strip_prefix("0::/"))?;
    // A cgroup outside of our namespace begins with `..`, and a removed one ends in a remark.
    if below.split('/').any(|part| part == "..") || below.ends_with(" (deleted)") {
        return None;
    }
    let root = mountinfo.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (from, to) = (fields.next()?, fields.next()?);
        (kind.starts_with("cgroup2 ") && from == "/" && !to.contains('\\')).then_some(to)
    })?;
    Some((root.into(), below.into()))
}

fn forbidden_in(root: &Path, below: &Path) -> bool {
    below
        .ancestors()
        .map(|dir| root.join(dir).join("memory.swap.max"))
        .any(|path| read_word(path).is_ok_and(|max| max == "0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADING: &str = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n";

    #[test]
    fn room_is_what_the_areas_have_free() {
        assert_eq!(free_bytes(""), 0);
        assert_eq!(free_bytes(HEADING), 0);
        let partition =
            "/dev/dm-1                               partition\t8388604\t\t1048576\t\t-2\n";
        let file = "/swap\\040file                           file\t\t1024\t\t1024\t\t-3\n";
        assert_eq!(
            free_bytes(&format!("{HEADING}{partition}{file}")),
            (8_388_604 - 1_048_576) * 1024
        );
        assert_eq!(free_bytes(&format!("{HEADING}{file}")), 0);
    }

    #[test]
    fn an_area_that_is_not_understood_counts_as_room() {
        assert_eq!(free_bytes(&format!("{HEADING}new format\n")), 1);
    }

    #[test]
    fn the_cgroup_is_found_where_version_2_is_mounted_whole() {
        let mounts = "24 1 0:22 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
            25 1 0:23 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n";
        let found = cgroup_dir("1:cpu:/x\n0::/a.slice/b\n", mounts).unwrap();
        assert_eq!(
            found,
            (PathBuf::from("/sys/fs/cgroup"), PathBuf::from("a.slice/b"))
        );
        let bound = "25 1 0:23 /part /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        assert_eq!(cgroup_dir("0::/a\n", bound), None);
        assert_eq!(cgroup_dir("0::/../a\n", mounts), None);
        assert_eq!(cgroup_dir("0::/a (deleted)\n", mounts), None);
        assert_eq!(cgroup_dir("4:memory:/a\n", mounts), None);
    }

    #[test]
    fn a_limit_of_zero_in_any_directory_above_forbids_swap() {
        let root = std::env::temp_dir().join(format!("memtrace-swap-{}", std::process::id()));
        let below = Path::new("a/b");
        std::fs::create_dir_all(root.join(below)).unwrap();
        let set = |dir: &str, max: &str| {
            std::fs::write(root.join(dir).join("memory.swap.max"), max).unwrap();
        };
        set("a/b", "max\n");
        set("a", "1048576\n");
        let first = forbidden_in(&root, below);
        set("a", "0\n");
        let second = forbidden_in(&root, below);
        std::fs::remove_dir_all(&root).unwrap();
        assert_eq!((first, second), (false, true));
    }
}
