//! Rates of an interval, from two successive totals and their times.

use super::Rates;
use crate::ledger::advice::GiveBack;
use crate::ledger::totals::Totals;

/// The counters whose growth is shown as a rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counters {
    free_bytes: u64,
    dontneed_bytes: u64,
    refaulted_bytes: u64,
    faults: u64,
}

impl Counters {
    fn of(totals: &Totals) -> Self {
        let requested = |how| {
            let of_kind =
                |(advice, _): &(&crate::ledger::advice::Advice, _)| advice.give_back() == Some(how);
            totals
                .advice
                .iter()
                .filter(of_kind)
                .map(|(_, t)| t.requested_bytes)
                .sum()
        };
        Self {
            free_bytes: requested(GiveBack::Free),
            dontneed_bytes: requested(GiveBack::DontNeed),
            refaulted_bytes: totals.faults.refaults().bytes,
            faults: totals.faults.total,
        }
    }
}

/// Remembers the counters of the last interval; one for each address space.
#[derive(Clone, Copy, Debug)]
pub struct Meter {
    at_ns: u64,
    before: Counters,
}

impl Meter {
    /// Starts at the moment when all totals were 0.
    pub fn new(start_ns: u64) -> Self {
        Self {
            at_ns: start_ns,
            before: Counters::default(),
        }
    }

    /// The rates since the last call; all 0 where no time has passed.
    pub fn rates(&mut self, at_ns: u64, totals: &Totals) -> Rates {
        let now = Counters::of(totals);
        let nanos = at_ns.saturating_sub(self.at_ns);
        if nanos == 0 {
            // What was counted at this very moment belongs to the next interval.
            return Rates::default();
        }
        let per_second =
            |now: u64, before: u64| now.saturating_sub(before) as f64 * 1e9 / nanos as f64;
        let before = self.before;
        *self = Self { at_ns, before: now };
        Rates {
            free_bytes: per_second(now.free_bytes, before.free_bytes),
            dontneed_bytes: per_second(now.dontneed_bytes, before.dontneed_bytes),
            refaulted_bytes: per_second(now.refaulted_bytes, before.refaulted_bytes),
            faults: per_second(now.faults, before.faults),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::advice::Advice;
    use crate::ledger::totals::FaultClass;

    const SECOND: u64 = 1_000_000_000;

    fn totals(free: u64, dontneed: u64, locked: u64, refaults: u64) -> Totals {
        let mut totals = Totals::default();
        for (advice, bytes) in [
            (Advice::FREE, free),
            (Advice::DONTNEED, dontneed),
            (Advice::DONTNEED_LOCKED, locked),
            (Advice::COLD, 999),
        ] {
            totals.advice.entry(advice).or_default().requested_bytes = bytes;
        }
        totals.faults.class_mut(FaultClass::RefaultFree).bytes = refaults * 4096;
        totals.faults.class_mut(FaultClass::File).bytes = 999;
        totals.faults.total = refaults + 7;
        totals
    }

    #[test]
    fn rates_are_growth_over_time() {
        let mut meter = Meter::new(5 * SECOND);
        let first = meter.rates(6 * SECOND, &totals(1000, 200, 50, 3));
        assert_eq!(
            first,
            Rates {
                free_bytes: 1000.0,
                dontneed_bytes: 250.0,
                refaulted_bytes: 12288.0,
                faults: 10.0,
            }
        );
        let second = meter.rates(8 * SECOND, &totals(3000, 200, 50, 5));
        assert_eq!(
            second,
            Rates {
                free_bytes: 1000.0,
                dontneed_bytes: 0.0,
                refaulted_bytes: 4096.0,
                faults: 1.0,
            }
        );
    }

    #[test]
    fn an_interval_without_time_has_no_rates_and_loses_nothing() {
        let mut meter = Meter::new(SECOND);
        assert_eq!(
            meter.rates(SECOND, &totals(1000, 0, 0, 0)),
            Rates::default()
        );
        assert_eq!(meter.rates(0, &totals(1000, 0, 0, 0)), Rates::default());
        assert_eq!(
            meter.rates(2 * SECOND, &totals(1000, 0, 0, 0)).free_bytes,
            1000.0
        );
    }
}
