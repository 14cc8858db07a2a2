//! The threads that look: one for quick looks and one for thorough ones, so that a slow target keeps no other waiting.
//!
//! A call may hang in the kernel for as long as a target likes: its files may lie on a FUSE or network file
//! system whose server does not answer. A thread that hangs is left alone, and another one takes its place.
//! No thread is joined: the end of the process ends them all.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::found::Found;
use crate::clock;
use crate::runtime::Depth;
use crate::runtime::detect::Look;

/// Processes that may wait for a look in one lane; those of a fork bomb are not looked at.
const MAX_WAITING: usize = 256;
/// A look that has taken so much longer than it may hangs.
const SLACK_NS: u64 = 2_000_000_000;
/// Threads that may hang.
const MAX_HANGING: u32 = 8;

/// How a process is looked at: [`detect`](crate::runtime::detect::detect), or what a test has in its place.
pub(super) type Looker = dyn Fn(u32, Depth, &AtomicBool) -> Look + Send + Sync;

/// A process that is to be looked at, and whom the answer is for.
struct Asked {
    pid: u32,
    found: Found,
}

/// What a look told.
pub(super) struct Answer {
    found: Found,
    /// When it began.
    seen_ns: u64,
    look: Look,
    /// A more thorough look follows.
    more: bool,
}

impl Answer {
    pub(super) fn tell(self) {
        let Self {
            found,
            seen_ns,
            look,
            more,
        } = self;
        found.lock().take(seen_ns, look, more);
    }
}

pub(super) struct Lanes(Arc<Shared>);

struct Shared {
    lanes: Mutex<[Lane; 2]>,
    changed: Condvar,
    stop: AtomicBool,
    look: Box<Looker>,
    answers: Sender<Answer>,
}

/// The processes that wait for one kind of look, and the thread that makes it.
struct Lane {
    waiting: VecDeque<Asked>,
    /// The number of its thread; 0 where none was needed yet.
    thread: u32,
    /// When the look that is under way began.
    since_ns: Option<u64>,
    share: Share,
}

/// The share of one core that a lane may use, after a start without any limit.
#[derive(Clone, Copy)]
struct Share {
    /// CPU time that was used and not made up for by rest.
    used_ns: u64,
    at_ns: u64,
    /// How much of it needs no rest yet.
    free_ns: u64,
    /// One part of work takes so many parts of time.
    parts: u64,
}

impl Share {
    fn use_up(&mut self, cpu_ns: u64, now_ns: u64) {
        let rested_ns = now_ns.saturating_sub(self.at_ns) / self.parts;
        self.used_ns = self.used_ns.saturating_sub(rested_ns) + cpu_ns;
        self.at_ns = now_ns;
    }

    /// When it may work again.
    fn free_at_ns(&self) -> u64 {
        self.at_ns + self.used_ns.saturating_sub(self.free_ns) * self.parts
    }
}

impl Lane {
    fn new(depth: Depth) -> Self {
        let (free_ns, parts) = match depth {
            Depth::Quick => (2_000_000_000, 2),
            Depth::Thorough => (1_000_000_000, 4),
        };
        Self {
            waiting: VecDeque::new(),
            thread: 0,
            since_ns: None,
            share: Share {
                used_ns: 0,
                at_ns: 0,
                free_ns,
                parts,
            },
        }
    }

    fn hangs(&self, depth: Depth, now_ns: u64) -> bool {
        let most_ns = depth.time_ns() + SLACK_NS;
        self.since_ns
            .is_some_and(|since_ns| now_ns > since_ns + most_ns)
    }
}

impl Lanes {
    pub(super) fn new(look: Box<Looker>, answers: Sender<Answer>) -> Self {
        Self(Arc::new(Shared {
            lanes: Mutex::new([Lane::new(Depth::Quick), Lane::new(Depth::Thorough)]),
            changed: Condvar::new(),
            stop: AtomicBool::new(false),
            look,
            answers,
        }))
    }

    /// Has a process looked at; false if too many wait already, or no thread can be had.
    pub(super) fn push(&self, pid: u32, found: Found) -> bool {
        self.0.push(Asked { pid, found }, Depth::Quick)
    }

