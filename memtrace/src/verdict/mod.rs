//! What the RSS of a process is: rules over the figures of a run, with the evidence and the remedy.
//!
//! Pure: the same facts always get the same verdict. It says what the figures show and no more;
//! that a process can't be killed for want of memory is nothing that any of them shows.

mod effect;
mod growth;
mod remedy;

use crate::ledger::advice::Advice;
use crate::ledger::totals::{FaultClass, RssHistory, Totals};
use crate::runtime::Runtime;
use crate::units::{Bytes, BytesPerSecond, Count, Nanos, Percent, counted};
pub use effect::effects;

use growth::Course;

/// What the verdict rests on.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    pub pid: u32,
    pub start_ns: u64,
    pub duration_ns: u64,
    /// Traced from its first instruction, so that nothing was there before.
    pub from_start: bool,
    /// Nothing was lost.
    pub exact: bool,
    /// Faults that happened and are in no total.
    pub lost_faults: u64,
    pub ended: bool,
    pub rss: &'a RssHistory,
    pub totals: &'a Totals,
    pub runtimes: &'a [Runtime],
    /// What one fault costs on this machine, as measured at the end of the run.
    pub fault_ns: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Given back by MADV_FREE, and not taken by the kernel yet.
    LazilyFree,
    /// Given back and faulted in again, over and over.
    Churn,
    /// Resident, not given back, and no longer growing.
    Retained,
    /// Grew without page faults: huge pages, or populated ahead.
    RegrowthWithoutFaults,
    /// Touched for the first time and not given back: a leak or a cache.
    Growth,
    NotEnoughData,
}

impl Kind {
    /// The word in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::LazilyFree => "lazily_free",
            Self::Churn => "churn",
            Self::Retained => "retained",
            Self::RegrowthWithoutFaults => "regrowth_without_faults",
            Self::Growth => "growth",
            Self::NotEnoughData => "not_enough_data",
        }
    }

    /// What it means, in a few words.
    pub fn headline(self) -> &'static str {
        match self {
            Self::LazilyFree => "lazily free, not a leak",
            Self::Churn => "churn: memory is given back and needed again",
            Self::Retained => "retained: resident, not given back, no longer growing",
            Self::RegrowthWithoutFaults => "grown without page faults",
            Self::Growth => "growth: a leak or a cache",
            Self::NotEnoughData => "not enough data",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Confidence {
    Low,
    Medium,
    High,
}

impl Confidence {
    pub fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }

    fn lowered(self) -> Self {
        match self {
            Self::High => Self::Medium,
            Self::Medium | Self::Low => Self::Low,
        }
    }
}

/// What the RSS is, as far as the run tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub kind: Kind,
    pub confidence: Confidence,
    /// The figures that it rests on.
    pub evidence: Vec<String>,
    /// What lowers the confidence.
    pub doubts: Vec<String>,
    /// What to do. Names of settings in it come from the target: not escaped.
    pub advice: Vec<String>,
}

const SECOND: u64 = 1_000_000_000;
const MIB: u64 = 1 << 20;

/// Lazily free memory counts from this much on, in bytes and as a part of RSS.
const LAZY_BYTES: u64 = MIB;
const LAZY_PART: f64 = 0.10;
/// A sample is of the present up to this age.
const FRESH_NS: u64 = 10 * SECOND;
/// Churn: so many bytes a second, this part of what was given back, by so many calls.
const CHURN_BYTES_PER_SECOND: f64 = MIB as f64;
const CHURN_PART: f64 = 0.5;
const CHURN_CALLS: u64 = 5;
const CHURN_NS: u64 = SECOND;
/// How RSS goes over time can be told from this long a run on.
const COURSE_NS: u64 = 5 * SECOND;
/// And from here on it is unlikely to be a passing phase.
const LONG_NS: u64 = 60 * SECOND;
/// The largest folio that one fault can populate (x86-64).
const HUGE: u64 = 2 * MIB;

