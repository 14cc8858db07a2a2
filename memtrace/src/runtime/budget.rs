//! How much work one look at a process may be: bytes, records, CPU time and time, one budget for all that it reads.

use std::cell::Cell;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::clock;
use crate::units::{Bytes, Count};

/// How far a look may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Enough for nearly every program, and too little for one to keep others waiting.
    Quick,
    /// Enough for the largest: a browser's symbols are 100 MB of names and as much of entries, and
    /// a look reads them up to three times.
    Thorough,
}

/// What a look may take. One file may take half of what is left, so that none takes it from all others.
#[derive(Clone, Copy, Debug)]
pub(super) struct Amount {
    /// Asked for by read(2).
    pub(super) bytes: u64,
    /// Symbols, relocations, sections, segments, strings found, lines of maps, variables.
    pub(super) records: u64,
    pub(super) cpu_ns: u64,
    /// Slow disks and network file systems are not waited for longer than this between two reads.
    pub(super) time_ns: u64,
}

const QUICK: Amount = Amount {
    bytes: 128 << 20,
    records: 4 << 20,
    cpu_ns: 100_000_000,
    time_ns: 200_000_000,
};
const THOROUGH: Amount = Amount {
    bytes: 1 << 30,
    records: 32 << 20,
    cpu_ns: 3_000_000_000,
    time_ns: 5_000_000_000,
};

impl Depth {
    pub(super) fn amount(self) -> Amount {
        match self {
            Self::Quick => QUICK,
            Self::Thorough => THOROUGH,
        }
    }

    /// The longest that a look takes, in nanoseconds, unless a call of it hangs in the kernel.
    pub fn time_ns(self) -> u64 {
        self.amount().time_ns
    }
}

/// Why something is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    Bytes(u64),
    Records(u64),
    Cpu(u64),
    Time(u64),
    /// The run ends.
    Stopped,
    /// More sections or segments than are kept.
    Parts,
    /// More mapped files than are kept.
    Files,
    /// The name of a symbol stands at more places than are looked at.
    Names,
    /// It ends before its headers say.
    Ends,
}

impl Limit {
    /// Whether a larger budget would have led further.
    pub(super) fn is_of_the_budget(self) -> bool {
        matches!(
            self,
            Self::Bytes(_) | Self::Records(_) | Self::Cpu(_) | Self::Time(_)
        )
    }
}

/// As the end of a sentence.
impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |ns: u64| ns as f64 / 1e9;
        match *self {
            Self::Bytes(most) => write!(f, "more than {} would have to be read", Bytes(most)),
            Self::Records(most) => {
                write!(
                    f,
                    "it has more than {} records (symbols, sections)",
                    Count(most)
                )
            }
            Self::Cpu(most) => write!(f, "it takes more than {:.1} s of CPU time", seconds(most)),
            Self::Time(most) => write!(f, "it takes longer than {:.1} s", seconds(most)),
            Self::Stopped => f.write_str("memtrace ended before"),
            Self::Parts => f.write_str("it has more sections than are looked at"),
            Self::Files => f.write_str("it has more of them than are looked at"),
            Self::Names => f.write_str("the name of a symbol stands in it too often"),
            Self::Ends => f.write_str("it ends before its headers say"),
        }
    }
}

/// What is left; of CPU time and time, until when.
#[derive(Clone, Copy)]
struct Left {
    bytes: u64,
    records: u64,
    cpu_until_ns: u64,
    until_ns: u64,
}

impl Left {
    fn amount(self) -> Amount {
        Amount {
            bytes: self.bytes,
            records: self.records,
            cpu_ns: self.cpu_until_ns.saturating_sub(clock::thread_cpu_ns()),
            time_ns: self.until_ns.saturating_sub(clock::now_ns()),
        }
    }
}

/// The budget of one look, used by one thread.
pub(super) struct Budget<'a> {
    left: Cell<Left>,
    granted: Cell<Amount>,
    /// Why no more is read.
    over: Cell<Option<Limit>>,
    /// Why what was read is not all.
    missed: Cell<Option<Limit>>,
    stop: &'a AtomicBool,
}

impl<'a> Budget<'a> {
    pub(super) fn new(amount: Amount, stop: &'a AtomicBool) -> Self {
        let left = Left {
            bytes: amount.bytes,
            records: amount.records,
            cpu_until_ns: clock::thread_cpu_ns().saturating_add(amount.cpu_ns),
            until_ns: clock::now_ns().saturating_add(amount.time_ns),
        };
        Self {
            left: Cell::new(left),
            granted: Cell::new(amount),
            over: Cell::new(None),
            missed: Cell::new(None),
            stop,
        }
    }

    /// Whether anything may still be done. Asks the clocks.
    pub(super) fn goes_on(&self) -> bool {
        if self.over.get().is_some() {
            return false;
        }
        let left = self.left.get();
        if self.stop.load(Ordering::Relaxed) {
            self.end(Limit::Stopped)
        } else if clock::thread_cpu_ns() >= left.cpu_until_ns {
            self.end(Limit::Cpu(self.granted.get().cpu_ns))
        } else if clock::now_ns() >= left.until_ns {
            self.end(Limit::Time(self.granted.get().time_ns))
        } else {
            true
        }
    }

