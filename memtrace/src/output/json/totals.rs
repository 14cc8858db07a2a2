//! The keys of what is counted: advice, unmaps, maps, faults and RSS.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::lines::class_key;
use crate::ledger::event::Cgroup;
use crate::ledger::totals::{
    Ages, Basis, ClassTotals, FaultClass, FaultTotals, MapCalls, MapTotals, ReleaseTotals, Totals,
    UnmapTotals,
};
use crate::view::Summary;
use crate::view::balance::Balance;

/// An entry for every advice seen, under its name.
pub(super) struct AdviceRow<'a> {
    totals: &'a Totals,
    ages: bool,
}

impl<'a> AdviceRow<'a> {
    pub(super) fn with_ages(totals: &'a Totals) -> Self {
        Self { totals, ages: true }
    }

    pub(super) fn without_ages(totals: &'a Totals) -> Self {
        Self {
            totals,
            ages: false,
        }
    }
}

impl Serialize for AdviceRow<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut row = serializer.serialize_map(Some(self.totals.advice.len()))?;
        for (advice, totals) in &self.totals.advice {
            let release = ReleaseRow {
                totals,
                can_refault: advice.give_back().is_some(),
                ages: self.ages,
            };
            row.serialize_entry(&advice.to_string(), &release)?;
        }
        row.end()
    }
}

/// Calls of one kind.
struct ReleaseRow<'a> {
    totals: &'a ReleaseTotals,
    /// False where no fault can bring back what the call did: it gave nothing back, or it ended
    /// the mapping.
    can_refault: bool,
    ages: bool,
}

impl Serialize for ReleaseRow<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let totals = self.totals;
        let refault = |value: u64| self.can_refault.then_some(value);
        let ratio = totals.refault_ratio().filter(|_| self.can_refault);
        let mut row = serializer.serialize_map(None)?;
        row.serialize_entry("calls", &totals.calls)?;
        row.serialize_entry("failed", &totals.failed)?;
        row.serialize_entry("partial", &totals.partial)?;
        row.serialize_entry("requested_bytes", &totals.requested_bytes)?;
        let released = totals.released;
        row.serialize_entry("released_bytes", &released.map(|released| released.bytes))?;
        row.serialize_entry(
            "released_at_least_bytes",
            &released.map(|released| released.least_bytes),
        )?;
        row.serialize_entry(
            "released_basis",
            &released.map(|released| released.basis.name()),
        )?;
        row.serialize_entry("refaults", &refault(totals.refaults))?;
        row.serialize_entry("refaulted_bytes", &refault(totals.refaulted_bytes))?;
        row.serialize_entry(
            "refaulted_at_most_bytes",
            &refault(totals.refaulted_most_bytes()),
        )?;
        row.serialize_entry(
            "inherited_refaulted_bytes",
            &refault(totals.inherited_refaulted_bytes),
        )?;
        row.serialize_entry("refault_ratio", &ratio.map(|(ratio, _)| ratio))?;
        row.serialize_entry("ratio_basis", &ratio.map(|(_, basis)| basis))?;
        if self.ages {
            row.serialize_entry("age_ns", &AgesRow::of(&totals.ages))?;
        }
        row.end()
    }
}

#[derive(Serialize)]
struct AgesRow {
    p50: u64,
    p90: u64,
    p99: u64,
}

impl AgesRow {
    fn of(ages: &Ages) -> Option<Self> {
        Some(Self {
            p50: ages.quantile_ns(0.5)?,
            p90: ages.quantile_ns(0.9)?,
            p99: ages.quantile_ns(0.99)?,
        })
    }
}

#[derive(Serialize)]
pub(super) struct UnmapRow<'a> {
    munmap: ReleaseRow<'a>,
    map_fixed: ReleaseRow<'a>,
    mremap: ReleaseRow<'a>,
    brk: ReleaseRow<'a>,
}

impl<'a> UnmapRow<'a> {
    pub(super) fn of(unmap: &'a UnmapTotals) -> Self {
        let row = |totals: &'a ReleaseTotals| ReleaseRow {
            totals,
            can_refault: false,
            ages: true,
        };
        Self {
            munmap: row(&unmap.munmap),
            map_fixed: row(&unmap.map_fixed),
            mremap: row(&unmap.mremap),
            brk: row(&unmap.brk),
        }
    }
}

#[derive(Serialize)]
pub(super) struct MapRow {
    mmap: MapCallsRow,
    brk: MapCallsRow,
    mremap: MapCallsRow,
}

#[derive(Serialize)]
struct MapCallsRow {
    calls: u64,
    failed: u64,
    bytes: u64,
}

