//! Tests of the decisions against a kernel that is made up.

use super::*;
use crate::proc::lazy::LazyMapping;

const PAGE: u64 = 4096;

/// A process of so many mappings, each lazily free from end to end, and a kernel that answers as it is told.
struct Fake {
    /// What is lazily free, by mapping.
    lazy: Vec<Range<u64>>,
    calls: Vec<Vec<Range<u64>>>,
    /// Deals with at most so many bytes a call.
    at_most: u64,
    /// Refuses a range that begins here, with this errno.
    refuses: Option<(u64, i32)>,
    /// And then says nothing of the ranges before it, as old kernels do.
    hides_partial: bool,
    /// The process ends before this call.
    dies_before: Option<usize>,
    /// Bytes of each range that a call leaves, until it has been called so often.
    leaves: (u64, usize),
    looks: u32,
}

impl Fake {
    fn new(lazy: impl IntoIterator<Item = Range<u64>>) -> Self {
        let lazy: Vec<_> = lazy.into_iter().collect();
        Self {
            lazy,
            calls: Vec::new(),
            at_most: u64::MAX,
            refuses: None,
            hides_partial: false,
            dies_before: None,
            leaves: (0, 0),
            looks: 0,
        }
    }

    fn found(&self) -> LazyMappings {
        let mapping = |range: &Range<u64>| LazyMapping {
            range: range.clone(),
            rss_bytes: range.end - range.start,
            lazyfree_bytes: range.end - range.start,
            name: None,
        };
        LazyMappings {
            list: self.lazy.iter().map(mapping).collect(),
            ..LazyMappings::default()
        }
    }

    fn dead(&self) -> bool {
        self.dies_before
            .is_some_and(|call| self.calls.len() >= call)
    }

    fn run(&mut self) -> Work {
        self.run_watched(|_| ControlFlow::Continue(()))
    }

    fn run_watched(&mut self, watch: impl FnMut(Progress) -> ControlFlow<()>) -> Work {
        let before = self.sums().unwrap().unwrap();
        let found = self.found();
        take(self, before, found, watch).unwrap()
    }
}

