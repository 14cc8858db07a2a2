//! The keys of what the other advice would have come to.

use serde::Serialize;

use crate::view::what_if::{FaultCost, Range, ToDontneed, ToFree, WhatIf};

#[derive(Serialize)]
pub(super) struct WhatIfRow {
    free_to_dontneed: Option<ToDontneedRow>,
    dontneed_to_free: Option<ToFreeRow>,
    fault_ns: Option<RangeRow>,
    assumptions: Vec<String>,
}

#[derive(Serialize)]
struct ToDontneedRow {
    rss_less_bytes: Option<RangeRow>,
    rss_less_mean_bytes: Option<u64>,
    rss_less_peak_bytes: Option<u64>,
    more_faults: RangeRow,
    more_cpu_ns: Option<RangeRow>,
}

#[derive(Serialize)]
struct ToFreeRow {
    rss_more_bytes: RangeRow,
    fewer_faults: RangeRow,
    less_cpu_ns: Option<RangeRow>,
}

#[derive(Serialize)]
struct RangeRow {
    least: u64,
    most: Option<u64>,
}

impl WhatIfRow {
    pub(super) fn of(what_if: &WhatIf) -> Self {
        Self {
            free_to_dontneed: what_if.to_dontneed.map(ToDontneedRow::of),
            dontneed_to_free: what_if.to_free.map(ToFreeRow::of),
            fault_ns: what_if.fault.map(RangeRow::of_cost),
            assumptions: what_if.assumptions(),
        }
    }
}

impl ToDontneedRow {
    fn of(switched: ToDontneed) -> Self {
        Self {
            rss_less_bytes: switched.rss_less_bytes.map(RangeRow::of),
            rss_less_mean_bytes: switched.rss_less_mean_bytes,
            rss_less_peak_bytes: switched.rss_less_peak_bytes,
            more_faults: RangeRow::of(switched.more_faults),
            more_cpu_ns: switched.more_cpu_ns.map(RangeRow::of),
        }
    }
}

impl ToFreeRow {
    fn of(switched: ToFree) -> Self {
        Self {
            rss_more_bytes: RangeRow::of(switched.rss_more_bytes),
            fewer_faults: RangeRow::of(switched.fewer_faults),
            less_cpu_ns: switched.less_cpu_ns.map(RangeRow::of),
        }
    }
}

impl RangeRow {
    fn of(range: Range) -> Self {
        Self {
            least: range.least,
            most: range.most,
        }
    }

    fn of_cost(cost: FaultCost) -> Self {
        Self {
            least: cost.least_ns,
            most: Some(cost.most_ns),
        }
    }
}
