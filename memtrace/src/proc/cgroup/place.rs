//! Where a process is in the hierarchy of cgroup version 2, who else is there, and what it is charged.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use super::{MAX_MOUNTINFO, located, memberships, number, stat_value};
use crate::proc::read_bounded;

/// Longer than any list of a cgroup's processes, in bytes.
const MAX_PROCS: u64 = 64 << 20;
/// Directories below one that are looked into.
const MAX_DIRECTORIES: usize = 100_000;

/// A directory of version 2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    mount: PathBuf,
    below: PathBuf,
}

/// What a cgroup is charged, in bytes. Not known is not 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Charged {
    /// The root has no such figure.
    pub current_bytes: Option<u64>,
    /// Page cache, shared memory included. Lazily freed pages count as anonymous.
    pub file_bytes: Option<u64>,
    /// The list that reclaim takes first: page cache that is not in use, and what is lazily free.
    pub inactive_file_bytes: Option<u64>,
}

/// The cgroup of a process; `None` where version 2 is not mounted, or the cgroup is not to be seen
/// from this namespace.
///
/// # Errors
/// Those of reading /proc/PID/cgroup: ENOENT or ESRCH for a process that has ended.
pub fn of(pid: u32) -> io::Result<Option<Place>> {
    let text = read_bounded(format!("/proc/{pid}/cgroup"), 64 * 1024)?;
    let mounts = read_bounded("/proc/self/mountinfo", MAX_MOUNTINFO)?;
    let own = memberships(&text).into_iter().find(|one| one.version == 2);
    let found = own.and_then(|own| located(&mounts, &own));
    Ok(found.map(|(mount, below)| Place { mount, below }))
}

impl Place {
    /// Its own directory and those above, up to the root of what is mounted.
    pub fn upwards(&self) -> impl Iterator<Item = PathBuf> + '_ {
        self.below.ancestors().map(|below| {
            // Joining nothing would leave a slash at the end.
            if below.as_os_str().is_empty() {
                self.mount.clone()
            } else {
                self.mount.join(below)
            }
        })
    }
}

/// The processes of a cgroup and of those below it. One of another pid namespace is 0.
///
/// # Errors
/// Those of reading its own cgroup.procs.
pub fn members(dir: &Path) -> io::Result<Vec<u32>> {
    let mut known = BTreeSet::new();
    let mut foreign = Vec::new();
    let mut todo = vec![dir.to_path_buf()];
    let mut seen = 0;
    while let Some(next) = todo.pop() {
        seen += 1;
        match read_bounded(next.join("cgroup.procs"), MAX_PROCS) {
            Ok(text) => {
                for pid in pids(&text) {
                    if pid == 0 {
                        foreign.push(pid);
                    } else {
                        known.insert(pid);
                    }
                }
            }
            // Below, a cgroup may have gone meanwhile, or be a threaded one, whose processes are
            // listed further up.
            Err(_) if next != dir => {}
            Err(error) => return Err(error),
        }
        let Ok(entries) = std::fs::read_dir(&next) else {
            continue;
        };
        for entry in entries.flatten() {
            let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if is_dir && seen + todo.len() < MAX_DIRECTORIES {
                todo.push(entry.path());
            }
        }
    }
    foreign.extend(known);
    Ok(foreign)
}

fn pids(text: &[u8]) -> impl Iterator<Item = u32> + '_ {
    text.split(|&b| b == b'\n')
        .filter_map(|line| std::str::from_utf8(line).ok()?.parse().ok())
}

/// Reads what the cgroup of a directory is charged.
pub fn charged(dir: &Path) -> Charged {
    let current = read_bounded(dir.join("memory.current"), 64);
    let stat = read_bounded(dir.join("memory.stat"), 64 * 1024).unwrap_or_default();
    Charged {
        current_bytes: current.ok().and_then(|text| number(&text)),
        file_bytes: stat_value(&stat, "file"),
        inactive_file_bytes: stat_value(&stat, "inactive_file"),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn processes_of_cgroups_below_are_members_too() {
        let root = std::env::temp_dir().join(format!("memtrace-members-{}", std::process::id()));
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::create_dir_all(root.join("threaded")).unwrap();
        fs::write(root.join("cgroup.procs"), "12\n7\n0\n").unwrap();
        fs::write(root.join("a/cgroup.procs"), "").unwrap();
        fs::write(root.join("a/b/cgroup.procs"), "9\n7\n").unwrap();
        fs::write(
            root.join("memory.stat"),
            "anon 1\nfile 4096\ninactive_file 8192\n",
        )
        .unwrap();
        let found = (members(&root), charged(&root));
        let missing = members(&root.join("none"));
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(found.0.unwrap(), [0, 7, 9, 12]);
        let expected = Charged {
            current_bytes: None,
            file_bytes: Some(4096),
            inactive_file_bytes: Some(8192),
        };
        assert_eq!(found.1, expected);
        assert!(missing.is_err());
    }

    #[test]
    fn directories_go_from_its_own_to_the_mount() {
        let of = |below: &str| {
            let place = Place {
                mount: "/sys/fs/cgroup".into(),
                below: below.into(),
            };
            let all: Vec<_> = place.upwards().collect();
            all.iter()
                .map(|dir| dir.display().to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            of("a.slice/b"),
            [
                "/sys/fs/cgroup/a.slice/b",
                "/sys/fs/cgroup/a.slice",
                "/sys/fs/cgroup"
            ]
        );
        assert_eq!(of(""), ["/sys/fs/cgroup"]);
    }
}