/// Judges.
pub fn judge(facts: &Facts<'_>) -> Verdict {
    let found = lazily_free(facts)
        .or_else(|| churn(facts))
        .or_else(|| course(facts));
    let Some(mut draft) = found else {
        return not_enough(facts);
    };
    if !facts.exact {
        draft.doubt("events were lost or could not be placed: the counts are too low".to_owned());
    }
    let confidence = draft
        .doubts
        .iter()
        .fold(Confidence::High, |confidence, _| confidence.lowered());
    Verdict {
        kind: draft.kind,
        confidence,
        advice: remedy::advice(draft.kind, facts),
        evidence: draft.evidence,
        doubts: draft.doubts,
    }
}

/// A verdict in the making.
struct Draft {
    kind: Kind,
    evidence: Vec<String>,
    doubts: Vec<String>,
}

impl Draft {
    fn new(kind: Kind) -> Self {
        Self {
            kind,
            evidence: Vec::new(),
            doubts: Vec::new(),
        }
    }

    fn show(&mut self, evidence: String) {
        self.evidence.push(evidence);
    }

    fn doubt(&mut self, doubt: String) {
        self.doubts.push(doubt);
    }
}

/// A good part of RSS is lazily free, and what is not has not grown by more than that.
fn lazily_free(facts: &Facts<'_>) -> Option<Draft> {
    let rollup = facts.rss.last_rollup?;
    let lazy = rollup.lazyfree_bytes;
    let part = lazy as f64 / rollup.rss_bytes.max(1) as f64;
    if lazy < LAZY_BYTES || part < LAZY_PART {
        return None;
    }
    let effective = rollup.rss_bytes.saturating_sub(lazy);
    let first = facts.rss.first_rollup.unwrap_or(rollup);
    let before = first.rss_bytes.saturating_sub(first.lazyfree_bytes);
    let grown = effective.saturating_sub(before);
    // What the kernel can't take grows by more than it can: that is the point then.
    let rest = Course::of(facts.rss.effective_trend.points()).filter(Course::grows);
    let outgrown = match &rest {
        Some(rest) => rest.growth() > lazy / 2,
        None => !facts.from_start && grown > lazy,
    };
    if outgrown {
        return None;
    }
    let mut draft = Draft::new(Kind::LazilyFree);
    draft.show(format!(
        "{} of {} RSS ({}) is lazily free: given back by MADV_FREE, and the kernel may take it at any time",
        Bytes(lazy),
        Bytes(rollup.rss_bytes),
        Percent(part),
    ));
    draft.show(format!("without it the RSS is {}", Bytes(effective)));
    if let Some(free) = facts
        .totals
        .advice
        .get(&crate::ledger::advice::Advice::FREE)
        && free.calls > 0
    {
        draft.show(format!(
            "{} of MADV_FREE on {}; {} of it came back by a fault",
            counted(free.calls, "call"),
            Bytes(free.requested_bytes),
            Bytes(free.refaulted_bytes),
        ));
    } else {
        draft.show("it was marked before tracing began: no MADV_FREE was seen".to_owned());
    }
    let end_ns = facts.start_ns + facts.duration_ns;
    let age = end_ns.saturating_sub(rollup.at_ns);
    if age > FRESH_NS {
        draft.doubt(format!("the last look was {} before the end", Nanos(age)));
    }
    if part < 0.25 {
        draft.doubt(format!(
            "{} of RSS is not lazily free: this does not explain that part",
            Percent(1.0 - part)
        ));
    }
    if let Some(rest) = rest {
        draft.doubt(format!(
            "what is not lazily free has grown by {} and still grows: that part may be a leak",
            Bytes(rest.growth())
        ));
    } else if grown > rollup.rss_bytes / 10 && !facts.from_start {
        draft.doubt(format!(
            "RSS without it grew too, by {} since the trace began",
            Bytes(grown)
        ));
    }
    Some(draft)
}

