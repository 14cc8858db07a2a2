//! The live source: a thread that takes records from the ring, and faults from the batches that are not in it
//! yet, into chunks, and says up to which time they are complete.

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::thread::JoinHandle;
use std::time::Duration;

use std::sync::Arc;

use anyhow::Context as _;
use bytes::{Bytes, BytesMut};
use memtrace_ebpf::{Pending, call};
use tokio::sync::mpsc;

use crate::attach::RingEnds;
use crate::clock;
use crate::ledger::advice::Advice;
use crate::ledger::event::Gap;
use batches::Batches;
use positions::Positions;

/// A chunk is handed on when it has grown to this, in bytes.
const CHUNK: usize = 256 * 1024;
/// Room for what the next look may bring; below it the buffer is made anew.
const LEAST_ROOM: usize = 16 * 1024;
/// Chunks that may wait for their consumer. Then the ring fills, and the kernel side counts what
/// it must drop: memory stays bounded, and the loss is known.
const QUEUE: usize = 64;
/// How long the reader sleeps between two looks at the ring, at the least and the most.
const BUSY_MS: i32 = 10;
const IDLE_MS: i32 = 50;
/// A program reads the clock a little before its record is in the ring.
const STAMP_TO_RING_NS: u64 = 5_000_000;
/// How long events wait for a call in flight.
const LONGEST_WAIT_NS: u64 = 2_000_000_000;
/// How often, and each time how long, a look waits for a record that is still being written.
const MOST_STALLS: u32 = 20;
const STALL: Duration = Duration::from_micros(50);

/// Records as they came, one behind the other.
#[derive(Clone, Debug, Default)]
pub struct Chunk {
    pub records: Bytes,
    /// Everything that happened before this time is in this chunk or an earlier one.
    pub complete_ns: u64,
    /// Something did not get into the ring: after the `complete_ns` of the chunk before.
    pub gap: Option<Gap>,
    /// At the end: the calls that have not ended, each by its process.
    pub unfinished: Vec<u32>,
}

mod batches;
mod positions;

/// The reader thread.
pub struct Source {
    pub chunks: mpsc::Receiver<Chunk>,
    stop: OwnedFd,
    thread: JoinHandle<io::Result<()>>,
}

