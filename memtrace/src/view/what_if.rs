//! What the other advice would have come to: ranges from this run's own figures, with what they assume.

use crate::ledger::advice::Advice;
use crate::ledger::lazy::Lazy;
use crate::ledger::space::PAGE;
use crate::ledger::totals::{Basis, FaultClass, RssHistory, Totals};
use crate::units::Nanos;

use super::balance::Balance;

/// The largest folio that one fault can populate (x86-64).
const HUGE: u64 = 2 << 20;

/// From the least to the most that it may be; no most where nothing bounds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub least: u64,
    pub most: Option<u64>,
}

/// What a page fault costs here in CPU time: the mean, and about the least and the most, of many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultCost {
    pub mean_ns: u64,
    pub least_ns: u64,
    pub most_ns: u64,
}

/// MADV_DONTNEED in the place of MADV_FREE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ToDontneed {
    /// At the last look; None where nobody looked.
    pub rss_less_bytes: Option<Range>,
    /// Over the run, from the first look on; each stands until the next.
    pub rss_less_mean_bytes: Option<u64>,
    pub rss_less_peak_bytes: Option<u64>,
    /// For memory that was written again while it was still there, and so without a fault.
    pub more_faults: Range,
    /// None where the cost of a fault could not be measured.
    pub more_cpu_ns: Option<Range>,
}

/// MADV_FREE in the place of MADV_DONTNEED.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ToFree {
    /// Until the kernel takes it.
    pub rss_more_bytes: Range,
    /// All refaults, unless the kernel takes the memory first.
    pub fewer_faults: Range,
    pub less_cpu_ns: Option<Range>,
}

/// Either direction, where that advice did anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WhatIf {
    pub to_dontneed: Option<ToDontneed>,
    pub to_free: Option<ToFree>,
    pub fault: Option<FaultCost>,
    /// One fault may bring more than a page.
    pub larger_folios: bool,
}

/// One run's figures.
#[derive(Clone, Copy, Debug)]
pub struct Figures<'a> {
    pub totals: &'a Totals,
    pub lazy: &'a Lazy,
    pub balance: Option<&'a Balance>,
    pub rss: &'a RssHistory,
    pub end_ns: u64,
    pub fault: Option<FaultCost>,
}

impl WhatIf {
    /// None where there is nothing to switch.
    pub fn of(figures: &Figures<'_>) -> Option<Self> {
        let faults = &figures.totals.faults;
        let what_if = Self {
            to_dontneed: to_dontneed(figures),
            to_free: to_free(figures),
            fault: figures.fault,
            larger_folios: [FaultClass::FirstTouch, FaultClass::RefaultDontneed]
                .into_iter()
                .any(|class| faults.class(class).basis() == Basis::LowerBound),
        };
        let any = what_if.to_dontneed.is_some() || what_if.to_free.is_some();
        any.then_some(what_if)
    }

    /// What the ranges rest on, in sentences.
    pub fn assumptions(&self) -> Vec<String> {
        let mut all = vec!["the program does the same either way".to_owned()];
        all.push(match (self.fault, self.larger_folios) {
            (None, _) => "what a fault costs could not be measured".to_owned(),
            (Some(fault), folios) => format!(
                "{}, at {} to {} of CPU time (measured here, on fresh memory)",
                if folios {
                    "a fault brings from one page to 2M"
                } else {
                    "a fault brings one page"
                },
                Nanos(fault.least_ns),
                Nanos(fault.most_ns)
            ),
        });
        if self.to_free.is_some() {
            all.push(
                "MADV_FREE saves a fault only where the kernel has not taken the page by then, and works on private \
                 anonymous memory alone"
                    .to_owned(),
            );
        }
        all
    }
}

