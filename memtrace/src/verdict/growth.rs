//! The course of RSS over a run: does it still grow, or has it settled?

/// RSS is steady while it moves by no more than this part of itself, or by this many bytes.
const STEADY_PART: u64 = 20;
const STEADY_BYTES: u64 = 2 << 20;
/// Growth counts from this part of the first RSS on, or from this many bytes.
const GROWTH_PART: u64 = 20;
pub(super) const GROWTH_BYTES: u64 = 8 << 20;
/// Fewer points tell no course.
const LEAST_POINTS: usize = 5;

/// Points of time and bytes, oldest first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Course<'a>(&'a [(u64, u64)]);

impl<'a> Course<'a> {
    /// None where there are too few points.
    pub(super) fn of(points: &'a [(u64, u64)]) -> Option<Self> {
        (points.len() >= LEAST_POINTS).then_some(Self(points))
    }

    pub(super) fn first(&self) -> u64 {
        self.0[0].1
    }

    pub(super) fn last(&self) -> u64 {
        self.0[self.0.len() - 1].1
    }

    pub(super) fn growth(&self) -> u64 {
        self.last().saturating_sub(self.first())
    }

    /// True if it has grown by much, and in the last half of the time as well: not all of it at first.
    pub(super) fn grows(&self) -> bool {
        let growth = self.growth();
        let much = GROWTH_BYTES.max(self.first() / GROWTH_PART);
        let late = self.last_half();
        let before = late
            .iter()
            .take(late.len().div_ceil(3))
            .map(|point| point.1);
        let since = late.iter().skip(late.len() * 2 / 3).map(|point| point.1);
        let (before, since) = (before.max().unwrap_or(0), since.min().unwrap_or(0));
        // A quarter of an even growth would fall into the last third but one of that half.
        growth >= much && since > before && self.spread() > self.tolerance()
    }

    /// By how much it moved in the last half of the time.
    fn spread(&self) -> u64 {
        let bytes = self.last_half().iter().map(|point| point.1);
        let (least, most) = (bytes.clone().min(), bytes.max());
        most.unwrap_or(0) - least.unwrap_or(0)
    }

    /// For how long it has been as steady as it is in the last half of the time.
    pub(super) fn steady_ns(&self) -> u64 {
        let band = self.band();
        let last = self.0[self.0.len() - 1];
        let since = self
            .0
            .iter()
            .rev()
            .take_while(|point| point.1.abs_diff(last.1) <= band)
            .last()
            .unwrap_or(&last);
        last.0.saturating_sub(since.0)
    }

    /// True if the last half of the time added next to nothing.
    pub(super) fn is_flat(&self) -> bool {
        let late = self.last_half();
        let (first, last) = (late[0].1, late[late.len() - 1].1);
        last.saturating_sub(first) < STEADY_BYTES.max(self.growth() / STEADY_PART)
    }

    /// What it is steady within.
    pub(super) fn band(&self) -> u64 {
        self.spread().max(self.tolerance())
    }

    fn tolerance(&self) -> u64 {
        STEADY_BYTES.max(self.last() / STEADY_PART)
    }

    fn last_half(&self) -> &[(u64, u64)] {
        let (start, end) = (self.0[0].0, self.0[self.0.len() - 1].0);
        let middle = start + (end - start) / 2;
        let at = self.0.partition_point(|point| point.0 < middle);
        &self.0[at.min(self.0.len() - 2)..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const M: u64 = 1 << 20;

    fn of(bytes: &[u64]) -> Vec<(u64, u64)> {
        (0..)
            .step_by(1_000_000_000)
            .zip(bytes.iter().map(|m| m * M))
            .collect()
    }

    #[test]
    fn growth_that_ended_is_no_growth_any_more() {
        let even: Vec<u64> = (10..40).map(|i| i * 3).collect();
        assert!(Course::of(&of(&even)).unwrap().grows());
        let ended: Vec<u64> = (0..30)
            .map(|i| if i < 10 { 10 + 20 * i } else { 200 })
            .collect();
        let points = of(&ended);
        let course = Course::of(&points).unwrap();
        assert!(!course.grows());
        assert_eq!(course.spread(), 0);
        // From 190 on, which is within a twentieth.
        assert_eq!(course.steady_ns(), 20_000_000_000);
    }

    #[test]
    fn ups_and_downs_are_steady_in_their_band() {
        let waves: Vec<u64> = (0..30).map(|i| 100 + i % 2 * 40).collect();
        let points = of(&waves);
        let course = Course::of(&points).unwrap();
        assert!(!course.grows());
        assert_eq!(course.spread(), 40 * M);
    }

    #[test]
    fn a_large_process_that_grows_a_little_is_steady() {
        let slow: Vec<u64> = (0..30).map(|i| 10_000 + i).collect();
        assert!(!Course::of(&of(&slow)).unwrap().grows());
    }

    #[test]
    fn a_handful_of_points_is_needed() {
        assert!(Course::of(&of(&[1, 2, 3, 4])).is_none());
        assert!(Course::of(&of(&[1, 2, 3, 4, 5])).is_some());
    }
}
