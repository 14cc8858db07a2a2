//! `--method balloon`: how far it grows, how fast, and when it is let go. The machine is behind a trait.

mod live;
mod notes;
mod worker;

use std::io;
use std::ops::ControlFlow;
use std::time::Duration;

pub(super) use live::{Refusal, Room, blow_live, rooms};
pub use worker::run as be_worker;

use crate::proc::page_bytes;
use crate::proc::pressure::Pressure;
use crate::proc::smaps::Rollup;

/// The least that it grows by, but for the last bit.
const SMALLEST_STEP: u64 = 16 << 20;
/// And the most.
const LARGEST_STEP: u64 = 256 << 20;
/// A step is this part of what is lazily free, so that looks at smaps stay few.
const STEP_PART: u64 = 32;
/// After so many steps it looks in any case.
const STEPS_UNSEEN: u32 = 16;
/// Less room than this is none.
const LEAST_ROOM: u64 = 1 << 20;
/// The balloon's own waiting for memory counts as pressure too, where nobody else runs: so it rests
/// this many times as long as everybody stood still, and keeps pressure below a tenth by itself.
const REST: u64 = 9;
const LONGEST_REST: Duration = Duration::from_secs(10);
/// Between two looks at whether to stop.
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);
/// `full avg10` may rise by so much, in hundredths of a percent.
const PRESSURE_RISE: u32 = 1000;

/// What the worker says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It still touches its pages.
    Busy,
    Holds(u64),
    /// The kernel refused it address space, with this errno.
    NoMemory(i32),
    /// It has ended, by this signal if by one.
    Ended(Option<i32>),
}

/// Where the balloon is blown.
pub(super) trait Machine {
    /// Of the process that is meant; `None` where it has ended.
    fn sums(&mut self) -> io::Result<Option<Rollup>>;
    /// What the machine has lost of lazily free memory since boot; `None` where it does not count.
    fn lazyfreed_bytes(&mut self) -> Option<u64>;
    fn room(&mut self) -> io::Result<Room>;
    /// `None` where the kernel does not tell.
    fn pressure(&mut self) -> Option<Pressure>;
    /// Asks the worker to hold so much more.
    fn grow(&mut self, bytes: u64) -> io::Result<()>;
    /// Waits a little for its answer.
    fn answer(&mut self) -> io::Result<Answer>;
    fn rest(&mut self, time: Duration);
    /// Frees everything.
    fn release(&mut self);
}

/// Why it grew no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Nothing is lazily free any more.
    Done,
    /// The most that the user allows.
    Max,
    /// MemAvailable less LazyFree.
    Floor,
    /// The limit of the cgroup that memtrace itself is in.
    GroupFloor,
    Pressure,
    /// The worker was killed, most likely by the OOM killer.
    Killed,
    /// It was refused more address space.
    NoMemory,
    /// The process has ended meanwhile.
    Gone,
    /// By whoever watches.
    Interrupted,
}

impl Ending {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Done => "lazyfree_gone",
            Self::Max => "max",
            Self::Floor => "floor",
            Self::GroupFloor => "cgroup_floor",
            Self::Pressure => "pressure",
            Self::Killed => "killed",
            Self::NoMemory => "no_memory",
            Self::Gone => "process_ended",
            Self::Interrupted => "signal",
        }
    }
}

/// What was known before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) max_bytes: u64,
    pub(super) room: Room,
    /// Without --allow-swap it would be refused where this is not 0.
    pub(super) swap_room_bytes: u64,
    /// Pressure is known, and stops it.
    pub(super) pressure_known: bool,
}

impl Plan {
    /// How far it may grow as things are, beside what is lazily free: that gives way as it grows.
    pub(super) fn reach_bytes(&self, lazyfree_bytes: u64) -> u64 {
        let others = self.room.available_bytes.saturating_sub(lazyfree_bytes);
        let machine = match others.saturating_sub(self.room.floor_bytes) {
            0 => 0,
            left => left.saturating_add(lazyfree_bytes),
        };
        let group = self.room.group.map_or(u64::MAX, |group| group.left_bytes());
        self.max_bytes.min(machine).min(group)
    }
}

/// What it was, and what came of it for the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Blown {
    pub(super) ending: Ending,
    /// `None` where the process has ended.
    pub(super) after: Option<Rollup>,
    /// At its largest.
    pub(super) held_bytes: u64,
    /// At its lowest, as far as it was seen.
    pub(super) available_bytes: Option<u64>,
    /// How long all tasks stood still for memory meanwhile; `None` where the kernel does not tell.
    pub(super) stalled_ns: Option<u64>,
}

/// All of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Work {
    pub(super) plan: Plan,
    pub(super) blown: Blown,
    /// Page cache of the machine.
    pub(super) cached_before_bytes: u64,
    pub(super) cached_after_bytes: u64,
}

/// Grows until nothing is lazily free any more, or something says stop; then frees everything.
///
/// # Errors
/// Those of reading /proc, and of the pipe to the worker.
pub(super) fn blow(
    machine: &mut impl Machine,
    before: Rollup,
    max_bytes: u64,
    mut watch: impl FnMut(u64) -> ControlFlow<()>,
) -> io::Result<Blown> {
    let mut balloon = Balloon {
        lazy_bytes: before.lazyfree_bytes,
        lazyfreed: machine.lazyfreed_bytes(),
        since_look: 0,
        begun: machine.pressure(),
        held_bytes: 0,
        available_bytes: None,
        machine,
    };
    let ending = balloon.grow(max_bytes, &mut watch);
    // Whatever came of it, and before anything else is read.
    let now = balloon.machine.pressure();
    balloon.machine.release();
    let stalled_ns = balloon
        .begun
        .zip(now)
        .map(|(begun, now)| now.full_total_ns.saturating_sub(begun.full_total_ns));
    let after = balloon.machine.sums()?;
    Ok(Blown {
        ending: match after {
            Some(_) => ending?,
            None => Ending::Gone,
        },
        after,
        held_bytes: balloon.held_bytes,
        available_bytes: balloon.available_bytes,
        stalled_ns,
    })
}

