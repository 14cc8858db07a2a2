//! The cap on stream lines a second on a terminal, counted in the time of the events.

const WINDOW_NS: u64 = 1_000_000_000;
/// More cannot be read, and drawing them would slow the tracer down.
pub(super) const LINES_A_SECOND: u64 = 50;

/// Counts the lines of the second that runs.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    /// When the second began; None before the first line.
    began_ns: Option<u64>,
    shown: u64,
    hidden: u64,
}

impl Throttle {
    /// Time has come this far; returns how many lines were hidden in a second that is now over.
    pub(super) fn advance(&mut self, now_ns: u64) -> Option<u64> {
        // Runs of faults come a little late, with the time of their first: that is no new second.
        let over = self
            .began_ns
            .is_some_and(|began| now_ns >= began + WINDOW_NS);
        if !over {
            return None;
        }
        self.began_ns = None;
        self.shown = 0;
        self.finish()
    }

    /// Whether a line of the second that runs is shown. To be asked after [`Throttle::advance`].
    pub(super) fn admit(&mut self, now_ns: u64) -> bool {
        self.began_ns.get_or_insert(now_ns);
        let admitted = self.shown < LINES_A_SECOND;
        if admitted {
            self.shown += 1;
        } else {
            self.hidden += 1;
        }
        admitted
    }

    /// Returns how many lines were hidden and not told of yet.
    pub(super) fn finish(&mut self) -> Option<u64> {
        let hidden = std::mem::take(&mut self.hidden);
        (hidden > 0).then_some(hidden)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = WINDOW_NS;

    fn push(throttle: &mut Throttle, now_ns: u64, lines: u64) -> (Option<u64>, u64) {
        let told = throttle.advance(now_ns);
        let shown = (0..lines).filter(|_| throttle.admit(now_ns)).count();
        (told, shown as u64)
    }

    #[test]
    fn fifty_lines_of_a_second_are_shown_and_the_rest_is_counted() {
        let mut throttle = Throttle::default();
        assert_eq!(push(&mut throttle, 7 * SECOND, 40), (None, 40));
        assert_eq!(push(&mut throttle, 7 * SECOND + 1, 40), (None, 10));
        assert_eq!(push(&mut throttle, 8 * SECOND - 1, 5), (None, 0));
        assert_eq!(push(&mut throttle, 8 * SECOND, 60), (Some(35), 50));
        assert_eq!(throttle.finish(), Some(10));
        assert_eq!(throttle.finish(), None);
    }

    #[test]
    fn a_late_line_opens_no_new_second() {
        let mut throttle = Throttle::default();
        assert_eq!(push(&mut throttle, 7 * SECOND, 50), (None, 50));
        assert_eq!(push(&mut throttle, 6 * SECOND, 5), (None, 0));
    }

    #[test]
    fn nothing_is_told_where_nothing_was_hidden() {
        let mut throttle = Throttle::default();
        assert_eq!(throttle.advance(SECOND), None);
        assert_eq!(push(&mut throttle, SECOND, 50), (None, 50));
        assert_eq!(throttle.advance(5 * SECOND), None);
    }
}
