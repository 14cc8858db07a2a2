//! A row of values that keeps count of its runs.

use std::ops::Range;

/// `N` values; the default one stands for none.
#[derive(Clone, Debug)]
pub struct Cells<T, const N: usize> {
    values: [T; N],
    /// How many differ from the one before them.
    bounds: usize,
    /// How many are none.
    empty: usize,
}

impl<T: Copy + Default, const N: usize> Default for Cells<T, N> {
    fn default() -> Self {
        Self {
            values: [T::default(); N],
            bounds: 0,
            empty: N,
        }
    }
}

impl<T: Copy + Default + PartialEq, const N: usize> Cells<T, N> {
    pub fn get(&self, at: usize) -> T {
        self.values[at]
    }

    /// How many differ from the one before them.
    pub fn bounds(&self) -> usize {
        self.bounds
    }

    /// True if none is none.
    pub fn is_full(&self) -> bool {
        self.empty == 0
    }

    pub fn each(&self, tell: impl FnMut(T)) {
        self.values.iter().copied().for_each(tell);
    }

    /// Other values in their place: different ones for different ones, and none for none.
    pub fn map<U>(&self, change: impl Fn(T) -> U) -> Cells<U, N> {
        Cells {
            values: self.values.map(change),
            bounds: self.bounds,
            empty: self.empty,
        }
    }

    /// Where the run that holds `at` ends, at `limit` at the latest.
    pub fn run_end(&self, at: usize, limit: usize) -> usize {
        let value = self.values[at];
        let mut behind = self.values[at..limit].iter();
        let end = behind.position(|other| *other != value);
        end.map_or(limit, |len| at + len)
    }

    pub fn fill(&mut self, range: Range<usize>, value: T) {
        if range.len() == 1 {
            return self.set(range.start, value);
        }
        let around = range.start.saturating_sub(1)..(range.end + 1).min(N);
        self.bounds -= bounds(&self.values[around.clone()]);
        self.empty -= empty(&self.values[range.clone()]);
        self.values[range.clone()].fill(value);
        self.empty += empty(&self.values[range]);
        self.bounds += bounds(&self.values[around]);
    }

    fn set(&mut self, at: usize, value: T) {
        let old = std::mem::replace(&mut self.values[at], value);
        let before = at.checked_sub(1).map(|before| self.values[before]);
        let behind = self.values.get(at + 1).copied();
        for beside in [before, behind].into_iter().flatten() {
            self.bounds += usize::from(beside != value);
            self.bounds -= usize::from(beside != old);
        }
        self.empty += usize::from(value == T::default());
        self.empty -= usize::from(old == T::default());
    }
}

fn bounds<T: PartialEq>(values: &[T]) -> usize {
    values.windows(2).filter(|pair| pair[0] != pair[1]).count()
}

fn empty<T: Default + PartialEq>(values: &[T]) -> usize {
    values
        .iter()
        .filter(|value| **value == T::default())
        .count()
}
