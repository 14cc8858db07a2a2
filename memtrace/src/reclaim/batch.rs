//! What is asked of the kernel in one call: so many ranges, so many bytes, and on from where the last call stopped.

use std::collections::VecDeque;
use std::ops::Range;

/// UIO_MAXIOV of include/uapi/linux/uio.h: the kernel refuses more ranges in one call.
pub const MAX_RANGES: usize = 1024;
/// Bytes in one call. The target's mmap and munmap wait while the kernel works on them, and Ctrl-C is answered after them.
pub const MAX_BYTES: u64 = 64 << 20;
/// Ranges are cut at multiples of this, so that no huge page has to be split for it.
const CUT: u64 = 2 << 20;

/// The ranges that are still to be asked for, in order.
#[derive(Clone, Debug, Default)]
pub struct Queue {
    left: VecDeque<Range<u64>>,
}

impl Queue {
    pub fn new(ranges: impl IntoIterator<Item = Range<u64>>) -> Self {
        let left = ranges.into_iter().filter(|range| !range.is_empty());
        Self {
            left: left.collect(),
        }
    }

    /// The ranges of the next call, at most so many; none when all is done.
    pub fn next(&self, at_most: usize) -> Vec<Range<u64>> {
        let mut batch = Vec::new();
        let mut room = MAX_BYTES;
        for range in self.left.iter().take(at_most.min(MAX_RANGES)) {
            if len(range) <= room {
                room -= len(range);
                batch.push(range.clone());
                continue;
            }
            let end = range.start.saturating_add(room);
            let end = end - end % CUT;
            if end > range.start {
                batch.push(range.start..end);
            }
            break;
        }
        batch
    }

    /// The kernel has dealt with the first `bytes`.
    pub fn advance(&mut self, mut bytes: u64) {
        while let Some(first) = self.left.front_mut() {
            if bytes < len(first) {
                first.start += bytes;
                return;
            }
            bytes -= len(first);
            self.left.pop_front();
        }
    }

    /// Gives the first range up, as far as the last call named it.
    pub fn skip_first(&mut self) {
        let first = self.next(1).first().map_or(0, len);
        self.advance(first);
    }

    pub fn is_empty(&self) -> bool {
        self.left.is_empty()
    }
}

/// How many bytes some ranges are together.
pub fn total(ranges: &[Range<u64>]) -> u64 {
    ranges
        .iter()
        .fold(0, |sum, range| sum.saturating_add(len(range)))
}

fn len(range: &Range<u64>) -> u64 {
    range.end.saturating_sub(range.start)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PAGE: u64 = 4096;
    const M: u64 = 1 << 20;

    /// A list of one; in brackets a lone range looks like a list of its numbers.
    fn only(range: Range<u64>) -> Vec<Range<u64>> {
        std::iter::once(range).collect()
    }

    #[test]
    fn three_thousand_ranges_are_three_calls() {
        let ranges = (0..3000).map(|n| n * 2 * PAGE..n * 2 * PAGE + PAGE);
        let mut queue = Queue::new(ranges);
        let mut sizes = Vec::new();
        while !queue.is_empty() {
            let batch = queue.next(MAX_RANGES);
            sizes.push(batch.len());
            queue.advance(total(&batch));
        }
        assert_eq!(sizes, [1024, 1024, 952]);
    }

    #[test]
    fn a_call_can_be_given_fewer_ranges() {
        let queue = Queue::new((0..9).map(|n| n * 2 * PAGE..n * 2 * PAGE + PAGE));
        assert_eq!(queue.next(3).len(), 3);
        assert_eq!(queue.next(usize::MAX).len(), 9);
    }

    #[test]
    fn a_large_range_is_cut_at_whole_huge_pages() {
        let start = 7 * M + 3 * PAGE;
        let mut queue = Queue::new(only(start..start + 200 * M));
        assert_eq!(queue.next(MAX_RANGES), only(start..70 * M));
        queue.advance(63 * M - 3 * PAGE);
        assert_eq!(queue.next(MAX_RANGES), only(70 * M..134 * M));
    }

    #[test]
    fn what_does_not_fit_any_more_waits_for_the_next_call() {
        let (first, second) = (0..63 * M, 101 * M..103 * M);
        let queue = Queue::new([first.clone(), second]);
        // One more megabyte would fit, but only to the middle of a huge page's place.
        assert_eq!(queue.next(MAX_RANGES), [first, 101 * M..102 * M]);
        let queue = Queue::new([0..64 * M - PAGE, 101 * M..103 * M]);
        assert_eq!(queue.next(MAX_RANGES), only(0..64 * M - PAGE));
    }

    #[test]
    fn a_call_that_stops_in_a_range_is_gone_on_with_from_there() {
        let mut queue = Queue::new([0..4 * PAGE, 8 * PAGE..12 * PAGE]);
        queue.advance(6 * PAGE);
        assert_eq!(queue.next(MAX_RANGES), only(10 * PAGE..12 * PAGE));
        queue.skip_first();
        assert!(queue.is_empty() && queue.next(MAX_RANGES).is_empty());
    }

    proptest! {
        #[test]
        fn whatever_the_kernel_answers_all_is_asked_for_once_and_in_order(
            lens in prop::collection::vec((1u64..40_000, 1u64..5), 1..40),
            answers in prop::collection::vec(0u64..30_000, 1..20),
        ) {
            let mut at = 0;
            let ranges: Vec<_> = lens.iter().map(|(len, gap)| {
                let start = at + gap * PAGE;
                at = start + len * PAGE;
                start..at
            }).collect();
            let mut queue = Queue::new(ranges.clone());
            let mut asked = 0;
            for turn in 0.. {
                let batch = queue.next(MAX_RANGES);
                if batch.is_empty() {
                    break;
                }
                prop_assert!(batch.len() <= MAX_RANGES && total(&batch) <= MAX_BYTES);
                let answer = answers[turn % answers.len()] * PAGE;
                if answer == 0 {
                    asked += total(&batch[..1]);
                    queue.skip_first();
                } else {
                    let done = answer.min(total(&batch));
                    asked += done;
                    queue.advance(done);
                }
            }
            prop_assert_eq!(asked, total(&ranges));
        }
    }
}
