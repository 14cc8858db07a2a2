//! Batches of faults that are still being gathered: takes from them what is there, and once they come
//! through the ring, only the rest.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{BufMut as _, BytesMut};
use memtrace_ebpf::{BATCH, FaultHead, NO_BATCH, kind};

use crate::attach::Cpus;

/// How much of a batch was taken from its place, and when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Taken {
    serial: u32,
    entries: u32,
    /// What comes later in the same batch happened after this.
    at_ns: u64,
}

/// Batches of one CPU that may be awaited at once: beyond it the oldest counts as lost.
const MOST_AWAITED: usize = 1024;

/// Of one CPU.
#[derive(Clone, Debug, Default)]
struct Cpu {
    /// The batch that was in its place at the last look.
    latest: Taken,
    /// Those of earlier looks that have left it and did not come yet: they are in the ring, or lost.
    awaited: VecDeque<Taken>,
    /// The last that came through the ring. For a moment it is in its place as well.
    came: Option<u32>,
}

/// What was taken from the batches of every CPU.
pub struct Batches {
    memory: Arc<Cpus>,
    cpus: Vec<Cpu>,
    entries: Box<[u64; BATCH]>,
}

impl Batches {
    pub fn new(memory: Arc<Cpus>) -> Self {
        Self {
            cpus: vec![Cpu::default(); memory.count()],
            memory,
            entries: Box::new([0; BATCH]),
        }
    }

    /// Appends to `records` what every batch holds and was not taken yet; returns how many records
    /// that makes. `now_ns` must have been read before.
    pub fn peek(&mut self, now_ns: u64, records: &mut BytesMut) -> u64 {
        let mut made = 0;
        for (number, cpu) in self.cpus.iter_mut().enumerate() {
            let taken = |serial| cpu.taken_of(serial);
            let Some(peeked) = self.memory.peek(number, taken, &mut self.entries) else {
                continue;
            };
            let head = peeked.head;
            append(records, &head, cpu.stamp(&head), peeked.entries);
            made += 1;
            cpu.peeked(&head, now_ns);
        }
        made
    }

    /// Appends a record from the ring to `records`; of a batch, what was not taken yet.
    pub fn take(&mut self, record: &[u8], records: &mut BytesMut) {
        match self.rest_of(record) {
            Some((head, stamp_ns, entries)) => {
                if !entries.is_empty() {
                    append_bytes(records, &head, stamp_ns, entries);
                }
            }
            None => records.extend_from_slice(record),
        }
    }

    /// To be called when no program runs any more and the ring is empty: what did not come is among
    /// what the kernel side counted as lost, but for what was taken from it.
    pub fn settle(&mut self) {
        for cpu in &mut self.cpus {
            self.memory.rescue(cpu.settle());
        }
    }

    /// For a record of a batch of which something was taken already: its head, the time of the
    /// rest, and the rest.
    fn rest_of<'a>(&mut self, record: &'a [u8]) -> Option<(FaultHead, u64, &'a [u8])> {
        let head = fault_head(record)?;
        let cpu = self.cpus.get_mut(head.cpu as usize)?;
        let (taken, rescued) = cpu.came(head.serial);
        self.memory.rescue(rescued);
        let taken = taken?;
        let entries = record.get(size_of::<FaultHead>()..)?;
        let rest = entries.get(taken.entries as usize * 8..)?;
        Some((head, taken.at_ns.max(head.time_ns), rest))
    }
}

impl Cpu {
    /// How many entries of a batch were taken.
    fn taken_of(&self, serial: u32) -> u32 {
        if self.came == Some(serial) {
            BATCH as u32
        } else if self.latest.serial == serial {
            self.latest.entries
        } else {
            0
        }
    }

    /// The time of what is new in a batch: of its first fault, or of the last look.
    fn stamp(&self, head: &FaultHead) -> u64 {
        if self.latest.serial == head.serial {
            self.latest.at_ns.max(head.time_ns)
        } else {
            head.time_ns
        }
    }

    /// All that the head counts has been taken.
    fn peeked(&mut self, head: &FaultHead, now_ns: u64) {
        if self.latest.serial != head.serial && self.latest.entries > 0 {
            self.awaited.push_back(self.latest);
        }
        self.latest = Taken {
            serial: head.serial,
            entries: head.head.count,
            at_ns: now_ns,
        };
    }

    /// A batch has come through the ring: what was taken from it before, and how many faults were
    /// taken from batches that turn out to be lost.
    fn came(&mut self, serial: u32) -> (Option<Taken>, u64) {
        self.came = Some(serial);
        let mut rescued = 0;
        // A CPU's batches come in their order: those before it that did not come were lost.
        while let Some(oldest) = self.awaited.front().copied() {
            let is_later = (oldest.serial.wrapping_sub(serial) as i32) > 0;
            if is_later && self.awaited.len() <= MOST_AWAITED {
                break;
            }
            self.awaited.pop_front();
            if oldest.serial == serial {
                return (Some(oldest), rescued);
            }
            rescued += u64::from(oldest.entries);
        }
        let latest = self.latest;
        if latest.serial != serial || latest.entries == 0 {
            return (None, rescued);
        }
        // It has left its place: there is nothing of it to be missed there.
        self.latest.entries = 0;
        (Some(latest), rescued)
    }

