//! What the calls and faults on one address space come to.

use std::collections::BTreeMap;

use super::pages::{Given, PAGE};
use crate::ledger::advice::Advice as A;
use crate::ledger::totals::{Basis, FaultClass as C, MapTotals, ReleaseTotals, Released, Totals};

/// A kind of call that takes memory away, or advises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    Advice(A),
    Munmap,
    MapFixed,
    Mremap,
    Brk,
}

/// The sums of one kind of call.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sums {
    pub calls: u64,
    pub failed: u64,
    pub partial: u64,
    pub requested: u64,
    pub released: u64,
    /// The part that was surely there.
    pub certain: u64,
    pub refaults: u64,
    pub refaulted: u64,
    pub inherited: u64,
    pub ages: Vec<u64>,
    /// Some of what was released may not have been there.
    pub doubtful: bool,
    /// What was released can't be known.
    pub unknown: bool,
}

#[derive(Clone, Debug, Default)]
pub struct Account {
    pub sums: BTreeMap<Key, Sums>,
    /// By the call's name: calls, failed, bytes.
    pub maps: BTreeMap<&'static str, (u64, u64, u64)>,
    /// By class: faults, bytes and how the bytes are known.
    classes: BTreeMap<C, (u64, u64, Basis)>,
    zero_page_writes: u64,
    ambiguous: u64,
    /// Of MADV_FREE.
    pub marked: u64,
    pub marked_again: u64,
    pub dropped: u64,
    pub inherited: u64,
    /// Marked on pages that nobody knows.
    pub unplaced: u64,
}

impl Account {
    pub fn sum(&mut self, key: Key) -> &mut Sums {
        self.sums.entry(key).or_default()
    }

    /// One page was released.
    pub fn released(&mut self, key: Key, doubtful: bool) {
        let sum = self.sum(key);
        sum.released += PAGE;
        sum.certain += if doubtful { 0 } else { PAGE };
        sum.doubtful |= doubtful;
    }

    pub fn map(&mut self, call: &'static str, failed: bool, pages: usize) {
        let (calls, failures, bytes) = self.maps.entry(call).or_default();
        *calls += 1;
        *failures += u64::from(failed);
        *bytes += pages as u64 * PAGE;
    }

    pub fn fault(&mut self, class: C, bytes: u64, basis: Basis) {
        // What brought nothing weakens nothing.
        let weak = bytes > 0 || basis == Basis::LowerBound;
        let of = self.classes.entry(class).or_default();
        *of = (
            of.0 + 1,
            of.1 + bytes,
            of.2.max(if weak { basis } else { Basis::Exact }),
        );
    }

    pub fn refault(&mut self, given: Given, bytes: u64, now: u64) {
        self.ambiguous += u64::from(given.unsettled);
        if let Some(advice) = given.by {
            let sum = self.sum(Key::Advice(advice));
            sum.refaults += 1;
            if !given.unsettled {
                sum.ages.push(now - given.at_ns);
            }
        }
        self.refaulted(given, bytes);
    }

    fn refaulted(&mut self, given: Given, bytes: u64) {
        if let Some(advice) = given.by {
            let sum = self.sum(Key::Advice(advice));
            sum.refaulted += bytes;
            sum.inherited += if given.inherited { bytes } else { 0 };
        }
    }

    /// The read was counted; this brings its bytes.
    pub fn zero_page_write(&mut self, class: C, given: Option<Given>, basis: Basis) {
        let of = self.classes.entry(class).or_default();
        *of = (of.0, of.1 + PAGE, of.2.max(basis));
        self.zero_page_writes += 1;
        if let Some(given) = given {
            self.refaulted(given, PAGE);
        }
    }

    /// Where the ledger counts otherwise.
    pub fn differs(&self, totals: &Totals) -> Option<String> {
        let faults = &totals.faults;
        for class in C::ALL {
            let ours = self.classes.get(&class).copied().unwrap_or_default();
            let of = faults.class(class);
            let theirs = (of.faults, of.bytes, of.basis());
            if ours != theirs {
                return Some(format!("{class:?}: {ours:?}, in the ledger {theirs:?}"));
            }
        }
        let all: u64 = self.classes.values().map(|of| of.0).sum();
        let ours = (
            all + self.zero_page_writes,
            self.zero_page_writes,
            self.ambiguous,
        );
        let theirs = (faults.total, faults.zero_page_writes, faults.ambiguous);
        if ours != theirs {
            return Some(format!("faults: {ours:?}, in the ledger {theirs:?}"));
        }
        let unmap = &totals.unmap;
        let none = (Sums::default(), ReleaseTotals::default());
        let fixed = [
            (Key::Munmap, &unmap.munmap),
            (Key::MapFixed, &unmap.map_fixed),
            (Key::Mremap, &unmap.mremap),
            (Key::Brk, &unmap.brk),
        ];
        let advice = |key: &Key| match key {
            Key::Advice(advice) => Some((*key, totals.advice.get(advice).unwrap_or(&none.1))),
            _ => None,
        };
        let seen = totals.advice.keys().map(|advice| Key::Advice(*advice));
        let keys: Vec<Key> = self.sums.keys().copied().chain(seen).collect();
        for (key, theirs) in fixed.into_iter().chain(keys.iter().filter_map(advice)) {
            let ours = self.sums.get(&key).unwrap_or(&none.0);
            if !ours.agrees(key, theirs) {
                return Some(format!("{key:?}: {ours:?}, in the ledger {theirs:?}"));
            }
        }
        let map = &totals.map;
        for (call, of) in [
            ("mmap", &map.mmap),
            ("brk", &map.brk),
            ("mremap", &map.mremap),
        ] {
            let (calls, failed, bytes) = self.maps.get(call).copied().unwrap_or_default();
            let ours = MapTotals {
                calls,
                failed,
                bytes,
            };
            if ours != *of {
                return Some(format!("{call}: {ours:?}, in the ledger {of:?}"));
            }
        }
        None
    }
}

impl Sums {
    fn agrees(&self, key: Key, theirs: &ReleaseTotals) -> bool {
        let gives_back = match key {
            Key::Advice(A::PAGEOUT) => false,
            Key::Advice(advice) => advice.give_back().is_some(),
            _ => true,
        };
        let released = (self.calls > 0 && gives_back && !self.unknown).then_some(Released {
            least_bytes: self.certain,
            bytes: self.released,
            basis: if self.doubtful {
                Basis::UpperBound
            } else {
                Basis::Derived
            },
        });
        let ours = (self.calls, self.failed, self.partial, self.requested);
        let counted = (
            theirs.calls,
            theirs.failed,
            theirs.partial,
            theirs.requested_bytes,
        );
        let back = (self.refaults, self.refaulted, self.inherited);
        let came = (
            theirs.refaults,
            theirs.refaulted_bytes,
            theirs.inherited_refaulted_bytes,
        );
        ours == counted && back == came && released == theirs.released && self.same_ages(theirs)
    }

    /// As far as two digits go.
    fn same_ages(&self, theirs: &ReleaseTotals) -> bool {
        let mut ages = self.ages.clone();
        ages.sort_unstable();
        [0.0, 0.25, 0.5, 0.75, 1.0].into_iter().all(|quantile| {
            let place = (quantile * ages.len() as f64).ceil().max(1.0) as usize - 1;
            match (ages.get(place), theirs.ages.quantile_ns(quantile)) {
                (Some(ours), Some(theirs)) => ours.abs_diff(theirs) <= ours / 100,
                (ours, theirs) => ours.is_none() && theirs.is_none(),
            }
        })
    }
}
