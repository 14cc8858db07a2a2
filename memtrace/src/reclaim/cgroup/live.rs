//! The cgroup of a process as it is: where it is, who is in it, and its memory.reclaim.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::{Kernel, Plan};
use crate::output::escape;
use crate::proc::cgroup::place::{self, Charged, Place};
use crate::proc::read_word;
use crate::proc::smaps::Rollup;
use crate::reclaim::kernel::Live;
use crate::reclaim::swap;
use crate::reclaim::work::Kernel as _;
use crate::units::{Bytes, counted};

/// Columns that a directory's name may take in a message.
const DIR_COLUMNS: usize = 200;

/// Why nothing is asked of a cgroup.
#[derive(Debug)]
pub(in crate::reclaim) enum Refusal {
    /// No version 2, or outside of our namespace.
    NotSeen,
    /// Version 2 is there, and the memory controller is not in it.
    NoController(PathBuf),
    /// It is, without memory.reclaim.
    TooOld(PathBuf),
    Denied(PathBuf, io::Error),
    Shared {
        dir: PathBuf,
        others: u64,
        ourselves: bool,
    },
    /// The kernel does not take swappiness=0, and there is room for swap.
    Swap(u64),
    Read(io::Error),
    Failed(PathBuf, io::Error),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSeen => f.write_str(
                "its cgroup v2 directory is not visible here (no cgroup2 mount, or another cgroup namespace): \
                 run memtrace on the host, or use --method pageout",
            ),
            Self::NoController(dir) => write!(
                f,
                "the memory controller is not enabled in {} or above (version 1 of cgroups may have it, which has no \
                 memory.reclaim): use --method pageout",
                shown(dir)
            ),
            Self::TooOld(dir) => write!(
                f,
                "{} has no memory.reclaim: the kernel is older than 5.19; use --method pageout",
                shown(dir)
            ),
            Self::Denied(dir, error) => write!(
                f,
                "{}/memory.reclaim cannot be written: {error}; run memtrace with sudo (in a container: on the host)",
                shown(dir)
            ),
            Self::Shared {
                dir,
                others,
                ourselves,
            } => {
                let them = counted(*others, "other process");
                let who = match (*others, ourselves) {
                    (1, true) => "memtrace itself is".to_owned(),
                    (1, false) => format!("{them} is"),
                    (_, true) => format!("{them}, memtrace among them, are"),
                    (_, false) => format!("{them} are"),
                };
                write!(
                    f,
                    "{who} in its cgroup too ({}), whose page cache would be taken with the rest: \
                     --whole-cgroup accepts that",
                    shown(dir)
                )
            }
            Self::Swap(room_bytes) => write!(
                f,
                "swap has {} free, and this kernel's memory.reclaim does not take swappiness=0 (Linux 6.9), so that memory \
                 in use could go there; --allow-swap accepts that, swapoff -a avoids it",
                Bytes(*room_bytes)
            ),
            Self::Read(error) if error.raw_os_error() == Some(libc::EACCES) => f.write_str(
                "its smaps or cgroup may not be read: CAP_SYS_PTRACE is missing; run memtrace with sudo",
            ),
            Self::Read(error) => write!(f, "its cgroup cannot be read: {error}"),
            Self::Failed(dir, error) => {
                write!(f, "{}/memory.reclaim: {error}", shown(dir))
            }
        }
    }
}

impl std::error::Error for Refusal {}

/// A directory's name is whatever its maker wanted.
pub(in crate::reclaim) fn shown(dir: &Path) -> String {
    escape(dir.as_os_str().as_encoded_bytes(), DIR_COLUMNS)
}

/// A cgroup that may be asked.
#[derive(Debug)]
pub(in crate::reclaim) struct Group {
    pub(in crate::reclaim) plan: Plan,
    file: File,
}

impl Group {
    /// Finds the cgroup that a process is charged to; `None` where the process has ended.
    ///
    /// # Errors
    /// Why it cannot be asked. That others are in it is not looked at: see [`Group::allowed`].
    pub(in crate::reclaim) fn of(pid: u32) -> Result<Option<Self>, Refusal> {
        let place = match place::of(pid) {
            Ok(place) => place.ok_or(Refusal::NotSeen)?,
            Err(error) if crate::proc::is_gone(&error) => return Ok(None),
            Err(error) => return Err(Refusal::Read(error)),
        };
        let dir = charged_to(&place)?;
        let mut file = OpenOptions::new()
            .write(true)
            .open(dir.join("memory.reclaim"))
            .map_err(|error| Refusal::Denied(dir.clone(), error))?;
        // Nothing is asked for: a kernel that does not know the word says so all the same.
        let swappiness = match file.write(b"0 swappiness=0") {
            Ok(_) => true,
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => false,
            Err(error) => return Err(Refusal::Denied(dir, error)),
        };
        let members = place::members(&dir).map_err(Refusal::Read)?;
        let others = members.iter().filter(|member| **member != pid).count() as u64;
        let swap_room_bytes = match (swappiness, others) {
            (true, _) => 0,
            (false, 0) => swap::room(pid),
            (false, _) => swap::room_of_all(),
        };
        Ok(Some(Self {
            plan: Plan {
                others,
                ourselves: members.contains(&std::process::id()),
                swappiness,
                swap_room_bytes,
                charged: place::charged(&dir),
                dir,
            },
            file,
        }))
    }

