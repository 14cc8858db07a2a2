//! The running totals of one address space: calls by advice, unmaps, maps and faults by class.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use super::advice::Advice;
use super::event::{Cgroup, Rollup};
pub use super::fault_totals::{ClassTotals, FaultTotals};
use super::trend::Trend;

/// Why a page fault happened, as far as the events tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FaultClass {
    FirstTouch,
    RefaultDontneed,
    RefaultFree,
    RefaultOther,
    Cow,
    SwapIn,
    File,
    Unknown,
}

impl FaultClass {
    pub const ALL: [Self; 8] = [
        Self::FirstTouch,
        Self::RefaultDontneed,
        Self::RefaultFree,
        Self::RefaultOther,
        Self::Cow,
        Self::SwapIn,
        Self::File,
        Self::Unknown,
    ];

    pub fn is_refault(self) -> bool {
        matches!(
            self,
            Self::RefaultDontneed | Self::RefaultFree | Self::RefaultOther
        )
    }
}

/// How a byte figure came about, from the strongest to the weakest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Basis {
    #[default]
    Exact,
    Measured,
    Derived,
    LowerBound,
    UpperBound,
}

impl Basis {
    pub fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Measured => "measured",
            Self::Derived => "derived",
            Self::LowerBound => "lower_bound",
            Self::UpperBound => "upper_bound",
        }
    }
}

/// Adds to a sum that can pass 2^64: a loop over 64 TiB of nothing does it in seconds.
pub(super) fn add(sum: &mut u64, bytes: u64) {
    *sum = sum.saturating_add(bytes);
}

/// Times from a release to its refault. Two significant digits; None until there is one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ages(Option<Box<Histogram<u32>>>);

impl Ages {
    /// Adds an age, so many times.
    pub fn record(&mut self, age_ns: u64, times: u64) {
        if times == 0 {
            return;
        }
        // Not saturating_record_n: it clamps to today's range instead of growing it.
        let times = u32::try_from(times).unwrap_or(u32::MAX);
        let recorded = self.histogram().record_n(age_ns, times);
        recorded.expect("a histogram that grows takes any value");
    }

    fn histogram(&mut self) -> &mut Histogram<u32> {
        self.0.get_or_insert_with(|| {
            // Two digits is the precision shown; the range grows by itself to any age.
            let mut histogram = Histogram::new(2).expect("2 is a valid precision");
            histogram.auto(true);
            Box::new(histogram)
        })
    }

    fn add(&mut self, other: &Self) {
        if let Some(ages) = &other.0 {
            let sum = self.histogram();
            sum.add(&**ages)
                .expect("a histogram that grows takes any other of its precision");
        }
    }

    /// The age that `quantile` (0 to 1) of the refaults do not exceed, in nanoseconds.
    pub fn quantile_ns(&self, quantile: f64) -> Option<u64> {
        Some(self.0.as_ref()?.value_at_quantile(quantile))
    }
}

/// Bytes that calls released, and how they are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Released {
    /// The most, where `basis` says that it is a bound.
    pub bytes: u64,
    /// What was surely there and went.
    pub least_bytes: u64,
    pub basis: Basis,
}

impl Released {
    pub fn plus(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_add(other.bytes),
            least_bytes: self.least_bytes.saturating_add(other.least_bytes),
            basis: self.basis.max(other.basis),
        }
    }
}

/// Calls that give memory back, of one kind.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReleaseTotals {
    pub calls: u64,
    pub failed: u64,
    pub partial: u64,
    /// Page-rounded bytes that the calls were applied to.
    pub requested_bytes: u64,
    /// What was resident and was dropped or newly marked; None where nothing tells.
    pub released: Option<Released>,
    /// A part of `released` is not known, and so the sum never will be.
    pub released_unknown: bool,
    pub refaults: u64,
    /// The least that came back.
    pub refaulted_bytes: u64,
    /// How much more it may be: one fault may have brought back many pages.
    pub refaulted_extra_bytes: u64,
    /// The part of `refaulted_bytes` that a parent had given back before the fork: no call
    /// counted here released it, so it has no part in a ratio.
    pub inherited_refaulted_bytes: u64,
    pub ages: Ages,
}

impl ReleaseTotals {
    /// The most that can have come back. More than was released it can't be, where that is known.
    pub fn refaulted_most_bytes(&self) -> u64 {
        let most = self
            .refaulted_bytes
            .saturating_add(self.refaulted_extra_bytes);
        match self.released {
            Some(released) if !self.released_unknown => most
                .min(
                    released
                        .bytes
                        .saturating_add(self.inherited_refaulted_bytes),
                )
                .max(self.refaulted_bytes),
            _ => most,
        }
    }

