//! The ledger against a model that keeps every page by itself and knows no intervals.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::support::*;
use crate::ledger::advice::Advice;
use crate::ledger::event::{Access, Op};
use crate::ledger::totals::FaultClass as C;

const PAGES: usize = 48;

#[derive(Clone, Debug)]
enum Step {
    Map(u64, u64),
    Unmap(u64, u64),
    Advise(Advice, u64, u64),
    Move(u64, u64, u64),
    /// A touch by a program: the model knows whether it faults and how.
    Touch(u64, bool),
    /// The kernel takes a page that it was offered.
    Reclaim(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let at = 0..PAGES as u64;
    let len = 1..12u64;
    let advice = prop_oneof![
        Just(Advice::FREE),
        Just(Advice::DONTNEED),
        Just(Advice::PAGEOUT)
    ];
    let step = prop_oneof![
        2 => (at.clone(), len.clone()).prop_map(|(a, l)| Step::Map(a, l)),
        1 => (at.clone(), len.clone()).prop_map(|(a, l)| Step::Unmap(a, l)),
        4 => (advice, at.clone(), len.clone()).prop_map(|(v, a, l)| Step::Advise(v, a, l)),
        1 => (at.clone(), at.clone(), 1..6u64).prop_map(|(a, b, l)| Step::Move(a, b, l)),
        12 => (at.clone(), any::<bool>()).prop_map(|(a, w)| Step::Touch(a, w)),
        4 => at.prop_map(Step::Reclaim),
    ];
    prop::collection::vec(step, 1..120)
}

/// One page as the kernel has it, and what the ledger should remember of it.
#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    mapped: bool,
    /// Its content: none, the zero page, or memory of its own.
    present: Present,
    /// Populated before, and by which advice it was given back since.
    given_by: Option<Advice>,
    /// The class of the read that mapped the zero page.
    read_as: Option<C>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Present {
    #[default]
    No,
    Zero,
    Yes,
}

#[derive(Default)]
struct Model {
    cells: Vec<Cell>,
    classes: BTreeMap<C, u64>,
    bytes: BTreeMap<C, u64>,
    refaults: BTreeMap<Advice, u64>,
    zero_page_writes: u64,
}

fn class_of(advice: Advice) -> C {
    match advice {
        Advice::FREE => C::RefaultFree,
        Advice::DONTNEED => C::RefaultDontneed,
        _ => C::RefaultOther,
    }
}

impl Model {
    fn advise(&mut self, advice: Advice, n: usize) {
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
    fn touch(&mut self, n: usize, write: bool) -> Option<bool> {
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn the_ledger_agrees_with_a_model_of_single_pages(steps in steps()) {
        let mut s = Scene::new();
        let mut model = Model { cells: vec![Cell::default(); PAGES + 16], ..Model::default() };
        for step in steps {
            match step {
                Step::Map(at, len) => {
                    s.mmap(at, len, 0x32);
                    model.cells[at as usize..(at + len) as usize]
                        .fill(Cell { mapped: true, ..Cell::default() });
                }
                Step::Unmap(at, len) => {
                    s.unmap(at, len);
                    model.cells[at as usize..(at + len) as usize].fill(Cell::default());
                }
                Step::Advise(advice, at, len) => {
                    let range = at as usize..(at + len) as usize;
                    let whole = model.cells[range.clone()].iter().all(|cell| cell.mapped);
                    let ret = if whole { 0 } else { -i64::from(libc::ENOMEM) };
                    s.advise_ret(advice, at, len, ret);
                    for n in range {
                        model.advise(advice, n);
                    }
                }
                Step::Move(from, to, len) => {
                    let (from, to, len) = (from as usize, to as usize, len as usize);
                    let apart = from + len <= to || to + len <= from;
                    if !apart || !model.cells[from..from + len].iter().all(|cell| cell.mapped) {
                        continue;
                    }
                    let op = Op::Mremap {
                        addr: page(from as u64),
                        old_len: len as u64 * PAGE,
                        new_len: len as u64 * PAGE,
                        flags: 3,
                        new_addr: page(to as u64),
                    };
                    s.done(op, page(to as u64) as i64);
                    for i in 0..len {
                        model.cells[to + i] = std::mem::take(&mut model.cells[from + i]);
                    }
                }
                Step::Touch(n, write) => {
                    if let Some(present) = model.touch(n as usize, write) {
                        let access = if write { Access::Write } else { Access::Read };
                        s.touch(n, access, present);
                    }
                }
                Step::Reclaim(n) => {
                    let cell = &mut model.cells[n as usize];
                    if cell.present == Present::Yes && cell.given_by.is_some() {
                        cell.present = Present::No;
                    }
                }
            }
        }
        let totals = s.totals();
        for class in C::ALL {
            let of = totals.faults.class(class);
            prop_assert_eq!(of.faults, model.classes.get(&class).copied().unwrap_or(0), "{:?}", class);
            prop_assert_eq!(of.bytes, model.bytes.get(&class).copied().unwrap_or(0), "{:?}", class);
        }
        for advice in [Advice::FREE, Advice::DONTNEED, Advice::PAGEOUT] {
            prop_assert_eq!(
                s.advice(advice).refaults,
                model.refaults.get(&advice).copied().unwrap_or(0),
                "{}", advice
            );
        }
        prop_assert_eq!(totals.faults.zero_page_writes, model.zero_page_writes);
        prop_assert_eq!(totals.faults.ambiguous, 0);
        prop_assert_eq!(
            totals.faults.total,
            model.classes.values().sum::<u64>() + model.zero_page_writes
        );
    }
}