impl Kernel for Fake {
    fn page_out(&mut self, ranges: &[Range<u64>]) -> io::Result<u64> {
        assert!(ranges.len() <= batch::MAX_RANGES && self.calls.len() < 10_000);
        if self.dead() {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        self.calls.push(ranges.to_vec());
        let keep = match self.leaves {
            (bytes, calls) if self.calls.len() <= calls => bytes,
            _ => 0,
        };
        let mut done = 0;
        for range in ranges {
            if let Some((at, errno)) = self.refuses
                && range.start == at
            {
                return match done {
                    _ if self.hides_partial => Err(io::Error::from_raw_os_error(errno)),
                    0 => Err(io::Error::from_raw_os_error(errno)),
                    _ => Ok(done),
                };
            }
            let end = range
                .end
                .min(range.start.saturating_add(self.at_most - done));
            let taken = range.start..end.saturating_sub(keep).max(range.start);
            let mut left = Vec::new();
            for lazy in self.lazy.drain(..) {
                let head = lazy.start..lazy.end.min(taken.start).max(lazy.start);
                let tail = lazy.start.max(taken.end).min(lazy.end)..lazy.end;
                left.extend([head, tail].into_iter().filter(|part| !part.is_empty()));
            }
            self.lazy = left;
            done += end - range.start;
            if done >= self.at_most {
                break;
            }
        }
        Ok(done)
    }

    fn mappings(&mut self) -> io::Result<Option<LazyMappings>> {
        self.looks += 1;
        Ok((!self.dead()).then(|| self.found()))
    }

    fn sums(&mut self) -> io::Result<Option<Rollup>> {
        Ok((!self.dead()).then(|| Rollup {
            rss_bytes: 100 * PAGE + batch::total(&self.lazy),
            lazyfree_bytes: batch::total(&self.lazy),
            ..Rollup::default()
        }))
    }
}

/// So many mappings of two pages, with gaps.
fn mappings(count: u64) -> impl Iterator<Item = Range<u64>> {
    (0..count).map(|n| 16 * n * PAGE..(16 * n + 2) * PAGE)
}

#[test]
fn three_thousand_mappings_are_taken_in_three_calls_and_one_pass() {
    let mut kernel = Fake::new(mappings(3000));
    let work = kernel.run();
    let sizes: Vec<_> = kernel.calls.iter().map(Vec::len).collect();
    assert_eq!(sizes, [1024, 1024, 952]);
    assert_eq!(
        (work.ending, work.passes, work.ranges, work.refused),
        (Ending::Done, 1, 3000, 0)
    );
    assert_eq!(work.advised_bytes, 6000 * PAGE);
    let after = work.after.unwrap();
    assert_eq!((after.rss_bytes, after.lazyfree_bytes), (100 * PAGE, 0));
    assert_eq!(kernel.looks, 0);
}

#[test]
fn a_call_that_stops_in_the_middle_of_a_range_is_gone_on_with() {
    let mut kernel = Fake::new([0..4 * PAGE, 10 * PAGE..14 * PAGE]);
    kernel.at_most = 3 * PAGE;
    let work = kernel.run();
    assert_eq!(
        kernel.calls,
        [
            vec![0..4 * PAGE, 10 * PAGE..14 * PAGE],
            vec![3 * PAGE..4 * PAGE, 10 * PAGE..14 * PAGE],
            std::iter::once(12 * PAGE..14 * PAGE).collect(),
        ]
    );
    assert_eq!((work.advised_bytes, work.passes), (8 * PAGE, 1));
}

#[test]
fn a_range_that_has_vanished_does_not_keep_the_others() {
    for errno in [libc::ENOMEM, libc::EINVAL] {
        let mut kernel = Fake::new(mappings(5));
        kernel.refuses = Some((2 * 16 * PAGE, errno));
        let work = kernel.run();
        // All, up to it; from it on; it alone; those behind it. Then it alone in each pass that is left.
        let sizes: Vec<_> = kernel.calls.iter().map(Vec::len).collect();
        assert_eq!(sizes, [5, 3, 1, 1, 1, 1, 1]);
        assert_eq!(work.after.unwrap().lazyfree_bytes, 2 * PAGE);
        assert_eq!(work.advised_bytes, 8 * PAGE);
        assert_eq!((work.passes, work.refused), (MAX_PASSES, 1));
    }
}

#[test]
fn an_old_kernel_that_does_not_say_which_range_it_refused_is_asked_until_it_is_known() {
    let mut kernel = Fake::new(mappings(1000));
    kernel.refuses = Some((700 * 16 * PAGE, libc::EINVAL));
    kernel.hides_partial = true;
    let work = kernel.run();
    assert_eq!(work.after.unwrap().lazyfree_bytes, 2 * PAGE);
    assert_eq!((work.refused, work.passes), (1, MAX_PASSES));
    assert_eq!(work.ranges, 1000);
    assert!(kernel.calls.len() < 60, "{} calls", kernel.calls.len());
}

#[test]
fn a_process_that_ends_meanwhile_is_a_normal_end() {
    let mut kernel = Fake::new(mappings(3000));
    kernel.dies_before = Some(1);
    let work = kernel.run();
    assert_eq!((work.ending, work.after), (Ending::Gone, None));
    assert_eq!(work.advised_bytes, 2048 * PAGE);
    assert!(ask(&mut kernel).is_ok_and(|alive| !alive));
}

#[test]
fn what_a_pass_leaves_is_asked_for_again_as_long_as_it_shrinks() {
    let mut kernel = Fake::new(mappings(3));
    kernel.leaves = (PAGE, 1);
    let work = kernel.run();
    assert_eq!((work.passes, work.after.unwrap().lazyfree_bytes), (2, 0));
    // The second pass asks for what is left alone, as it was read again.
    assert_eq!(kernel.calls[1][0], PAGE..2 * PAGE);

    let mut stubborn = Fake::new(mappings(3));
    stubborn.leaves = (2 * PAGE, usize::MAX);
    let work = stubborn.run();
    assert_eq!((work.passes, stubborn.looks), (1, 0));
    assert_eq!(work.after.unwrap().lazyfree_bytes, 6 * PAGE);
}

#[test]
fn it_can_be_stopped_between_two_calls() {
    let mut kernel = Fake::new(mappings(3000));
    let work = kernel.run_watched(|progress| match progress.done_bytes {
        0 => ControlFlow::Continue(()),
        _ => ControlFlow::Break(()),
    });
    assert_eq!((work.ending, kernel.calls.len()), (Ending::Interrupted, 1));
    assert_eq!(work.after.unwrap().lazyfree_bytes, (6000 - 2048) * PAGE);
}

#[test]
fn a_kernel_that_answers_nothing_useful_is_not_asked_for_ever() {
    let mut kernel = Fake::new(mappings(10));
    kernel.at_most = 0;
    let work = kernel.run();
    assert_eq!((work.advised_bytes, work.refused), (0, 10));
}

#[test]
fn a_refusal_of_everything_says_what_is_missing() {
    struct No(i32);
    impl Kernel for No {
        fn page_out(&mut self, _: &[Range<u64>]) -> io::Result<u64> {
            Err(io::Error::from_raw_os_error(self.0))
        }
        fn mappings(&mut self) -> io::Result<Option<LazyMappings>> {
            Ok(None)
        }
        fn sums(&mut self) -> io::Result<Option<Rollup>> {
            Ok(None)
        }
    }
    for (errno, named) in [
        (libc::EPERM, "CAP_SYS_NICE"),
        (libc::EACCES, "CAP_SYS_PTRACE"),
        (libc::ENOSYS, "older than 5.10"),
        (libc::EINVAL, "MADV_PAGEOUT"),
        (libc::EIO, "process_madvise"),
    ] {
        let refused = ask(&mut No(errno)).unwrap_err().to_string();
        assert!(refused.contains(named), "{refused}");
    }
    let found = Fake::new(mappings(1)).found();
    let refused = take(&mut No(libc::EPERM), Rollup::default(), found, |_| {
        ControlFlow::Continue(())
    });
    assert!(matches!(refused, Err(Refusal::Nice)));
}