    /// Replaces the threads that hang at that time.
    pub(super) fn replace_hanging(&self, now_ns: u64) {
        for depth in [Depth::Quick, Depth::Thorough] {
            let mut lanes = self.0.lock();
            let lane = &mut lanes[depth as usize];
            if lane.hangs(depth, now_ns) && lane.thread <= MAX_HANGING {
                start(&self.0, lane, depth);
            }
        }
    }
}

impl Drop for Lanes {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
        self.0.changed.notify_all();
    }
}

/// Starts a lane's next thread; false if the system is out of threads.
fn start(shared: &Arc<Shared>, lane: &mut Lane, depth: Depth) -> bool {
    let name = match depth {
        Depth::Quick => "recognise",
        Depth::Thorough => "recognise-big",
    };
    let number = lane.thread + 1;
    let own = Arc::clone(shared);
    let started = std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || own.serve(depth, number));
    if started.is_ok() {
        lane.thread = number;
        lane.since_ns = None;
    }
    started.is_ok()
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, [Lane; 2]> {
        // No invariant spans a panic: a lane is valid after each statement.
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(self: &Arc<Self>, asked: Asked, depth: Depth) -> bool {
        let mut lanes = self.lock();
        let lane = &mut lanes[depth as usize];
        let served = lane.thread > 0 || start(self, lane, depth);
        if !served || lane.waiting.len() >= MAX_WAITING {
            return false;
        }
        lane.waiting.push_back(asked);
        self.changed.notify_all();
        true
    }

    /// What one thread does, until the end or until another one has its place.
    fn serve(self: &Arc<Self>, depth: Depth, number: u32) {
        while let Some((asked, seen_ns)) = self.next(depth, number) {
            let before_ns = clock::thread_cpu_ns();
            let look = (self.look)(asked.pid, depth, &self.stop);
            let cpu_ns = clock::thread_cpu_ns() - before_ns;
            let found = asked.found.clone();
            let more = depth == Depth::Quick && look.cut && self.push(asked, Depth::Thorough);
            let answer = Answer {
                found,
                seen_ns,
                look,
                more,
            };
            let heard = self.answers.send(answer).is_ok();
            let mut lanes = self.lock();
            let lane = &mut lanes[depth as usize];
            lane.share.use_up(cpu_ns, clock::now_ns());
            if !heard || lane.thread != number {
                return;
            }
            lane.since_ns = None;
        }
    }

    /// The next process, and when it was taken; waits for it.
    fn next(&self, depth: Depth, number: u32) -> Option<(Asked, u64)> {
        let mut lanes = self.lock();
        loop {
            let lane = &mut lanes[depth as usize];
            if self.stop.load(Ordering::Relaxed) || lane.thread != number {
                return None;
            }
            let now_ns = clock::now_ns();
            let rest_ns = lane.share.free_at_ns().saturating_sub(now_ns);
            lanes = if lane.waiting.is_empty() {
                let waited = self.changed.wait(lanes);
                waited.unwrap_or_else(PoisonError::into_inner)
            } else if rest_ns > 0 {
                let rest = Duration::from_nanos(rest_ns);
                let waited = self.changed.wait_timeout(lanes, rest);
                waited.unwrap_or_else(PoisonError::into_inner).0
            } else {
                lane.since_ns = Some(now_ns);
                let asked = lane.waiting.pop_front()?;
                return Some((asked, now_ns));
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_rests_when_it_has_used_up_what_is_free_and_no_longer_than_it_must() {
        let mut share = Share {
            used_ns: 0,
            at_ns: 0,
            free_ns: 100,
            parts: 4,
        };
        share.use_up(80, 1_000);
        assert_eq!(share.free_at_ns(), 1_000);
        share.use_up(80, 1_000);
        assert_eq!(share.free_at_ns(), 1_000 + 60 * 4);
        // Rest makes up for it.
        share.use_up(0, 1_000 + 160 * 4);
        assert_eq!((share.used_ns, share.free_at_ns()), (0, 1_640));
    }
}
