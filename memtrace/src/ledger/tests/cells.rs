//! What is truly in single pages, for tests in which the ledger is not told of everything.

use std::collections::BTreeMap;

use crate::ledger::advice::Advice;
use crate::ledger::totals::FaultClass as C;

/// One page as the kernel has it, and by what it went.
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

#[derive(Default)]
pub struct Model {
    pub cells: Vec<Cell>,
    pub classes: BTreeMap<C, u64>,
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

    pub fn advise(&mut self, advice: Advice, n: usize) {
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
                Some(true)
            }
            (Present::No, _) => {
                let class = cell.given_by.map_or(C::FirstTouch, class_of);
                cell.given_by = None;
                // What PAGEOUT took comes back with its data, also for a read.
                let zero = !write && class != C::RefaultOther;
                cell.present = if zero { Present::Zero } else { Present::Yes };
                cell.read_as = zero.then_some(class);
                *self.classes.entry(class).or_default() += 1;
                Some(false)
            }
        }
    }
}