impl MapRow {
    pub(super) fn of(map: &MapCalls) -> Self {
        let row = |totals: &MapTotals| MapCallsRow {
            calls: totals.calls,
            failed: totals.failed,
            bytes: totals.bytes,
        };
        Self {
            mmap: row(&map.mmap),
            brk: row(&map.brk),
            mremap: row(&map.mremap),
        }
    }
}

/// One figure for each class, with the sums around them.
#[derive(Serialize)]
struct ClassesRow {
    total: u64,
    major: Option<u64>,
    first_touch: u64,
    refault_dontneed: u64,
    refault_free: u64,
    refault_other: u64,
    cow: u64,
    swap_in: Option<u64>,
    file: u64,
    unknown: u64,
    ambiguous: Option<u64>,
    zero_page_writes: Option<u64>,
}

impl ClassesRow {
    fn faults(faults: &FaultTotals) -> Self {
        let one = |class| faults.class(class).faults;
        Self {
            total: faults.total,
            ambiguous: Some(faults.ambiguous),
            zero_page_writes: Some(faults.zero_page_writes),
            ..Self::classes(faults, one)
        }
    }

    fn bytes(faults: &FaultTotals) -> Self {
        let one = |class| faults.class(class).bytes;
        Self {
            total: faults.all().bytes,
            ..Self::classes(faults, one)
        }
    }

    fn classes(faults: &FaultTotals, one: impl Fn(FaultClass) -> u64) -> Self {
        // Nothing proves yet that a fault was not one of these, so that 0 is no knowledge.
        let swapped = faults.class(FaultClass::SwapIn).faults > 0;
        Self {
            total: 0,
            major: None,
            first_touch: one(FaultClass::FirstTouch),
            refault_dontneed: one(FaultClass::RefaultDontneed),
            refault_free: one(FaultClass::RefaultFree),
            refault_other: one(FaultClass::RefaultOther),
            cow: one(FaultClass::Cow),
            swap_in: swapped.then(|| one(FaultClass::SwapIn)),
            file: one(FaultClass::File),
            unknown: one(FaultClass::Unknown),
            ambiguous: None,
            zero_page_writes: None,
        }
    }
}

/// The faults by class, their bytes, and how the bytes are known.
pub(super) struct FaultsRow<'a>(pub(super) &'a FaultTotals);

#[derive(Serialize)]
struct FaultKeys<'a> {
    #[serde(flatten)]
    faults: ClassesRow,
    bytes: ClassesRow,
    bytes_basis: &'static str,
    class_basis: ClassBasis<'a>,
    bytes_at_most: MostBytes<'a>,
    bytes_by_basis: BytesByBasis,
}

impl Serialize for FaultsRow<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let keys = FaultKeys {
            faults: ClassesRow::faults(self.0),
            bytes: ClassesRow::bytes(self.0),
            bytes_basis: self.0.all().basis().name(),
            class_basis: ClassBasis(self.0),
            bytes_at_most: MostBytes(self.0),
            bytes_by_basis: BytesByBasis::of(&self.0.all()),
        };
        keys.serialize(serializer)
    }
}

/// The basis of every class that has faults.
struct ClassBasis<'a>(&'a FaultTotals);

impl Serialize for ClassBasis<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bases = FaultClass::ALL
            .into_iter()
            .map(|class| (class, self.0.class(class)))
            .filter(|(_, totals)| totals.faults > 0 || totals.bytes > 0)
            .map(|(class, totals)| (class_key(class), totals.basis().name()));
        serializer.collect_map(bases)
    }
}

/// The most that the faults of all classes, and of every class that has faults, can have brought.
struct MostBytes<'a>(&'a FaultTotals);

impl Serialize for MostBytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let classes = FaultClass::ALL
            .into_iter()
            .map(|class| (class, self.0.class(class)))
            .filter(|(_, totals)| totals.faults > 0 || totals.bytes > 0)
            .map(|(class, totals)| (class_key(class), totals.most_bytes()));
        let all = [("total", self.0.all().most_bytes())];
        serializer.collect_map(all.into_iter().chain(classes))
    }
}

/// How many of the bytes are known in which way.
#[derive(Serialize)]
struct BytesByBasis {
    exact: u64,
    measured: u64,
    derived: u64,
    lower_bound: u64,
}

impl BytesByBasis {
    fn of(totals: &ClassTotals) -> Self {
        let others = [
            totals.measured_bytes,
            totals.derived_bytes,
            totals.loose_bytes,
        ];
        Self {
            exact: others.into_iter().fold(totals.bytes, u64::saturating_sub),
            measured: totals.measured_bytes,
            derived: totals.derived_bytes,
            lower_bound: totals.loose_bytes,
        }
    }
}