    /// True where the ratio is no more than a lower bound.
    pub fn ratio_is_bound(&self) -> bool {
        let most = self
            .released
            .is_some_and(|released| released.basis == Basis::UpperBound);
        self.refaulted_bytes > 0 && (most || self.refaulted_extra_bytes > 0)
    }

    /// Refaulted bytes over released bytes, or over requested bytes where those are not known;
    /// the word says which. None where nothing was given back.
    pub fn refault_ratio(&self) -> Option<(f64, &'static str)> {
        let (given, basis) = match self.released {
            Some(released) => (released.bytes, "released"),
            None => (self.requested_bytes, "requested"),
        };
        let own = self
            .refaulted_bytes
            .saturating_sub(self.inherited_refaulted_bytes);
        (given > 0).then(|| (own as f64 / given as f64, basis))
    }

    /// Adds bytes that came back after they were given back.
    pub(super) fn refaulted(&mut self, inherited: bool, bytes: u64) {
        add(&mut self.refaulted_bytes, bytes);
        if inherited {
            add(&mut self.inherited_refaulted_bytes, bytes);
        }
    }

    /// Adds to what the calls released; once a part of the sum is unknown, it all is.
    pub(super) fn count_released(&mut self, released: Option<Released>) {
        self.released_unknown |= released.is_none();
        self.released = match released {
            Some(one) if !self.released_unknown => Some(self.released.map_or(one, |a| a.plus(one))),
            _ => None,
        };
    }

    fn add(&mut self, other: &Self) {
        self.released_unknown |= other.released_unknown;
        // A sum with an unknown part is unknown; what never happened has no part in it.
        self.released = match (self.calls, other.calls) {
            _ if self.released_unknown => None,
            (_, 0) => self.released,
            (0, _) => other.released,
            _ => self.released.zip(other.released).map(|(a, b)| a.plus(b)),
        };
        self.calls += other.calls;
        self.failed += other.failed;
        self.partial += other.partial;
        add(&mut self.requested_bytes, other.requested_bytes);
        self.refaults += other.refaults;
        add(&mut self.refaulted_bytes, other.refaulted_bytes);
        add(&mut self.refaulted_extra_bytes, other.refaulted_extra_bytes);
        add(
            &mut self.inherited_refaulted_bytes,
            other.inherited_refaulted_bytes,
        );
        self.ages.add(&other.ages);
    }
}

/// Calls that add memory, of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MapTotals {
    pub calls: u64,
    pub failed: u64,
    pub bytes: u64,
}

impl MapTotals {
    fn add(&mut self, other: &Self) {
        self.calls += other.calls;
        self.failed += other.failed;
        add(&mut self.bytes, other.bytes);
    }
}

/// How mappings end.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UnmapTotals {
    pub munmap: ReleaseTotals,
    /// MAP_FIXED over pages that were mapped.
    pub map_fixed: ReleaseTotals,
    pub mremap: ReleaseTotals,
    pub brk: ReleaseTotals,
}

/// Calls that map, by syscall.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MapCalls {
    pub mmap: MapTotals,
    pub brk: MapTotals,
    pub mremap: MapTotals,
}

/// Advice that has totals of its own, beside what has a name.
const MOST_ADVICE: usize = 64;

/// Everything counted for one address space.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Totals {
    pub advice: BTreeMap<Advice, ReleaseTotals>,
    pub unmap: UnmapTotals,
    pub map: MapCalls,
    pub faults: FaultTotals,
    /// Calls that were under way when tracing began, whose range is not known.
    pub unseen_calls: u64,
    /// Ranges of process_madvise whose target process could not be told any more.
    pub untargeted_calls: u64,
    /// Bytes that came with no fault: MADV_POPULATE, MADV_COLLAPSE, khugepaged, direct IO and the
    /// like. None where nobody measured.
    pub unfaulted_bytes: Option<u64>,
    /// Counting began after the trace did: what came before is not in `unfaulted_bytes`.
    pub unfaulted_late: bool,
    /// Calls were lost, and with them what they released.
    pub calls_lost: bool,
}

