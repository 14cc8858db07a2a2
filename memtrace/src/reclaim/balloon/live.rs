//! The machine that a balloon is blown in: what it has room for, and the worker that holds the memory.

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::ops::ControlFlow;
use std::os::fd::AsRawFd as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{Answer, Blown, Machine, Plan, worker};
use crate::proc::cgroup::headroom;
use crate::proc::meminfo::{self, MemInfo};
use crate::proc::pressure::{self, Pressure};
use crate::proc::smaps::Rollup;
use crate::proc::vmstat;
use crate::reclaim::kernel::Live;
use crate::reclaim::work::Kernel as _;
use crate::units::Bytes;

/// The least that is left to others, whatever the machine's size.
const LEAST_FLOOR: u64 = 256 << 20;
/// The floor is this part of all memory.
const FLOOR_PART: u64 = 20;
/// In a cgroup with a limit nothing is taken before that is reached: so only this part of it stays.
const GROUP_FLOOR_PART: u64 = 64;
/// How long an answer is waited for before other things are looked at, in ms.
const WAIT_MS: i32 = 50;
/// A worker that has not said a word by then is given up.
const PATIENCE: Duration = Duration::from_secs(20);

/// What may still be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::reclaim) struct Room {
    pub(in crate::reclaim) free_bytes: u64,
    /// MemAvailable.
    pub(in crate::reclaim) available_bytes: u64,
    /// Of MemAvailable less LazyFree so much is left to others.
    pub(in crate::reclaim) floor_bytes: u64,
    /// Of the tightest cgroup that memtrace, and so its balloon, is in.
    pub(in crate::reclaim) group: Option<GroupRoom>,
}

/// Within a cgroup that has a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::reclaim) struct GroupRoom {
    pub(in crate::reclaim) limit_bytes: u64,
    pub(in crate::reclaim) free_bytes: u64,
    /// With what can be taken in it without swap, lazily free memory included.
    pub(in crate::reclaim) room_bytes: u64,
}

impl GroupRoom {
    pub(in crate::reclaim) fn floor_bytes(&self) -> u64 {
        self.limit_bytes / GROUP_FLOOR_PART
    }

    pub(in crate::reclaim) fn left_bytes(&self) -> u64 {
        self.room_bytes.saturating_sub(self.floor_bytes())
    }
}

/// Reads what there is room for, and the machine's page cache.
///
/// # Errors
/// Those of reading /proc/meminfo.
pub(in crate::reclaim) fn rooms() -> io::Result<(Room, MemInfo)> {
    let info = meminfo::read()?;
    // A cgroup that cannot be seen limits nothing that we could know.
    let group = headroom::tightest(std::process::id()).ok().flatten();
    let room = Room {
        free_bytes: info.free_bytes,
        available_bytes: info.available_bytes,
        floor_bytes: (info.total_bytes / FLOOR_PART).max(LEAST_FLOOR),
        group: group.map(|group| GroupRoom {
            limit_bytes: group.limit_bytes,
            free_bytes: group.free_bytes,
            room_bytes: group.room_bytes,
        }),
    };
    Ok((room, info))
}

/// Why no balloon was blown.
#[derive(Debug)]
pub(in crate::reclaim) enum Refusal {
    /// There is room for swap, whosever memory would go there.
    Swap(u64),
    Worker(io::Error),
    WorkerEnded,
    Failed(io::Error),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Swap(room_bytes) => write!(
                f,
                "swap has {} free, and a balloon would send memory in use of any process there; --allow-swap accepts \
                 that, swapoff -a avoids it",
                Bytes(*room_bytes)
            ),
            Self::Worker(error) => write!(f, "the balloon's process cannot be started: {error}"),
            Self::WorkerEnded => f.write_str("the balloon's process ended before it took anything"),
            Self::Failed(error) => {
                write!(
                    f,
                    "the balloon was let go, since something cannot be read: {error}"
                )
            }
        }
    }
}

impl std::error::Error for Refusal {}

/// Blows a balloon beside a process, and lets it go.
///
/// # Errors
/// Where there is no worker, or /proc cannot be read.
pub(in crate::reclaim) fn blow_live(
    live: &mut Live,
    before: Rollup,
    plan: &Plan,
    watch: impl FnMut(u64) -> ControlFlow<()>,
) -> Result<Blown, Refusal> {
    let mut here = Here {
        live,
        worker: Worker::start()?,
    };
    super::blow(&mut here, before, plan.max_bytes, watch).map_err(Refusal::Failed)
}

struct Here<'a> {
    live: &'a mut Live,
    worker: Worker,
}