    /// Nothing comes any more: how many faults were taken from batches that were lost.
    fn settle(&mut self) -> u64 {
        self.awaited
            .drain(..)
            .map(|lost| u64::from(lost.entries))
            .sum()
    }
}

/// The head of a record that is of a batch.
fn fault_head(record: &[u8]) -> Option<FaultHead> {
    if record.get(..2)? != kind::FAULTS.to_ne_bytes() {
        return None;
    }
    let bytes = record.get(..size_of::<FaultHead>())?;
    // SAFETY: there are as many bytes as the struct has, it is made of integers only, and the read
    // does not ask for alignment.
    let head = unsafe { bytes.as_ptr().cast::<FaultHead>().read_unaligned() };
    (head.cpu != NO_BATCH).then_some(head)
}

fn append(records: &mut BytesMut, head: &FaultHead, time_ns: u64, entries: &[u64]) {
    // SAFETY: any u64 is eight bytes.
    let bytes =
        unsafe { std::slice::from_raw_parts(entries.as_ptr().cast::<u8>(), size_of_val(entries)) };
    append_bytes(records, head, time_ns, bytes);
}

/// Appends the record of a batch's part.
fn append_bytes(records: &mut BytesMut, head: &FaultHead, time_ns: u64, entries: &[u8]) {
    let mut head = *head;
    head.time_ns = time_ns;
    head.head.count = (entries.len() / 8) as u32;
    // SAFETY: the struct is made of integers only and has no padding.
    let bytes = unsafe {
        std::slice::from_raw_parts((&raw const head).cast::<u8>(), size_of::<FaultHead>())
    };
    records.reserve(bytes.len() + entries.len());
    records.put_slice(bytes);
    records.put_slice(entries);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use memtrace_ebpf::Head;

    /// A CPU as the kernel side runs it, and a reader that looks now and then.
    #[derive(Default)]
    struct Sim {
        cpu: Cpu,
        /// The batch in its place: its serial, and its faults by number.
        place: (u32, Vec<u64>),
        ring: VecDeque<(u32, Vec<u64>)>,
        seen: u64,
        lost: u64,
        rescued: u64,
        delivered: Vec<u64>,
    }

    impl Sim {
        fn fault(&mut self) {
            self.place.1.push(self.seen);
            self.seen += 1;
        }

        /// A fault that begins a batch: the one before it finds room in the ring, or is lost.
        fn fault_in_new_batch(&mut self, room: bool) {
            let next = (self.place.0.wrapping_add(1), Vec::new());
            let batch = std::mem::replace(&mut self.place, next);
            if room {
                self.ring.push_back(batch);
            } else {
                self.lost += batch.1.len() as u64;
            }
            self.fault();
        }

        fn peek(&mut self) {
            let (serial, faults) = &self.place;
            let taken = self.cpu.taken_of(*serial) as usize;
            if faults.len() > taken {
                self.delivered.extend(&faults[taken..]);
                let head = FaultHead {
                    head: Head {
                        count: faults.len() as u32,
                        ..Head::default()
                    },
                    serial: *serial,
                    ..FaultHead::default()
                };
                self.cpu.peeked(&head, 1);
            }
        }

        /// Takes so many batches from the ring: a record that is being written may stop it.
        fn drain(&mut self, most: usize) {
            for _ in 0..most {
                let Some((serial, faults)) = self.ring.pop_front() else {
                    return;
                };
                let (taken, rescued) = self.cpu.came(serial);
                self.rescued += rescued;
                let taken = taken.map_or(0, |taken| taken.entries as usize);
                self.delivered.extend(&faults[taken..]);
            }
        }
    }

    proptest! {
        #[test]
        fn every_fault_comes_once_or_is_counted_as_lost(
            first in prop_oneof![Just(1), Just(u32::MAX - 2)],
            steps in prop::collection::vec((0..12u8, 0..4usize), 0..300),
        ) {
            let mut sim = Sim { place: (first, Vec::new()), ..Sim::default() };
            sim.fault();
            for (step, number) in steps {
                match step {
                    0..5 => sim.fault(),
                    5..8 => sim.fault_in_new_batch(true),
                    8 => sim.fault_in_new_batch(false),
                    _ => {
                        sim.peek();
                        sim.drain(number);
                    }
                }
            }
            sim.peek();
            sim.drain(usize::MAX);
            sim.rescued += sim.cpu.settle();
            prop_assert_eq!(sim.delivered.len() as u64 + sim.lost - sim.rescued, sim.seen);
            sim.delivered.sort_unstable();
            let before = sim.delivered.len();
            sim.delivered.dedup();
            prop_assert_eq!(sim.delivered.len(), before, "some came twice");
        }
    }
}