impl Totals {
    /// The totals of an advice. Numbers that are no advice are the target's own invention, and
    /// beyond a few of them all the others share one entry.
    pub(super) fn of_advice(&mut self, advice: Advice) -> &mut ReleaseTotals {
        let known = advice.name().is_some() || self.advice.contains_key(&advice);
        let key = if known || self.advice.len() < MOST_ADVICE {
            advice
        } else {
            Advice::OTHERS
        };
        let released_unknown = self.calls_lost;
        self.advice.entry(key).or_insert_with(|| ReleaseTotals {
            released_unknown,
            ..ReleaseTotals::default()
        })
    }

    /// Calls were lost, of any kind: what they released is part of no sum.
    pub(super) fn lose_calls(&mut self) {
        self.calls_lost = true;
        let unmap = &mut self.unmap;
        let unmap = [
            &mut unmap.munmap,
            &mut unmap.map_fixed,
            &mut unmap.mremap,
            &mut unmap.brk,
        ];
        for totals in self.advice.values_mut().chain(unmap) {
            totals.count_released(None);
        }
    }

    /// Of the numbers that are no advice the lowest keep totals of their own, so that a sum does not depend
    /// on the order in which it is made.
    fn bound_advice(&mut self) {
        let invented = |advice: &&Advice| advice.name().is_none();
        let beyond: Vec<Advice> = self
            .advice
            .keys()
            .filter(invented)
            .skip(MOST_ADVICE)
            .copied()
            .collect();
        for advice in beyond {
            if let Some(one) = self.advice.remove(&advice) {
                self.advice.entry(Advice::OTHERS).or_default().add(&one);
            }
        }
    }

    /// Adds another address space's totals, for a sum over several processes.
    pub fn add(&mut self, other: &Self) {
        for (advice, one) in &other.advice {
            self.advice.entry(*advice).or_default().add(one);
        }
        self.bound_advice();
        for (sum, one) in [
            (&mut self.unmap.munmap, &other.unmap.munmap),
            (&mut self.unmap.map_fixed, &other.unmap.map_fixed),
            (&mut self.unmap.mremap, &other.unmap.mremap),
            (&mut self.unmap.brk, &other.unmap.brk),
        ] {
            sum.add(one);
        }
        self.map.mmap.add(&other.map.mmap);
        self.map.brk.add(&other.map.brk);
        self.map.mremap.add(&other.map.mremap);
        self.faults.add(&other.faults);
        self.calls_lost |= other.calls_lost;
        self.unseen_calls += other.unseen_calls;
        self.untargeted_calls += other.untargeted_calls;
        // Known as far as it was measured anywhere.
        self.unfaulted_late |= other.unfaulted_late;
        if let Some(bytes) = other.unfaulted_bytes {
            add(self.unfaulted_bytes.get_or_insert(0), bytes);
        }
    }
}

/// What is known of RSS over the trace; each None where it was never read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RssHistory {
    pub start_bytes: Option<u64>,
    pub last_bytes: Option<u64>,
    pub last_at_ns: Option<u64>,
    /// The highest of the samples.
    pub peak_bytes: Option<u64>,
    /// How it went.
    pub trend: Trend,
    /// How it went without what was lazily free.
    pub effective_trend: Trend,
    /// How much of it was lazily free, by the looks, and the most of it.
    pub lazy_trend: Trend,
    pub lazy_peak_bytes: Option<u64>,
    /// The virtual size, with the last RSS.
    pub virtual_bytes: Option<u64>,
    /// The first and the last look at smaps_rollup.
    pub first_rollup: Option<Rollup>,
    pub last_rollup: Option<Rollup>,
    /// Looks at smaps_rollup.
    pub rollups: u64,
    /// What memory cgroups say, with the last such look.
    pub cgroup: Option<Cgroup>,
}

impl RssHistory {
    pub fn lazyfree_bytes(&self) -> Option<u64> {
        Some(self.last_rollup.as_ref()?.lazyfree_bytes)
    }

    /// RSS less what was lazily free, both of one read.
    pub fn effective_bytes(&self) -> Option<u64> {
        let rollup = self.last_rollup.as_ref()?;
        Some(rollup.rss_bytes.saturating_sub(rollup.lazyfree_bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_of_any_size_keep_two_digits() {
        for age_ns in [1, 255, 256, 3_100_000_000, u64::MAX] {
            let mut ages = Ages::default();
            ages.record(0, 1);
            ages.record(age_ns, 1);
            let highest = ages.quantile_ns(1.0).expect("ages were recorded");
            assert!(
                highest.abs_diff(age_ns) <= age_ns / 100,
                "{age_ns}: {highest}"
            );
        }
    }
}