    /// Takes what one read asks for; false if it must not be made.
    pub(super) fn take_bytes(&self, bytes: usize) -> bool {
        if !self.goes_on() {
            return false;
        }
        let mut left = self.left.get();
        let Some(rest) = left.bytes.checked_sub(bytes as u64) else {
            return self.end(Limit::Bytes(self.granted.get().bytes));
        };
        left.bytes = rest;
        self.left.set(left);
        true
    }

    /// Takes records that are about to be looked at; false if they must not be.
    pub(super) fn take_records(&self, records: usize) -> bool {
        if self.over.get().is_some() {
            return false;
        }
        let mut left = self.left.get();
        let Some(rest) = left.records.checked_sub(records as u64) else {
            return self.end(Limit::Records(self.granted.get().records));
        };
        left.records = rest;
        self.left.set(left);
        true
    }

    /// Goes on, but something was passed over.
    pub(super) fn miss(&self, limit: Limit) {
        if self.missed.get().is_none() {
            self.missed.set(Some(limit));
        }
    }

    /// Why what was found since the part began may not be all.
    pub(super) fn lacks(&self) -> Option<Limit> {
        self.over.get().or(self.missed.get())
    }

    /// Does a part of the work, say a file's, with half of what is left; and why it is not all.
    pub(super) fn part<T>(&self, work: impl FnOnce() -> T) -> (T, Option<Limit>) {
        let (whole, granted) = (self.left.get(), self.granted.get());
        let half = whole.amount();
        let half = Left {
            bytes: half.bytes / 2,
            records: half.records / 2,
            cpu_until_ns: whole.cpu_until_ns - half.cpu_ns / 2,
            until_ns: whole.until_ns - half.time_ns / 2,
        };
        self.left.set(half);
        self.granted.set(half.amount());
        let answer = work();
        let rest = self.left.get();
        self.left.set(Left {
            bytes: whole.bytes - (half.bytes - rest.bytes),
            records: whole.records - (half.records - rest.records),
            ..whole
        });
        self.granted.set(granted);
        let lacks = self.lacks();
        self.over.set(None);
        self.missed.set(None);
        (answer, lacks)
    }

    fn end(&self, limit: Limit) -> bool {
        self.over.set(Some(limit));
        false
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// For tests that count: no clock ends it.
    pub(in crate::runtime) fn counted(bytes: u64, records: u64) -> Budget<'static> {
        static GOES_ON: AtomicBool = AtomicBool::new(false);
        let amount = Amount {
            bytes,
            records,
            cpu_ns: u64::MAX / 4,
            time_ns: u64::MAX / 4,
        };
        Budget::new(amount, &GOES_ON)
    }

    /// What tests with small files never come to the end of.
    pub(in crate::runtime) fn ample() -> &'static Budget<'static> {
        Box::leak(Box::new(counted(u64::MAX / 4, u64::MAX / 4)))
    }

    #[test]
    fn a_part_has_half_and_what_it_leaves_is_there_again() {
        let budget = counted(100, 10);
        let ((), lacks) = budget.part(|| {
            assert!(budget.take_bytes(50) && budget.take_records(2));
            assert!(!budget.take_bytes(1) && !budget.take_records(1));
        });
        assert_eq!(lacks, Some(Limit::Bytes(50)));
        let ((), lacks) = budget.part(|| {
            assert!(budget.take_bytes(25));
            assert!(budget.take_records(4) && !budget.take_records(1));
        });
        assert_eq!(lacks, Some(Limit::Records(4)));
        assert!(budget.take_bytes(25) && !budget.take_bytes(1));
        assert_eq!(budget.lacks(), Some(Limit::Bytes(100)));
    }

    #[test]
    fn a_miss_ends_nothing_and_is_told_once() {
        let budget = counted(100, 10);
        let (went_on, lacks) = budget.part(|| {
            budget.miss(Limit::Ends);
            budget.miss(Limit::Names);
            budget.take_bytes(1)
        });
        assert_eq!((went_on, lacks), (true, Some(Limit::Ends)));
        assert_eq!(budget.part(|| ()).1, None);
    }

    #[test]
    fn a_stop_and_each_clock_end_it() {
        let stop = AtomicBool::new(true);
        let amount = |cpu_ns, time_ns| Amount {
            bytes: 1,
            records: 1,
            cpu_ns,
            time_ns,
        };
        for (amount, limit) in [
            (amount(u64::MAX, u64::MAX), Limit::Stopped),
            (amount(0, u64::MAX), Limit::Cpu(0)),
            (amount(u64::MAX, 0), Limit::Time(0)),
        ] {
            let budget = Budget::new(amount, &stop);
            assert!(!budget.goes_on() && !budget.take_bytes(1) && !budget.take_records(1));
            assert_eq!(budget.lacks(), Some(limit));
            stop.store(false, Ordering::Relaxed);
        }
    }

    #[test]
    fn every_reason_is_told_in_words() {
        for (limit, words) in [
            (
                Limit::Bytes(512 << 20),
                "more than 512M would have to be read",
            ),
            (
                Limit::Records(5_000),
                "it has more than 5,000 records (symbols, sections)",
            ),
            (
                Limit::Cpu(1_500_000_000),
                "it takes more than 1.5 s of CPU time",
            ),
            (Limit::Time(2_500_000_000), "it takes longer than 2.5 s"),
        ] {
            assert_eq!(limit.to_string(), words);
            assert!(limit.is_of_the_budget());
        }
        assert!(!Limit::Stopped.is_of_the_budget());
    }
}
