//! The ledger against a model that keeps every page by itself and knows no intervals.

use proptest::prelude::*;

use super::cells::{Cell, Kind, Model, Present};
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
    /// MADV_POPULATE_WRITE.
    Populate(u64, u64),
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
        4 => at.clone().prop_map(Step::Reclaim),
        1 => (at, len).prop_map(|(a, l)| Step::Populate(a, l)),
    ];
    prop::collection::vec(step, 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn the_ledger_agrees_with_a_model_of_single_pages(steps in steps()) {
        let mut s = Scene::known();
        let mut model = Model::new(PAGES + 16);
        for step in steps {
            match step {
                Step::Map(at, len) => {
                    s.mmap(at, len, 0x32);
                    let range = at as usize..(at + len) as usize;
                    if model.cells[range.clone()].iter().any(|cell| cell.mapped) {
                        model.sum(Kind::MapFixed).calls += 1;
                    }
                    range.clone().for_each(|n| model.release(Kind::MapFixed, n));
                    model.cells[range].fill(Cell { mapped: true, ..Cell::default() });
                }
                Step::Unmap(at, len) => {
                    s.unmap(at, len);
                    let range = at as usize..(at + len) as usize;
                    model.sum(Kind::Munmap).calls += 1;
                    range.clone().for_each(|n| model.release(Kind::Munmap, n));
                    model.cells[range].fill(Cell::default());
                }
                Step::Advise(advice, at, len) => {
                    let range = at as usize..(at + len) as usize;
                    let whole = model.cells[range.clone()].iter().all(|cell| cell.mapped);
                    let ret = if whole { 0 } else { -i64::from(libc::ENOMEM) };
                    s.advise_ret(advice, at, len, ret);
                    match advice {
                        Advice::FREE => model.sum(Kind::Free).calls += 1,
                        Advice::DONTNEED => model.sum(Kind::DontNeed).calls += 1,
                        _ => {}
                    }
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
                    if model.cells[to..to + len].iter().any(|cell| cell.mapped) {
                        model.sum(Kind::Mremap).calls += 1;
                    }
                    for i in 0..len {
                        model.release(Kind::Mremap, to + i);
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
                Step::Populate(at, len) => {
                    // It stops at the first hole.
                    let range = at as usize..(at + len) as usize;
                    let done = range.clone().take_while(|n| model.cells[*n].mapped).count();
                    let ret = if done == range.len() { 0 } else { -i64::from(libc::ENOMEM) };
                    s.advise_ret(Advice::POPULATE_WRITE, at, len, ret);
                    range.take(done).for_each(|n| model.populate(n));
                }
            }
            let lazy = s.lazy();
            prop_assert_eq!(lazy.outstanding_bytes, model.outstanding());
            prop_assert_eq!(lazy.marked_bytes, model.marked);
            prop_assert_eq!(lazy.dropped_bytes, model.dropped);
            // Nothing that was marked gets lost.
            let refaulted = model.refaults.get(&Advice::FREE).copied().unwrap_or(0) * PAGE;
            prop_assert_eq!(
                model.marked,
                model.outstanding() + model.dropped + refaulted + model.rewritten
            );
            let of = s.totals();
            for (kind, sum) in &model.sums {
                let released = match kind {
                    Kind::Free => of.advice.get(&Advice::FREE).and_then(|t| t.released),
                    Kind::DontNeed => of.advice.get(&Advice::DONTNEED).and_then(|t| t.released),
                    Kind::Munmap => of.unmap.munmap.released,
                    Kind::MapFixed => of.unmap.map_fixed.released,
                    Kind::Mremap => of.unmap.mremap.released,
                };
                prop_assert_eq!(released, sum.released(), "{:?}", kind);
            }
            prop_assert_eq!(of.advice.get(&Advice::PAGEOUT).and_then(|t| t.released), None);
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