impl Machine for Here<'_> {
    fn sums(&mut self) -> io::Result<Option<Rollup>> {
        self.live.sums()
    }

    fn lazyfreed_bytes(&mut self) -> Option<u64> {
        vmstat::lazyfreed_bytes().ok()
    }

    fn room(&mut self) -> io::Result<Room> {
        rooms().map(|(room, _)| room)
    }

    fn pressure(&mut self) -> Option<Pressure> {
        pressure::memory().ok()
    }

    fn grow(&mut self, bytes: u64) -> io::Result<()> {
        let Some(stdin) = &mut self.worker.child.stdin else {
            return Ok(());
        };
        match stdin.write_all(format!("{bytes}\n").as_bytes()) {
            // It has ended: its answer tells how.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            result => result,
        }
    }

    fn answer(&mut self) -> io::Result<Answer> {
        let Some(line) = self.worker.line()? else {
            return Ok(Answer::Busy);
        };
        let mut words = line.split(' ');
        let word = words.next();
        let number = words.next().and_then(|number| number.parse::<u64>().ok());
        Ok(match (word, number) {
            (Some("holds"), Some(bytes)) => Answer::Holds(bytes),
            (Some("refused"), Some(errno)) => Answer::NoMemory(errno as i32),
            _ => Answer::Ended(self.worker.child.wait()?.signal()),
        })
    }

    fn rest(&mut self, time: Duration) {
        std::thread::sleep(time);
    }

    fn release(&mut self) {
        self.worker.end();
    }
}

/// Ends, and frees what it holds, with its guard. Should memtrace itself be killed, the kernel
/// kills it in its turn.
struct Worker {
    child: Child,
    /// Of a line that is not whole yet.
    heard: Vec<u8>,
}

impl Worker {
    fn start() -> Result<Self, Refusal> {
        // Not by name: the file may have been replaced by another version.
        let child = Command::new("/proc/self/exe")
            .arg0("memtrace")
            .arg("balloon-worker")
            .arg(std::process::id().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(Refusal::Worker)?;
        let mut worker = Self {
            child,
            heard: Vec::new(),
        };
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            match worker.line().map_err(Refusal::Worker)? {
                Some(word) if word == worker::READY => return Ok(worker),
                Some(word) => {
                    return Err(match word.strip_prefix(worker::FAILED) {
                        Some(why) => Refusal::Worker(io::Error::other(why.to_owned())),
                        None => Refusal::WorkerEnded,
                    });
                }
                None => {}
            }
        }
        Err(Refusal::WorkerEnded)
    }

    /// Waits a little for a whole line; an empty one is the end.
    fn line(&mut self) -> io::Result<Option<String>> {
        let Some(stdout) = &mut self.child.stdout else {
            return Ok(Some(String::new()));
        };
        let mut poll = libc::pollfd {
            fd: stdout.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: the one entry is ours.
        if unsafe { libc::poll(&mut poll, 1, WAIT_MS) } <= 0 {
            // Nothing yet, or a signal, which whoever watches knows of.
            return Ok(None);
        }
        let mut bytes = [0; 256];
        let read = match stdout.read(&mut bytes) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(None),
            read => read?,
        };
        if read == 0 {
            return Ok(Some(String::new()));
        }
        self.heard.extend_from_slice(&bytes[..read]);
        let Some(end) = self.heard.iter().position(|&byte| byte == b'\n') else {
            return Ok(None);
        };
        let line: Vec<u8> = self.heard.drain(..=end).collect();
        Ok(Some(String::from_utf8_lossy(&line).trim_end().to_owned()))
    }

    fn end(&mut self) {
        // Killing by pid is safe: it has not been reaped, or kill does nothing. Its memory is free
        // once it can be reaped.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_has_a_floor_of_a_twentieth_and_256m_at_least() {
        let (room, info) = rooms().unwrap();
        assert_eq!(room.floor_bytes, (info.total_bytes / 20).max(256 << 20));
        assert!(room.available_bytes <= info.total_bytes);
    }

    #[test]
    fn of_a_cgroups_room_a_part_of_its_limit_stays() {
        let group = GroupRoom {
            limit_bytes: 64 << 20,
            free_bytes: 0,
            room_bytes: 9 << 20,
        };
        assert_eq!(group.left_bytes(), 8 << 20);
        assert_eq!(
            GroupRoom {
                room_bytes: 1,
                ..group
            }
            .left_bytes(),
            0
        );
    }

    #[test]
    fn a_refusal_over_swap_says_what_to_do() {
        let text = Refusal::Swap(1 << 30).to_string();
        assert!(
            text.contains("1.00G free") && text.contains("--allow-swap"),
            "{text}"
        );
    }
}
