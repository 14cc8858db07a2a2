//! Page faults, many in one event: those of one thread between two calls.

use bytes::Bytes;

use super::event::{Access, Fault};
use super::space::PAGE;

/// One fault of a batch: the page's address, and the flags in the bits of the page offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry(u64);

impl Entry {
    pub const PRESENT: u64 = 1;
    pub const WRITE: u64 = 2;
    pub const USER: u64 = 4;
    pub const INSTRUCTION: u64 = 16;
    /// All the bits that are not address.
    pub const FLAGS: u64 = 0xfff;

    pub fn addr(self) -> u64 {
        self.0 & !Self::FLAGS
    }

    /// A fault alike, so many pages above.
    pub fn neighbour(self, pages: u64) -> Self {
        Self(self.0.wrapping_add(pages * PAGE))
    }

    /// The page was mapped; the access was not allowed.
    pub fn present(self) -> bool {
        self.0 & Self::PRESENT != 0
    }

    /// The kernel touched the user's address itself.
    pub fn by_kernel(self) -> bool {
        self.0 & Self::USER == 0
    }

    pub fn access(self) -> Access {
        if self.0 & Self::WRITE != 0 {
            Access::Write
        } else if self.0 & Self::INSTRUCTION != 0 {
            Access::Exec
        } else {
            Access::Read
        }
    }
}

impl From<&Fault> for Entry {
    fn from(fault: &Fault) -> Self {
        let flag = |is, flag| if is { flag } else { 0 };
        let access = match fault.access {
            Access::Read => 0,
            Access::Write => Self::WRITE,
            Access::Exec => Self::INSTRUCTION,
        };
        Self(
            fault.addr & !Self::FLAGS
                | flag(fault.present, Self::PRESENT)
                | flag(!fault.by_kernel, Self::USER)
                | access,
        )
    }
}

/// Faults of one thread in their order. No call and no lifecycle event of its address space comes
/// between them, so that they are one event, which stands where the first of them does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultBatch {
    pub at_ns: u64,
    pub pid: u32,
    pub tid: u32,
    /// The part of a chunk that holds them, 8 bytes each: a batch is moved about, not copied.
    entries: Bytes,
}

impl FaultBatch {
    const ENTRY_BYTES: usize = size_of::<u64>();

    /// What is left over when `entries` is not of whole entries is dropped.
    pub fn new(at_ns: u64, pid: u32, tid: u32, entries: Bytes) -> Self {
        Self {
            at_ns,
            pid,
            tid,
            entries,
        }
    }

    /// The batch of one fault.
    pub fn of(fault: &Fault) -> Self {
        Self::of_all(std::slice::from_ref(fault)).expect("there is one")
    }

    /// The batch of faults that are one thread's; None where there are none.
    pub fn of_all(faults: &[Fault]) -> Option<Self> {
        let first = faults.first()?;
        let entries: Vec<u8> = faults
            .iter()
            .flat_map(|fault| Entry::from(fault).0.to_ne_bytes())
            .collect();
        Some(Self::new(first.at_ns, first.pid, first.tid, entries.into()))
    }

    /// How many faults it has.
    pub fn len(&self) -> usize {
        self.entries.len() / Self::ENTRY_BYTES
    }

    /// The bytes that they take.
    pub fn entry_bytes(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn entries(&self) -> impl ExactSizeIterator<Item = Entry> + Clone {
        self.entries
            .chunks_exact(Self::ENTRY_BYTES)
            .map(|bytes| Entry(u64::from_ne_bytes(bytes.try_into().expect("8 bytes"))))
    }

    /// The addresses that do not follow the one before them.
    pub fn scattered(&self) -> impl Iterator<Item = u64> {
        let behind = self.entries().skip(1);
        let pairs = self.entries().zip(behind);
        pairs
            .filter(|(before, entry)| *entry != before.neighbour(1))
            .map(|(_, entry)| entry.addr())
    }

    pub fn faults(&self) -> impl ExactSizeIterator<Item = Fault> {
        self.entries().map(|entry| self.fault(entry))
    }

    /// One of its entries as a fault. All are stamped with the time of the first.
    pub fn fault(&self, entry: Entry) -> Fault {
        Fault {
            at_ns: self.at_ns,
            pid: self.pid,
            tid: self.tid,
            addr: entry.addr(),
            present: entry.present(),
            access: entry.access(),
            by_kernel: entry.by_kernel(),
        }
    }
}