fn to_dontneed(figures: &Figures<'_>) -> Option<ToDontneed> {
    let balance = figures.balance.filter(|balance| balance.marked_bytes > 0)?;
    let more_faults = reused(figures, balance);
    let rss_less_bytes = figures.rss.last_rollup.map(|rollup| Range {
        least: rollup.lazyfree_bytes,
        // What each CPU holds back is lazily free too.
        most: Some(match rollup.lazyfree_bytes {
            0 => 0,
            bytes => bytes.saturating_add(balance.still_lazy_error_bytes),
        }),
    });
    Some(ToDontneed {
        rss_less_bytes,
        rss_less_mean_bytes: mean(figures.rss.lazy_trend.points(), figures.end_ns),
        rss_less_peak_bytes: figures.rss.lazy_peak_bytes,
        more_faults,
        more_cpu_ns: cpu(more_faults, figures.fault),
    })
}

/// The faults of what was written again without one.
fn reused(figures: &Figures<'_>, balance: &Balance) -> Range {
    let lazy = figures.lazy;
    let free = figures.totals.advice.get(&Advice::FREE);
    let larger = figures.totals.faults.class(FaultClass::FirstTouch).basis() == Basis::LowerBound;
    let least = balance
        .reused_at_least_bytes
        .unwrap_or_else(|| lazy.reused_at_least_bytes());
    // All that was marked may have been written again, each time that it was, but for what the last look
    // still showed and what the kernel took. What was dropped may have been in use.
    let lost = figures.totals.calls_lost || free.is_some_and(|free| free.released.is_none());
    let looked = balance.reused_silently_bytes.is_some();
    let most = balance
        .marked_bytes
        .saturating_sub(lazy.before_error_bytes)
        .saturating_sub(balance.still_lazy_bytes.filter(|_| looked).unwrap_or(0))
        .saturating_sub(balance.reclaimed_at_least_bytes);
    let least = least / if larger { HUGE } else { PAGE };
    Range {
        least: least.min(most / PAGE),
        most: (!lost).then_some(most / PAGE),
    }
}

fn to_free(figures: &Figures<'_>) -> Option<ToFree> {
    let dontneed = figures.totals.advice.get(&Advice::DONTNEED)?;
    let done = dontneed.calls > dontneed.failed || dontneed.partial > 0;
    let released = dontneed.released.map(|released| released.bytes);
    let nothing = released == Some(0) && dontneed.refaults == 0;
    if nothing || (!done && dontneed.refaults == 0) {
        return None;
    }
    let own = dontneed
        .refaulted_bytes
        .saturating_sub(dontneed.inherited_refaulted_bytes);
    let fewer_faults = Range {
        least: 0,
        most: (!figures.totals.calls_lost).then_some(dontneed.refaults),
    };
    Some(ToFree {
        rss_more_bytes: Range {
            least: 0,
            most: released.map(|released| released.saturating_sub(own)),
        },
        fewer_faults,
        less_cpu_ns: cpu(fewer_faults, figures.fault),
    })
}

fn cpu(faults: Range, cost: Option<FaultCost>) -> Option<Range> {
    cost.map(|cost| Range {
        least: faults.least.saturating_mul(cost.least_ns),
        most: faults.most.map(|most| most.saturating_mul(cost.most_ns)),
    })
}

/// The mean over time of points that each stand until the next, the last to the end. None without two looks.
fn mean(points: &[(u64, u64)], end_ns: u64) -> Option<u64> {
    let (first, _) = *points.first().filter(|_| points.len() > 1)?;
    let next = points[1..].iter().map(|point| point.0).chain([end_ns]);
    let sum: u128 = points
        .iter()
        .zip(next)
        .map(|((at_ns, bytes), next_ns)| {
            u128::from(next_ns.saturating_sub(*at_ns)) * u128::from(*bytes)
        })
        .sum();
    let last = points[points.len() - 1].0.max(end_ns);
    let span = u128::from(last - first);
    u64::try_from(sum.checked_div(span)?).ok()
}

#[cfg(test)]
mod tests;
