//! The memory cgroup of a process, version 1 or 2: what it is charged, and how much of that reclaim takes first.

pub mod headroom;
pub mod place;

use std::io;
use std::path::{Component, Path, PathBuf};

use super::{MAX_NAME, read_bounded};

/// More than /proc/self/mountinfo has on any sane machine; what lies beyond is not looked at.
const MAX_MOUNTINFO: u64 = 4 << 20;

/// What a memory cgroup says, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// 1 or 2.
    pub version: u8,
    /// As /proc/PID/cgroup shows it. Not escaped.
    pub path: String,
    pub usage_bytes: u64,
    pub inactive_file_bytes: u64,
    /// None: no limit.
    pub limit_bytes: Option<u64>,
}

/// Where the memory controller of a process is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Membership {
    version: u8,
    path: String,
}

/// Reads what the memory cgroup of a process says; `None` where there is none, it is the root one
/// (which has no figures of its own), or it is not to be seen from here.
///
/// # Errors
/// Those of reading /proc/PID/cgroup: ENOENT or ESRCH for a process that has ended.
pub fn usage(pid: u32) -> io::Result<Option<Usage>> {
    let text = read_bounded(format!("/proc/{pid}/cgroup"), 64 * 1024)?;
    let mounts = read_bounded("/proc/self/mountinfo", MAX_MOUNTINFO)?;
    // Version 1 first: where it has the memory controller, version 2 has not.
    Ok(memberships(&text).into_iter().find_map(|membership| {
        let dir = directory(&mounts, &membership)?;
        read(&dir, membership)
    }))
}

fn read(dir: &Path, membership: Membership) -> Option<Usage> {
    let number = |name: &str| number(&read_bounded(dir.join(name), 64).ok()?);
    let stat = read_bounded(dir.join("memory.stat"), 64 * 1024).ok()?;
    let (usage, limit, inactive) = if membership.version == 1 {
        (
            "memory.usage_in_bytes",
            "memory.limit_in_bytes",
            "total_inactive_file",
        )
    } else {
        ("memory.current", "memory.max", "inactive_file")
    };
    Some(Usage {
        usage_bytes: number(usage)?,
        inactive_file_bytes: stat_value(&stat, inactive)?,
        // Version 1 shows no limit as the largest number of pages (mm/page_counter.c).
        limit_bytes: number(limit).filter(|limit| *limit < 1 << 62),
        version: membership.version,
        path: membership.path,
    })
}

/// The groups of a process that may have the memory controller, version 1 before version 2.
fn memberships(text: &[u8]) -> Vec<Membership> {
    let mut found = Vec::new();
    for line in text.split(|&b| b == b'\n') {
        let line = String::from_utf8_lossy(line);
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        if path.len() > MAX_NAME || !path.starts_with('/') {
            continue;
        }
        let version = match controllers {
            "" => 2,
            _ if controllers.split(',').any(|one| one == "memory") => 1,
            _ => continue,
        };
        found.push(Membership {
            version,
            path: path.to_owned(),
        });
    }
    found.sort_by_key(|membership| membership.version);
    found
}

/// The directory of a group in this process's own mounts.
fn directory(mountinfo: &[u8], membership: &Membership) -> Option<PathBuf> {
    let (mount, below) = located(mountinfo, membership)?;
    Some(mount.join(below))
}

/// Where its hierarchy is mounted, and the group's own path below that.
fn located(mountinfo: &[u8], membership: &Membership) -> Option<(PathBuf, PathBuf)> {
    let text = String::from_utf8_lossy(mountinfo);
    text.lines().find_map(|line| {
        // proc_pid_mountinfo(5): after ` - ` the type, the source and the superblock's options.
        let (mount, superblock) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(3);
        let (root, point) = (unescape(mount.next()?), unescape(mount.next()?));
        let mut superblock = superblock.split(' ');
        let kind = superblock.next()?;
        let options = superblock.nth(1).unwrap_or("");
        let fits = match membership.version {
            1 => kind == "cgroup" && options.split(',').any(|one| one == "memory"),
            _ => kind == "cgroup2",
        };
        if !fits {
            return None;
        }
        let below = Path::new(&membership.path).strip_prefix(&root).ok()?;
        // A group outside of our cgroup namespace is shown by `..`.
        let plain = below
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
        plain.then(|| (PathBuf::from(&point), below.to_path_buf()))
    })
}

/// Blanks and the like in mountinfo are three octal digits behind a backslash.
fn unescape(text: &str) -> String {
    [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ]
    .iter()
    .fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

/// A file that holds one number; `None` for `max`.
fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.trim().parse().ok()
}

/// The value of a key in a memory.stat file.
fn stat_value(text: &[u8], key: &str) -> Option<u64> {
    text.split(|&b| b == b'\n').find_map(|line| {
        let (name, value) = std::str::from_utf8(line).ok()?.split_once(' ')?;
        (name == key).then(|| value.trim().parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const V1: &[u8] = b"9:name=systemd:/\n4:memory:/pods/a b\n1:cpu,cpuacct:/x\n0::/unified\n";
    const MOUNTS: &[u8] = b"\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
36 31 0:33 /pods /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/uni\\040fied rw,relatime shared:4 - cgroup2 cgroup2 rw
";

    #[test]
    fn the_memory_controller_of_version_1_comes_first() {
        let found = memberships(V1);
        let shown: Vec<_> = found.iter().map(|m| (m.version, &m.path[..])).collect();
        assert_eq!(shown, [(1, "/pods/a b"), (2, "/unified")]);
    }

    #[test]
    fn a_group_is_found_below_the_root_of_its_mount() {
        let at = |version, path: &str| {
            let membership = Membership {
                version,
                path: path.to_owned(),
            };
            directory(MOUNTS, &membership).map(|dir| dir.display().to_string())
        };
        assert_eq!(
            at(1, "/pods/a b").as_deref(),
            Some("/sys/fs/cgroup/memory/a b")
        );
        assert_eq!(at(1, "/pods").as_deref(), Some("/sys/fs/cgroup/memory/"));
        assert_eq!(at(1, "/elsewhere"), None);
        assert_eq!(at(2, "/x").as_deref(), Some("/sys/fs/cgroup/uni fied/x"));
        assert_eq!(at(2, "/../other"), None);
    }

    #[test]
    fn figures_are_read_from_either_version() {
        let dir = std::env::temp_dir().join(format!("memtrace-cgroup-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.join(name), text).unwrap();
        write("memory.current", "1000\n");
        write("memory.max", "max\n");
        write("memory.usage_in_bytes", "2000\n");
        write("memory.limit_in_bytes", "9223372036854771712\n");
        write(
            "memory.stat",
            "anon 5\ninactive_file 300\ninactive_file_x 1\ntotal_inactive_file 400\n",
        );
        let of = |version| {
            let path = "/x".to_owned();
            read(&dir, Membership { version, path }).unwrap()
        };
        let (v1, v2) = (of(1), of(2));
        assert_eq!((v1.usage_bytes, v1.inactive_file_bytes), (2000, 400));
        assert_eq!((v2.usage_bytes, v2.inactive_file_bytes), (1000, 300));
        assert_eq!((v1.limit_bytes, v2.limit_bytes), (None, None));
        write("memory.max", "4096\n");
        assert_eq!(of(2).limit_bytes, Some(4096));
        std::fs::remove_dir_all(&dir).unwrap();
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
            let found = memberships(&bytes);
            for membership in &found {
                directory(&bytes, membership);
                directory(MOUNTS, membership);
            }
            stat_value(&bytes, "x");
            number(&bytes);
        }
    }
}