struct Balloon<'a, M> {
    machine: &'a mut M,
    /// At the last look.
    lazy_bytes: u64,
    /// The machine's count at the last look.
    lazyfreed: Option<u64>,
    /// Steps since then.
    since_look: u32,
    begun: Option<Pressure>,
    held_bytes: u64,
    available_bytes: Option<u64>,
}

impl<M: Machine> Balloon<'_, M> {
    fn grow(
        &mut self,
        max_bytes: u64,
        watch: &mut impl FnMut(u64) -> ControlFlow<()>,
    ) -> io::Result<Ending> {
        loop {
            if watch(self.held_bytes).is_break() {
                return Ok(Ending::Interrupted);
            }
            if self.is_pressed() {
                return Ok(Ending::Pressure);
            }
            // A look walks the process's page tables; while reclaim takes nothing it tells only
            // what the program uses again by itself.
            let moved =
                self.lazyfreed.is_none() || self.machine.lazyfreed_bytes() != self.lazyfreed;
            if (moved || self.since_look >= STEPS_UNSEEN)
                && let Some(ending) = self.look()?
            {
                return Ok(ending);
            }
            let page = page_bytes();
            if max_bytes.saturating_sub(self.held_bytes) < page {
                return Ok(Ending::Max);
            }
            let left = match self.left()? {
                Ok(left) => left,
                // What was lazily free may have been taken since the last look, or be in use again.
                Err(_) => match self.look()? {
                    Some(ending) => return Ok(ending),
                    None => match self.left()? {
                        Ok(left) => left,
                        Err(ending) => return Ok(ending),
                    },
                },
            };
            let step = (self.lazy_bytes / STEP_PART)
                .clamp(SMALLEST_STEP, LARGEST_STEP)
                .min(left)
                .min(max_bytes - self.held_bytes);
            if let Some(ending) = self.step(step - step % page, watch)? {
                return Ok(ending);
            }
        }
    }

    /// By how much it may grow now, or what forbids it.
    fn left(&mut self) -> io::Result<Result<u64, Ending>> {
        let room = self.machine.room()?;
        let lowest = self.available_bytes.unwrap_or(u64::MAX);
        self.available_bytes = Some(lowest.min(room.available_bytes));
        let others = room.available_bytes.saturating_sub(self.lazy_bytes);
        let machine = others.saturating_sub(room.floor_bytes);
        if machine < LEAST_ROOM {
            return Ok(Err(Ending::Floor));
        }
        let group = room.group.map_or(u64::MAX, |group| group.left_bytes());
        if group < LEAST_ROOM {
            return Ok(Err(Ending::GroupFloor));
        }
        Ok(Ok(machine.min(group)))
    }

    /// Looks at what is lazily free.
    fn look(&mut self) -> io::Result<Option<Ending>> {
        // Read first: what is taken meanwhile then asks for another look.
        self.lazyfreed = self.machine.lazyfreed_bytes();
        self.since_look = 0;
        let Some(now) = self.machine.sums()? else {
            return Ok(Some(Ending::Gone));
        };
        self.lazy_bytes = now.lazyfree_bytes;
        Ok((self.lazy_bytes == 0).then_some(Ending::Done))
    }

    fn is_pressed(&mut self) -> bool {
        match (self.begun, self.machine.pressure()) {
            (Some(begun), Some(now)) => now.full_avg10 >= begun.full_avg10 + PRESSURE_RISE,
            _ => false,
        }
    }

    /// One step, and the rest after it.
    fn step(
        &mut self,
        bytes: u64,
        watch: &mut impl FnMut(u64) -> ControlFlow<()>,
    ) -> io::Result<Option<Ending>> {
        let stalled = |pressure: Option<Pressure>| pressure.map_or(0, |now| now.full_total_ns);
        let before_ns = stalled(self.machine.pressure());
        self.machine.grow(bytes)?;
        self.since_look += 1;
        loop {
            match self.machine.answer()? {
                Answer::Holds(held) => {
                    self.held_bytes = held;
                    break;
                }
                Answer::NoMemory(_) => return Ok(Some(Ending::NoMemory)),
                // Ctrl-C is for the whole foreground group, and so for the worker too.
                Answer::Ended(Some(libc::SIGINT | libc::SIGTERM | libc::SIGHUP)) => {
                    return Ok(Some(Ending::Interrupted));
                }
                Answer::Ended(_) => return Ok(Some(Ending::Killed)),
                Answer::Busy if watch(self.held_bytes).is_break() => {
                    return Ok(Some(Ending::Interrupted));
                }
                Answer::Busy if self.is_pressed() => return Ok(Some(Ending::Pressure)),
                Answer::Busy => {}
            }
        }
        let stalled_ns = stalled(self.machine.pressure()).saturating_sub(before_ns);
        let mut rest = Duration::from_nanos(stalled_ns.saturating_mul(REST)).min(LONGEST_REST);
        while !rest.is_zero() {
            let part = rest.min(BETWEEN_LOOKS);
            self.machine.rest(part);
            rest -= part;
            if watch(self.held_bytes).is_break() {
                return Ok(Some(Ending::Interrupted));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests;