/// What is given back comes back, again and again.
fn churn(facts: &Facts<'_>) -> Option<Draft> {
    if facts.duration_ns < CHURN_NS {
        return None;
    }
    let given = facts
        .totals
        .advice
        .iter()
        .filter(|(advice, _)| advice.give_back().is_some());
    // Where one fault may bring many pages, what came back lies between two bounds.
    let (advice, totals) = given.max_by_key(|(_, totals)| totals.refaulted_most_bytes())?;
    let seconds = facts.duration_ns as f64 / SECOND as f64;
    let (least, most) = (totals.refaulted_bytes, totals.refaulted_most_bytes());
    let rate = most as f64 / seconds;
    let (ratio, of) = totals.refault_ratio()?;
    let of_bytes = totals
        .released
        .map_or(totals.requested_bytes, |released| released.bytes);
    let own_most = most.saturating_sub(totals.inherited_refaulted_bytes);
    if totals.calls - totals.failed < CHURN_CALLS
        || rate < CHURN_BYTES_PER_SECOND
        || (own_most as f64) < CHURN_PART * of_bytes as f64
    {
        return None;
    }
    let mut draft = Draft::new(Kind::Churn);
    if ratio >= CHURN_PART && least as f64 / seconds >= CHURN_BYTES_PER_SECOND {
        draft.show(format!(
            "{} of what {advice} gave back ({} of {} {of}) was faulted in again: {}",
            Percent(ratio.min(1.0)),
            Bytes(least),
            Bytes(of_bytes),
            BytesPerSecond(least as f64 / seconds),
        ));
    } else {
        draft.show(format!(
            "of {} {of} by {advice}, {} to {} was faulted in again: at most {}",
            Bytes(of_bytes),
            Bytes(least),
            Bytes(most),
            BytesPerSecond(rate),
        ));
        draft.doubt(
            "one fault may have brought one page or a huge one: run with --exact-bytes to measure it"
                .to_owned(),
        );
    }
    if let Some(wait) = totals.ages.quantile_ns(0.5) {
        draft.show(format!("half of it within {}", Nanos(wait)));
    }
    if let Some(fault_ns) = facts.fault_ns {
        let spent = fault_ns.saturating_mul(totals.refaults);
        draft.show(format!(
            "{} at about {} each (measured here) took about {}: {} of one core",
            counted(totals.refaults, "refault"),
            Nanos(fault_ns),
            Nanos(spent),
            Percent(spent as f64 / facts.duration_ns as f64),
        ));
    } else {
        draft.show(counted(totals.refaults, "refault"));
    }
    if facts.duration_ns < 10 * SECOND {
        draft.doubt(format!("seen for {} only", Nanos(facts.duration_ns)));
    }
    Some(draft)
}

/// How RSS went over the run: grown, by faults or without, or steady.
fn course(facts: &Facts<'_>) -> Option<Draft> {
    if facts.duration_ns < COURSE_NS {
        return None;
    }
    let course = Course::of(facts.rss.trend.points())?;
    let mut draft = if course.grows() {
        grown(facts, &course)
    } else {
        retained(facts, &course)
    };
    if facts.duration_ns < LONG_NS {
        draft.doubt(format!(
            "seen for {} only: it may be a passing phase",
            Nanos(facts.duration_ns)
        ));
    }
    if !facts.from_start {
        draft.doubt("what happened before tracing began is not known".to_owned());
    }
    Some(draft)
}

fn grown(facts: &Facts<'_>, course: &Course) -> Draft {
    let faults = &facts.totals.faults;
    let growth = course.growth();
    // The most that the faults can have populated, and what is known to have come without any.
    // What a lost fault brought may have been anything, and counts as unfaulted where that is measured.
    let by_lost = facts.lost_faults.saturating_mul(HUGE);
    let by_faults = match faults.all().most_bytes() {
        Some(most) => most,
        None => faults.total.saturating_mul(HUGE),
    };
    let by_faults = by_faults.saturating_add(by_lost);
    let unfaulted = facts.totals.unfaulted_bytes.unwrap_or(0);
    let unfaulted = unfaulted.saturating_sub(by_lost);
    let without = growth.saturating_sub(by_faults).max(unfaulted.min(growth));
    let what = format!(
        "RSS grew by {} in {} ({} to {}) and still grows",
        Bytes(growth),
        Nanos(facts.duration_ns),
        Bytes(course.first()),
        Bytes(course.last()),
    );
    if without > growth / 2 {
        let mut draft = Draft::new(Kind::RegrowthWithoutFaults);
        draft.show(what);
        draft.show(if unfaulted > 0 {
            format!(
                "{} of it came without a page fault (measured)",
                Bytes(without)
            )
        } else {
            format!(
                "its {} can have brought {} at the most",
                counted(faults.total + facts.lost_faults, "page fault"),
                Bytes(by_faults)
            )
        });
        draft.evidence.extend(huge_pages(facts));
        return draft;
    }
    let mut draft = Draft::new(Kind::Growth);
    draft.show(what);
    let first = faults.class(FaultClass::FirstTouch);
    draft.show(format!(
        "{} of first touches ({}), {} given back in the same time",
        Bytes(first.bytes),
        counted(first.faults, "fault"),
        at_most(given_back(facts.totals)),
    ));
    if let Some(lazy) = facts.rss.lazyfree_bytes() {
        draft.show(if lazy == 0 {
            "nothing of it is lazily free".to_owned()
        } else {
            format!("{} of it is lazily free", Bytes(lazy))
        });
    }
    draft
}

