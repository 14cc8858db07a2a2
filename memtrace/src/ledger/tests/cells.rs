//! A model of single pages: what each holds, what took it, and the sums that follow from that.

use std::collections::BTreeMap;

use super::support::PAGE;
use crate::ledger::advice::Advice;
use crate::ledger::totals::{Basis, FaultClass as C, Released};

/// One page as the kernel has it, and what the ledger should remember of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cell {
    pub mapped: bool,
    /// Its content: none, the zero page, or memory of its own.
    pub present: Present,
    /// Populated before, and by which advice it was given back since.
    pub given_by: Option<Advice>,
    /// The class of the read that mapped the zero page.
    pub read_as: Option<C>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Present {
    #[default]
    No,
    Zero,
    Yes,
}

/// What calls of one kind released.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum {
    pub calls: u64,
    bytes: u64,
    /// Some of it may have been gone before.
    doubtful: bool,
}

impl Sum {
    pub fn released(self) -> Option<Released> {
        let basis = if self.doubtful {
            Basis::UpperBound
        } else {
            Basis::Derived
        };
        (self.calls > 0).then_some(Released {
            bytes: self.bytes,
            basis,
        })
    }
}

/// The calls that release, but for PAGEOUT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Free,
    DontNeed,
    Munmap,
    MapFixed,
    Mremap,
}

#[derive(Default)]
pub struct Model {
    pub cells: Vec<Cell>,
    pub classes: BTreeMap<C, u64>,
    pub bytes: BTreeMap<C, u64>,
    pub refaults: BTreeMap<Advice, u64>,
    pub zero_page_writes: u64,
    pub sums: BTreeMap<Kind, Sum>,
    pub marked: u64,
    pub dropped: u64,
    /// Lazily free bytes that MADV_POPULATE_WRITE wrote to.
    pub rewritten: u64,
}

fn class_of(advice: Advice) -> C {
    match advice {
        Advice::FREE => C::RefaultFree,
        Advice::DONTNEED => C::RefaultDontneed,
        _ => C::RefaultOther,
    }
}

impl Model {
    pub fn new(pages: usize) -> Self {
        Self {
            cells: vec![Cell::default(); pages],
            ..Self::default()
        }
    }

    pub fn sum(&mut self, kind: Kind) -> &mut Sum {
        self.sums.entry(kind).or_default()
    }

    /// A page leaves by a call that drops it at once.
    pub fn release(&mut self, kind: Kind, n: usize) {
        let cell = self.cells[n];
        // What was offered to the kernel may be gone; what was dropped is.
        let offered = matches!(cell.given_by, Some(Advice::FREE | Advice::PAGEOUT));
        let owned = cell.present == Present::Yes && cell.given_by.is_none();
        let sum = self.sum(kind);
        sum.bytes += if offered || owned { PAGE } else { 0 };
        sum.doubtful |= offered;
        if cell.given_by == Some(Advice::FREE) {
            self.dropped += PAGE;
        }
    }

    /// What is marked lazily free, and was not seen to go.
    pub fn outstanding(&self) -> u64 {
        let lazy = |cell: &&Cell| cell.given_by == Some(Advice::FREE);
        self.cells.iter().filter(lazy).count() as u64 * PAGE
    }

    pub fn populate(&mut self, n: usize) {
        let cell = &mut self.cells[n];
        if cell.given_by == Some(Advice::FREE) {
            self.rewritten += PAGE;
        }
        *cell = Cell {
            mapped: true,
            present: Present::Yes,
            ..Cell::default()
        };
    }

    pub fn advise(&mut self, advice: Advice, n: usize) {
        match advice {
            Advice::DONTNEED => self.release(Kind::DontNeed, n),
            Advice::FREE => {
                let cell = self.cells[n];
                let new = match cell.given_by {
                    None => cell.present == Present::Yes,
                    // The kernel may have kept it, to be marked now.
                    Some(before) => before == Advice::PAGEOUT,
                };
                let bytes = if new { PAGE } else { 0 };
                self.marked += bytes;
                let sum = self.sum(Kind::Free);
                sum.bytes += bytes;
                sum.doubtful = true;
            }
            _ => {}
        }
        let cell = &mut self.cells[n];
        match (cell.present, advice) {
            // A swap entry is dropped by either. And of what may still have been there, lazily free,
            // the last call that could have taken it has the credit: nobody can know better.
            (Present::No, Advice::FREE) if cell.given_by == Some(Advice::PAGEOUT) => {
                cell.given_by = Some(advice);
            }
            (Present::No, Advice::DONTNEED) if cell.given_by.is_some() => {
                cell.given_by = Some(advice);
            }
            (Present::No, _) => {}
            (Present::Zero, Advice::DONTNEED) | (Present::Yes, Advice::DONTNEED) => {
                cell.present = Present::No;
                cell.given_by = Some(advice);
            }
            (Present::Zero, _) => {}
            // A page that is offered already is not offered again by PAGEOUT.
            (Present::Yes, Advice::PAGEOUT) if cell.given_by.is_some() => {}
            (Present::Yes, _) => cell.given_by = Some(advice),
        }
    }

    /// How the touch faults, if it does: whether the page was present.
    pub fn touch(&mut self, n: usize, write: bool) -> Option<bool> {
        let cell = &mut self.cells[n];
        if !cell.mapped {
            return None;
        }
        match (cell.present, write) {
            (Present::Yes, _) | (Present::Zero, false) => None,
            (Present::Zero, true) => {
                cell.present = Present::Yes;
                let class = cell.read_as.expect("a read mapped it");
                self.zero_page_writes += 1;
                *self.bytes.entry(class).or_default() += PAGE;
                Some(true)
            }
            (Present::No, _) => {
                let class = cell.given_by.map_or(C::FirstTouch, class_of);
                if let Some(advice) = cell.given_by.take() {
                    *self.refaults.entry(advice).or_default() += 1;
                }
                // What PAGEOUT took comes back with its data, also for a read.
                let zero = !write && class != C::RefaultOther;
                cell.present = if zero { Present::Zero } else { Present::Yes };
                cell.read_as = zero.then_some(class);
                *self.classes.entry(class).or_default() += 1;
                *self.bytes.entry(class).or_default() += if zero { 0 } else { PAGE };
                Some(false)
            }
        }
    }
}