    /// Whether the user has accepted what it would do to others.
    ///
    /// # Errors
    /// What was not accepted.
    pub(in crate::reclaim) fn allowed(&self, whole: bool, swap: bool) -> Result<(), Refusal> {
        let plan = &self.plan;
        if plan.others > 0 && !whole {
            return Err(Refusal::Shared {
                dir: plan.dir.clone(),
                others: plan.others,
                ourselves: plan.ourselves,
            });
        }
        if plan.swap_room_bytes > 0 && !swap {
            return Err(Refusal::Swap(plan.swap_room_bytes));
        }
        Ok(())
    }

    /// What it is charged now.
    pub(in crate::reclaim) fn charged(&self) -> Charged {
        place::charged(&self.plan.dir)
    }

    /// Together with the process that is looked at.
    pub(in crate::reclaim) fn with<'a>(&'a mut self, live: &'a mut Live) -> impl Kernel + 'a {
        Asked {
            swappiness: self.plan.swappiness,
            file: &mut self.file,
            live,
        }
    }
}

/// The nearest directory upwards that has the memory controller: what is below is charged to it.
fn charged_to(place: &Place) -> Result<PathBuf, Refusal> {
    let mut own = None;
    for dir in place.upwards() {
        if dir.join("memory.reclaim").exists() {
            return Ok(dir);
        }
        // The root lists what could be enabled, and has no memory.current.
        let controllers = read_word(dir.join("cgroup.controllers")).unwrap_or_default();
        if controllers.split(' ').any(|one| one == "memory") {
            return Err(Refusal::TooOld(dir));
        }
        own.get_or_insert(dir);
    }
    Err(own.map_or(Refusal::NotSeen, Refusal::NoController))
}

struct Asked<'a> {
    swappiness: bool,
    file: &'a mut File,
    live: &'a mut Live,
}

impl Kernel for Asked<'_> {
    fn reclaim(&mut self, bytes: u64) -> io::Result<()> {
        let text = match self.swappiness {
            true => format!("{bytes} swappiness=0"),
            false => bytes.to_string(),
        };
        // One write is one request.
        self.file.write(text.as_bytes()).map(drop)
    }

    fn sums(&mut self) -> io::Result<Option<Rollup>> {
        self.live.sums()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(others: u64, swap_room_bytes: u64) -> Group {
        Group {
            plan: Plan {
                dir: "/sys/fs/cgroup/a\x1bb".into(),
                others,
                ourselves: others > 1,
                swappiness: swap_room_bytes == 0,
                swap_room_bytes,
                charged: Charged::default(),
            },
            file: OpenOptions::new().write(true).open("/dev/null").unwrap(),
        }
    }

    #[test]
    fn others_in_the_cgroup_are_counted_and_must_be_accepted() {
        assert!(group(0, 0).allowed(false, false).is_ok());
        assert!(group(3, 0).allowed(true, false).is_ok());
        let one = group(1, 0).allowed(false, true).unwrap_err().to_string();
        assert!(one.starts_with("1 other process is in its cgroup"), "{one}");
        assert!(
            one.contains("a\\u{1b}b") && one.contains("--whole-cgroup"),
            "{one}"
        );
        let three = group(3, 0).allowed(false, true).unwrap_err().to_string();
        assert!(
            three.starts_with("3 other processes, memtrace among them, are in"),
            "{three}"
        );
    }

    #[test]
    fn swap_must_be_accepted_where_the_kernel_cannot_leave_it_alone() {
        let refused = group(0, 2 << 30)
            .allowed(true, false)
            .unwrap_err()
            .to_string();
        assert!(
            refused.contains("swap has 2.00G free") && refused.contains("--allow-swap"),
            "{refused}"
        );
        assert!(group(0, 2 << 30).allowed(true, true).is_ok());
    }

    #[test]
    fn every_refusal_says_what_to_do() {
        let dir = || PathBuf::from("/x");
        let error = || io::Error::from_raw_os_error(libc::EROFS);
        for (refusal, named) in [
            (Refusal::NotSeen, "--method pageout"),
            (Refusal::NoController(dir()), "--method pageout"),
            (Refusal::TooOld(dir()), "5.19"),
            (Refusal::Denied(dir(), error()), "sudo"),
            (
                Refusal::Read(io::Error::from_raw_os_error(libc::EACCES)),
                "CAP_SYS_PTRACE",
            ),
        ] {
            let text = refusal.to_string();
            assert!(text.contains(named), "{text}");
        }
    }
}
