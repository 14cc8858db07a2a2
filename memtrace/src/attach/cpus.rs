//! What each CPU has gathered and counted, read where the kernel side writes it.

use std::ptr::{NonNull, read_volatile};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use aya::maps::Map;
use memtrace_ebpf::{BATCH, Batch, Counters, FaultHead, PerCpu};

use super::counters::Counts;
use super::mapped::Mapped;

/// The memory of all CPUs.
pub struct Cpus {
    memory: Mapped<PerCpu>,
    /// Faults that were taken from batches which then did not get into the ring.
    rescued: AtomicU64,
}

/// The part of a batch that was not known yet.
#[derive(Clone, Copy)]
pub struct Peeked<'a> {
    /// As at the time of the look: its count is of the whole batch.
    pub head: FaultHead,
    pub entries: &'a [u64],
}

impl Cpus {
    pub fn new(map: Map, cpus: usize) -> anyhow::Result<Self> {
        Ok(Self {
            memory: Mapped::new(map, cpus)?,
            rescued: AtomicU64::new(0),
        })
    }

    /// How many there may be.
    pub fn count(&self) -> usize {
        self.memory.len()
    }

    /// The batch of a CPU, if there is more in it than was `taken` of the batch with that serial.
    /// `into` holds what is read.
    pub fn peek<'a>(
        &self,
        cpu: usize,
        taken: impl Fn(u32) -> u32,
        into: &'a mut [u64; BATCH],
    ) -> Option<Peeked<'a>> {
        let batch = batch(self.memory.at(cpu));
        loop {
            let before = load(serial_of(batch));
            // A batch holds no more; what is read is memory all the same, not to be trusted.
            let count = load(count_of(batch)).min(BATCH as u32);
            let first = taken(before);
            if count <= first {
                return None;
            }
            // SAFETY: the memory lives as long as `self`; a value torn by the kernel side's writing
            // is thrown away below.
            let head = unsafe { read_volatile(&raw const (*batch).fault) };
            for at in first..count {
                // SAFETY: as above, and `at` is less than BATCH.
                into[at as usize] = unsafe {
                    read_volatile((&raw const (*batch).entries).cast::<u64>().add(at as usize))
                };
            }
            fence(Ordering::Acquire);
            if load(serial_of(batch)) != before {
                // Another one has begun in between, and this one is in the ring.
                continue;
            }
            let mut head = head;
            head.cpu = cpu as u32;
            head.serial = before;
            head.head.count = count;
            return Some(Peeked {
                head,
                entries: &into[first as usize..count as usize],
            });
        }
    }

    /// Notes that so many faults of a lost batch had been taken from it.
    pub fn rescue(&self, faults: u64) {
        self.rescued.fetch_add(faults, Ordering::Relaxed);
    }

    pub fn rescued(&self) -> u64 {
        self.rescued.load(Ordering::Relaxed)
    }

    /// The kernel side's totals as they are, over all CPUs; the programs' misses are not among them.
    pub fn counts(&self) -> Counts {
        let mut sum = Counts::default();
        for cpu in 0..self.memory.len() {
            let cpu = self.memory.at(cpu).as_ptr();
            // SAFETY: the memory lives as long as `self`; each number is read whole on a 64-bit machine.
            let (counters, seen, lost): (Counters, u64, u64) = unsafe {
                (
                    read_volatile(&raw const (*cpu).counters),
                    read_volatile(&raw const (*cpu).batch.seen),
                    read_volatile(&raw const (*cpu).batch.lost),
                )
            };
            sum.faults_seen += counters.faults_seen + seen;
            sum.faults_lost += counters.faults_lost + lost;
            sum.calls_seen += counters.calls_seen;
            sum.calls_lost += counters.calls_lost;
            sum.lives_seen += counters.lives_seen;
            sum.lives_lost += counters.lives_lost;
            sum.populated_seen += counters.populated_seen;
            sum.populated_lost += counters.populated_lost;
            sum.join_overflow += counters.join_overflow;
            sum.calls_missed += counters.calls_missed;
            sum.targets_overflow += counters.targets_overflow;
        }
        sum
    }
}

fn batch(cpu: NonNull<PerCpu>) -> *mut Batch {
    // SAFETY: the pointer is to an element of the mapping.
    unsafe { &raw mut (*cpu.as_ptr()).batch }
}

fn serial_of(batch: *mut Batch) -> *mut u32 {
    // SAFETY: as above.
    unsafe { &raw mut (*batch).fault.serial }
}

fn count_of(batch: *mut Batch) -> *mut u32 {
    // SAFETY: as above.
    unsafe { &raw mut (*batch).fault.head.count }
}

fn load(at: *mut u32) -> u32 {
    // SAFETY: an aligned u32 in the mapping, which the kernel side writes whole.
    unsafe { AtomicU32::from_ptr(at) }.load(Ordering::Acquire)
}