impl Source {
    /// Starts reading.
    ///
    /// # Errors
    /// When the system is out of descriptors or threads.
    pub fn start(ends: RingEnds) -> anyhow::Result<Self> {
        let (to_consumer, chunks) = mpsc::channel(QUEUE);
        // SAFETY: eventfd takes integers and returns a descriptor of our own or -1.
        let stop = owned(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })
            .context("cannot make an eventfd")?;
        let stop_fd = stop.as_raw_fd();
        let poll = Poll::new(ends.ring.as_raw_fd(), stop_fd).context("cannot make an epoll")?;
        let mut reader = Reader {
            positions: Positions::of(ends.ring.as_raw_fd()).context("cannot map the ring")?,
            batches: Batches::new(Arc::clone(&ends.cpus)),
            ends,
            to_consumer,
            buffer: BytesMut::with_capacity(CHUNK),
            complete_ns: 0,
            lost: Losses::default(),
            gap: None,
            unfinished: Vec::new(),
        };
        let thread = std::thread::Builder::new()
            .name("ring".to_owned())
            .spawn(move || reader.run(&poll))
            .context("cannot start the thread that reads the ring")?;
        Ok(Self {
            chunks,
            stop,
            thread,
        })
    }

    /// Tells the reader to take what is left in the ring and end; its last chunks still come
    /// through `chunks`. To be called once no program runs any more.
    pub fn finish(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: the descriptor is ours and the buffer has the 8 bytes that an eventfd takes.
        let _ = unsafe { libc::write(self.stop.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    /// Waits for the reader's end, once `chunks` has run dry.
    ///
    /// # Errors
    /// What ended it early.
    pub fn join(self) -> anyhow::Result<()> {
        match self.thread.join() {
            Ok(result) => result.context("reading the ring"),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

struct Reader {
    positions: Positions,
    batches: Batches,
    ends: RingEnds,
    to_consumer: mpsc::Sender<Chunk>,
    buffer: BytesMut,
    complete_ns: u64,
    lost: Losses,
    gap: Option<Gap>,
    unfinished: Vec<u32>,
}

/// Running counts of what did not get into the ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Losses {
    faults: u64,
    calls: u64,
}

impl Reader {
    fn run(&mut self, poll: &Poll) -> io::Result<()> {
        let mut sleep_ms = BUSY_MS;
        loop {
            let stopping = poll.wait(sleep_ms)?;
            // In this order: a call that was not in flight when looked for is in the ring by now,
            // and so is a batch that is not found in its place any more.
            let now_ns = clock::now_ns();
            let oldest_ns = self.oldest_pending_ns(now_ns.saturating_sub(LONGEST_WAIT_NS));
            let gathered = self.batches.peek(now_ns, &mut self.buffer);
            let (drained, emptied) = self.drain();
            let records = gathered + drained;
            self.look_for_losses();
            if stopping {
                // No program runs any more. Nothing can come after this, not even from calls in flight.
                self.batches.settle();
                self.complete_ns = u64::MAX;
                self.unfinished = self.pending().map(|pending| pending.pid).collect();
                let _ = self.hand_over();
                return Ok(());
            }
            let complete = now_ns.min(oldest_ns).saturating_sub(STAMP_TO_RING_NS);
            if emptied {
                self.complete_ns = self.complete_ns.max(complete);
            }
            if self.hand_over().is_err() {
                return Ok(());
            }
            sleep_ms = if records > 0 {
                BUSY_MS
            } else {
                (sleep_ms * 2).min(IDLE_MS)
            };
        }
    }

    /// Notes a gap where the kernel side has lost something since the last look. It may lie
    /// anywhere in what is not complete yet: a call that is lost has taken memory from its enter on,
    /// and calls in flight have held everything back since then.
    fn look_for_losses(&mut self) {
        let counts = self.ends.cpus.counts();
        let lost = Losses {
            faults: counts.faults_lost,
            calls: counts.calls_lost
                + counts.lives_lost
                + counts.join_overflow
                + counts.calls_missed
                + counts.targets_overflow,
        };
        if lost != self.lost {
            self.gap = Some(Gap {
                at_ns: self.complete_ns,
                // Read after the counts were.
                until_ns: clock::now_ns(),
                faults: lost.faults != self.lost.faults,
                calls: lost.calls != self.lost.calls,
            });
            self.lost = lost;
        }
    }

    /// The enter of the oldest call in flight, since then, that may have taken memory away already.
    ///
    /// A call can hang for as long as a file system or a userfaultfd lets it; what happens
    /// meanwhile must be seen all the same. If it does come back, it counts as late.
    fn oldest_pending_ns(&self, since_ns: u64) -> u64 {
        self.pending()
            .filter(|pending| holds_back(pending.call as u16, &pending.args))
            .map(|pending| pending.enter_ns)
            .filter(|enter_ns| *enter_ns >= since_ns)
            .min()
            .unwrap_or(u64::MAX)
    }

    /// The calls in flight.
    fn pending(&self) -> impl Iterator<Item = Pending> {
        // Threads come and go in the map while it is walked, which may begin the walk anew: bounded.
        let all = self.ends.pending.iter();
        let bounded = all.take(4 * memtrace_ebpf::JOIN_ENTRIES as usize);
        bounded.filter_map(Result::ok).map(|(_, pending)| pending.0)
    }

    /// Takes everything that was in the ring at the time of the call; returns how many records, and
    /// whether that was all.
    ///
    /// A record that is still being written holds up those after it. That takes a program no time,
    /// but for one whose CPU is taken away meanwhile, by an interrupt or a hypervisor.
    fn drain(&mut self) -> (u64, bool) {
        let until = self.positions.reserved();
        let (mut records, mut stalls) = (0, 0);
        while self.positions.read() < until {
            let Some(item) = self.ends.ring.next() else {
                stalls += 1;
                if stalls > MOST_STALLS {
                    return (records, false);
                }
                std::thread::sleep(STALL);
                continue;
            };
            self.batches.take(&item, &mut self.buffer);
            records += 1;
            drop(item);
            if self.buffer.len() >= CHUNK && self.hand_over().is_err() {
                break;
            }
        }
        (records, true)
    }

    /// Sends what is gathered; waits while the consumer is behind.
    fn hand_over(&mut self) -> Result<(), ()> {
        let chunk = Chunk {
            records: self.buffer.split().freeze(),
            complete_ns: self.complete_ns,
            gap: self.gap.take(),
            unfinished: std::mem::take(&mut self.unfinished),
        };
        // What is left of the last allocation will do for a look at a quiet target.
        if self.buffer.capacity() < LEAST_ROOM {
            self.buffer.reserve(CHUNK);
        }
        self.to_consumer.blocking_send(chunk).map_err(|_| ())
    }
}

/// True for a call that takes memory away from its enter on.
fn holds_back(kind: u16, args: &[u64; 6]) -> bool {
    const MAP_FIXED: u64 = 0x10;
    match kind {
        call::MADVISE => Advice(args[2] as i32).give_back().is_some(),
        call::PROCESS_MADVISE => Advice(args[3] as i32).give_back().is_some(),
        call::MMAP => args[3] & MAP_FIXED != 0,
        _ => true,
    }
}

/// Waits for a time, for a lifecycle record, or for the order to stop.
struct Poll(OwnedFd);

impl Poll {
    fn new(ring: RawFd, stop: RawFd) -> io::Result<Self> {
        // SAFETY: epoll_create1 takes an integer and returns a descriptor of our own or -1.
        let poll = owned(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        for (fd, events, token) in [
            // Edge-triggered: only the kernel side's explicit wake-ups count, not that data is there.
            (ring, libc::EPOLLIN | libc::EPOLLET, 0),
            (stop, libc::EPOLLIN, 1),
        ] {
            let mut event = libc::epoll_event {
                events: events as u32,
                u64: token,
            };
            // SAFETY: all three descriptors are open and `event` outlives the call.
            let ret =
                unsafe { libc::epoll_ctl(poll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &mut event) };
            if ret != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(Self(poll))
    }

    /// True when told to stop.
    fn wait(&self, timeout_ms: i32) -> io::Result<bool> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 2];
        // SAFETY: `events` has room for the two that are asked for.
        let count =
            unsafe { libc::epoll_wait(self.0.as_raw_fd(), events.as_mut_ptr(), 2, timeout_ms) };
        match usize::try_from(count) {
            Ok(count) => Ok(events[..count].iter().any(|event| event.u64 == 1)),
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() == io::ErrorKind::Interrupted {
                    Ok(false)
                } else {
                    Err(error)
                }
            }
        }
    }
}

fn owned(fd: RawFd) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
