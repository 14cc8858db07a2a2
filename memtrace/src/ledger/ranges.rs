//! A map from address ranges to values that splits and joins its runs by itself.

use std::collections::BTreeMap;
use std::ops::Range;

/// Non-overlapping runs of addresses, each with a value. Neighbours with equal values are one run.
///
/// Every operation costs O(log n) in the number of runs, and as many more as it replaces: never
/// in the length of a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeMap<V> {
    /// Start of a run to its end and value.
    runs: BTreeMap<u64, (u64, V)>,
}

// Derived, it would want values to have a default.
impl<V> Default for RangeMap<V> {
    fn default() -> Self {
        Self {
            runs: BTreeMap::new(),
        }
    }
}

impl<V: Clone + PartialEq> RangeMap<V> {
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// The run that holds `at`.
    pub fn get(&self, at: u64) -> Option<(Range<u64>, &V)> {
        let (&start, (end, value)) = self.runs.range(..=at).next_back()?;
        (at < *end).then_some((start..*end, value))
    }

    /// The first run that begins after `at`.
    pub fn next_after(&self, at: u64) -> Option<(Range<u64>, &V)> {
        let (&start, (end, value)) = self
            .runs
            .range((std::ops::Bound::Excluded(at), std::ops::Bound::Unbounded))
            .next()?;
        Some((start..*end, value))
    }

    /// All runs, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Range<u64>, &V)> {
        self.runs
            .iter()
            .map(|(&start, (end, value))| (start..*end, value))
    }

    /// The runs within `range`, cut to it, in order.
    pub fn within(&self, range: Range<u64>) -> impl Iterator<Item = (Range<u64>, &V)> {
        let first = match self.get(range.start) {
            Some((run, _)) => run.start,
            None => range.start,
        };
        // An empty or reversed range holds nothing, and a BTreeMap refuses a reversed one.
        let until = range.end.max(first);
        self.runs
            .range(first..until)
            .map(|(&start, (end, value))| (start..*end, value))
            .filter_map(move |(run, value)| {
                let cut = run.start.max(range.start)..run.end.min(range.end);
                (cut.start < cut.end).then_some((cut, value))
            })
    }

    /// The parts of `range` that no run holds, in order.
    pub fn gaps(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let mut gaps = Vec::new();
        let mut at = range.start;
        for (run, _) in self.within(range.clone()) {
            if at < run.start {
                gaps.push(at..run.start);
            }
            at = run.end;
        }
        if at < range.end {
            gaps.push(at..range.end);
        }
        gaps
    }

    /// Gives all of `range` the value, whatever it held.
    pub fn set(&mut self, range: Range<u64>, value: V) {
        if range.start >= range.end {
            return;
        }
        self.clear(range.clone());
        self.insert_joined(range, value);
    }

    /// Takes `range` out.
    pub fn clear(&mut self, range: Range<u64>) {
        if range.start >= range.end {
            return;
        }
        self.split(range.start);
        self.split(range.end);
        while let Some((&start, _)) = self.runs.range(range.clone()).next() {
            self.runs.remove(&start);
        }
    }

    /// Takes `range` out and returns what it held, cut to it.
    pub fn take(&mut self, range: Range<u64>) -> Vec<(Range<u64>, V)> {
        let taken = self
            .within(range.clone())
            .map(|(run, value)| (run, value.clone()))
            .collect();
        self.clear(range);
        taken
    }

    /// Replaces the value of every run in `range` by what `change` makes of it; None takes it out.
    pub fn change(
        &mut self,
        range: Range<u64>,
        mut change: impl FnMut(&Range<u64>, &V) -> Option<V>,
    ) {
        let changed: Vec<_> = self
            .within(range)
            .filter_map(|(run, value)| {
                let new = change(&run, value);
                (new.as_ref() != Some(value)).then_some((run, new))
            })
            .collect();
        for (run, value) in changed {
            match value {
                Some(value) => self.set(run, value),
                None => self.clear(run),
            }
        }
    }

    /// Makes `at` a boundary between runs.
    fn split(&mut self, at: u64) {
        if let Some((_, (end, value))) = self.runs.range_mut(..at).next_back()
            && at < *end
        {
            let rest = (*end, value.clone());
            *end = at;
            self.runs.insert(at, rest);
        }
    }

    /// Inserts a run into an empty place and joins it with equal neighbours.
    fn insert_joined(&mut self, range: Range<u64>, value: V) {
        let Range { start, mut end } = range;
        if let Some((next_end, next)) = self.runs.get(&end)
            && *next == value
        {
            let next_end = *next_end;
            self.runs.remove(&end);
            end = next_end;
        }
        if let Some((_, (before_end, before))) = self.runs.range_mut(..start).next_back()
            && *before_end == start
            && *before == value
        {
            *before_end = end;
            return;
        }
        self.runs.insert(start, (end, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        Set(u64, u64, u8),
        Clear(u64, u64),
        Bump(u64, u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let at = 0..64u64;
        prop_oneof![
            (at.clone(), 0..20u64, 0..3u8).prop_map(|(a, l, v)| Step::Set(a, a + l, v)),
            (at.clone(), 0..20u64).prop_map(|(a, l)| Step::Clear(a, a + l)),
            (at, 0..20u64).prop_map(|(a, l)| Step::Bump(a, a + l)),
        ]
    }

    proptest! {
        #[test]
        fn runs_agree_with_one_cell_an_address(steps in prop::collection::vec(step(), 1..60)) {
            let mut map = RangeMap::default();
            let mut cells = vec![None; 128];
            for step in steps {
                match step {
                    Step::Set(a, b, v) => {
                        map.set(a..b, v);
                        cells[a as usize..b as usize].fill(Some(v));
                    }
                    Step::Clear(a, b) => {
                        map.clear(a..b);
                        cells[a as usize..b as usize].fill(None);
                    }
                    Step::Bump(a, b) => {
                        // 2 becomes nothing, so that taking out is covered too.
                        let bump = |v: &u8| (*v < 2).then_some(v + 1);
                        map.change(a..b, |_, value| bump(value));
                        for cell in &mut cells[a as usize..b as usize] {
                            *cell = cell.as_ref().and_then(bump);
                        }
                    }
                }
                for (at, cell) in cells.iter().enumerate() {
                    prop_assert_eq!(map.get(at as u64).map(|(_, v)| *v), *cell);
                }
                let runs: Vec<_> = map.iter().map(|(r, v)| (r, *v)).collect();
                for pair in runs.windows(2) {
                    prop_assert!(pair[0].0.end <= pair[1].0.start);
                    prop_assert!(pair[0].0.end < pair[1].0.start || pair[0].1 != pair[1].1, "not joined");
                }
                let gaps: u64 = map.gaps(5..90).iter().map(|g| g.end - g.start).sum();
                prop_assert_eq!(gaps as usize, cells[5..90].iter().filter(|c| c.is_none()).count());
            }
        }
    }
}