fn retained(facts: &Facts<'_>, course: &Course) -> Draft {
    let mut draft = Draft::new(Kind::Retained);
    draft.show(format!(
        "RSS is {} and has stayed within {} for the last {}",
        Bytes(course.last()),
        Bytes(course.band()),
        Nanos(course.steady_ns()),
    ));
    if course.growth() >= growth::GROWTH_BYTES && !course.is_flat() {
        draft.doubt(format!(
            "it grew by {} all the same: little beside what there is, but perhaps not in the long run",
            Bytes(course.growth())
        ));
    }
    draft.show(format!(
        "{} given back while traced",
        at_most(given_back(facts.totals))
    ));
    if let Some(rollup) = facts.rss.last_rollup {
        draft.show(format!(
            "{} of it is anonymous memory, {} lazily free",
            Bytes(rollup.anonymous_bytes),
            Bytes(rollup.lazyfree_bytes)
        ));
        if rollup.anonymous_bytes < rollup.rss_bytes / 2 {
            draft.doubt(
                "most of it is of files or shared memory, which no allocator holds".to_owned(),
            );
        }
    }
    draft
}

fn not_enough(facts: &Facts<'_>) -> Verdict {
    let mut evidence = Vec::new();
    evidence.push(if facts.duration_ns < COURSE_NS {
        format!(
            "traced for {}: how RSS goes can be told from {} on",
            Nanos(facts.duration_ns),
            Nanos(COURSE_NS)
        )
    } else {
        "RSS could not be read often enough".to_owned()
    });
    let faults = facts.totals.faults.total;
    evidence.push(match facts.rss.last_bytes {
        Some(bytes) => format!(
            "RSS {} at last, {} page faults, {} given back",
            Bytes(bytes),
            Count(faults),
            at_most(given_back(facts.totals))
        ),
        None => format!("RSS was never read, {} page faults", Count(faults)),
    });
    Verdict {
        kind: Kind::NotEnoughData,
        confidence: Confidence::Low,
        evidence,
        doubts: Vec::new(),
        advice: remedy::advice(Kind::NotEnoughData, facts),
    }
}

/// Bytes that calls took from RSS, as far as is known: an upper bound where that is one.
fn given_back(totals: &Totals) -> u64 {
    let unmap = &totals.unmap;
    let advice = totals
        .advice
        .iter()
        // What is only offered goes by another call, or by reclaim.
        .filter(|(advice, _)| {
            advice.give_back().is_some() && !matches!(**advice, Advice::FREE | Advice::PAGEOUT)
        })
        .map(|(_, totals)| totals);
    advice
        .chain([&unmap.munmap, &unmap.map_fixed, &unmap.mremap, &unmap.brk])
        .filter(|totals| totals.calls > 0)
        .map(|totals| {
            totals
                .released
                .map_or(totals.requested_bytes, |released| released.bytes)
        })
        .fold(0, u64::saturating_add)
}

/// `nothing`, or `at most 12.0M`.
fn at_most(bytes: u64) -> String {
    match bytes {
        0 => "nothing".to_owned(),
        bytes => format!("at most {}", Bytes(bytes)),
    }
}

/// Huge pages that came meanwhile, or are there.
fn huge_pages(facts: &Facts<'_>) -> Option<String> {
    let (first, last) = (facts.rss.first_rollup?, facts.rss.last_rollup?);
    (last.anon_huge_bytes > 0).then(|| {
        format!(
            "huge pages: {} at first, {} at last",
            Bytes(first.anon_huge_bytes),
            Bytes(last.anon_huge_bytes)
        )
    })
}

#[cfg(test)]
mod tests;