/// RSS and what explains it.
#[derive(Serialize)]
pub(super) struct RssRow<'a> {
    start_bytes: Option<u64>,
    end_bytes: Option<u64>,
    end_age_ns: Option<u64>,
    peak_bytes: Option<u64>,
    lazyfree_bytes: Option<u64>,
    lazyfree_age_ns: Option<u64>,
    effective_bytes: Option<u64>,
    reclaimed_bytes: Option<u64>,
    reused_silently_bytes: Option<u64>,
    virtual_bytes: Option<u64>,
    pss_bytes: Option<u64>,
    swap_bytes: Option<u64>,
    anonymous_bytes: Option<u64>,
    anon_huge_bytes: Option<u64>,
    cgroup: Option<CgroupRow<'a>>,
    samples: u64,
    sample_cost_ns: Option<u64>,
}

impl<'a> RssRow<'a> {
    pub(super) fn of(summary: &'a Summary) -> Self {
        let rss = &summary.rss;
        let rollup = rss.last_rollup.as_ref();
        let balance = summary.balance.as_ref();
        Self {
            start_bytes: rss.start_bytes,
            end_bytes: rss.last_bytes,
            end_age_ns: summary.rss_age_ns,
            peak_bytes: rss.peak_bytes,
            lazyfree_bytes: rss.lazyfree_bytes(),
            lazyfree_age_ns: summary.lazyfree_age_ns(),
            effective_bytes: rss.effective_bytes(),
            reclaimed_bytes: balance.and_then(|balance| balance.reclaimed_bytes),
            reused_silently_bytes: balance.and_then(|balance| balance.reused_silently_bytes),
            virtual_bytes: rss.virtual_bytes,
            pss_bytes: rollup.map(|rollup| rollup.pss_bytes),
            swap_bytes: rollup.map(|rollup| rollup.swap_bytes),
            anonymous_bytes: rollup.map(|rollup| rollup.anonymous_bytes),
            anon_huge_bytes: rollup.map(|rollup| rollup.anon_huge_bytes),
            cgroup: rss.cgroup.as_ref().map(CgroupRow::of),
            samples: rss.rollups,
            sample_cost_ns: rollup.map(|rollup| rollup.cost_ns),
        }
    }
}

#[derive(Serialize)]
struct CgroupRow<'a> {
    version: u8,
    path: &'a str,
    usage_bytes: u64,
    working_set_bytes: u64,
    inactive_file_bytes: u64,
    limit_bytes: Option<u64>,
}

impl<'a> CgroupRow<'a> {
    fn of(cgroup: &'a Cgroup) -> Self {
        Self {
            version: cgroup.version,
            path: &cgroup.path,
            usage_bytes: cgroup.usage_bytes,
            working_set_bytes: cgroup.working_set_bytes(),
            inactive_file_bytes: cgroup.inactive_file_bytes,
            limit_bytes: cgroup.limit_bytes,
        }
    }
}

/// What became of what MADV_FREE marked.
#[derive(Serialize)]
pub(super) struct BalanceRow {
    marked_bytes: u64,
    marked_basis: &'static str,
    before_bytes: Option<u64>,
    still_lazy_bytes: Option<u64>,
    still_lazy_error_bytes: u64,
    reclaimed_bytes: Option<u64>,
    reclaimed_basis: Option<&'static str>,
    reclaimed_at_least_bytes: u64,
    reclaimed_at_most_bytes: Option<u64>,
    reused_silently_bytes: Option<u64>,
    reused_at_least_bytes: Option<u64>,
    dropped_bytes: u64,
}

impl BalanceRow {
    pub(super) fn of(balance: &Balance) -> Self {
        Self {
            marked_bytes: balance.marked_bytes,
            marked_basis: Basis::UpperBound.name(),
            before_bytes: balance.before_bytes,
            still_lazy_bytes: balance.still_lazy_bytes,
            still_lazy_error_bytes: balance.still_lazy_error_bytes,
            reclaimed_bytes: balance.reclaimed_bytes,
            reclaimed_basis: balance
                .reclaimed_bytes
                .map(|_| balance.reclaimed_basis.name()),
            reclaimed_at_least_bytes: balance.reclaimed_at_least_bytes,
            reclaimed_at_most_bytes: balance.reclaimed_at_most_bytes,
            reused_silently_bytes: balance.reused_silently_bytes,
            reused_at_least_bytes: balance.reused_at_least_bytes,
            dropped_bytes: balance.dropped_bytes,
        }
    }
}
