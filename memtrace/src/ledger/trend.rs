//! How a figure went over time, in few points however long that was.

/// More are thinned out.
const MOST: usize = 128;

/// Points of time and bytes, evenly spaced as far as they came so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trend {
    points: Vec<(u64, u64)>,
    /// Points nearer than this to the last one take its place.
    spacing_ns: u64,
}

impl Trend {
    /// Adds a point; one that is older than the last is left out.
    pub fn push(&mut self, at_ns: u64, bytes: u64) {
        if self.points.last().is_some_and(|last| at_ns < last.0) {
            return;
        }
        // The first point stays the first.
        if let [_, .., last] = &mut self.points[..]
            && at_ns.saturating_sub(last.0) < self.spacing_ns
        {
            last.1 = bytes;
            return;
        }
        self.points.push((at_ns, bytes));
        if self.points.len() > MOST {
            let mut keep = 0;
            // Every other point, and the first and the last of all.
            self.points.retain(|_| {
                keep += 1;
                keep % 2 == 1
            });
            let span = self.points[self.points.len() - 1].0 - self.points[0].0;
            self.spacing_ns = span / (MOST as u64 / 2);
        }
    }

    /// From the oldest to the newest, in nanoseconds and bytes.
    pub fn points(&self) -> &[(u64, u64)] {
        &self.points
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_long_run_keeps_its_shape_in_few_points() {
        let mut trend = Trend::default();
        for i in 0..100_000 {
            trend.push(i * 1000, i);
        }
        let points = trend.points();
        assert!(
            (MOST / 2 - 2..=MOST).contains(&points.len()),
            "{}",
            points.len()
        );
        assert_eq!(points[0], (0, 0));
        assert!(points[points.len() - 1].1 > 98_000);
        let middle = points[points.len() / 2].1;
        assert!((40_000..60_000).contains(&middle), "{middle}");
    }

    proptest! {
        #[test]
        fn points_ascend_and_are_bounded(steps in prop::collection::vec(0u64..1 << 40, 0..1000)) {
            let mut trend = Trend::default();
            let mut at = 0;
            for step in &steps {
                at += step;
                trend.push(at, *step);
            }
            prop_assert!(trend.points().len() <= MOST);
            prop_assert!(trend.points().is_sorted_by_key(|point| point.0));
            prop_assert_eq!(trend.points().is_empty(), steps.is_empty());
        }
    }
}
