//! Ended address spaces beyond a bound: the smallest are summed up by name, and no sum changes by it.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::Mm;
use super::totals::Totals;

/// Ended address spaces that are kept whole, unless it is said otherwise.
pub const KEPT: usize = 1000;
/// Names that have a sum of their own: a target can invent any number of them.
const MOST_NAMES: usize = 256;

/// What address spaces of one name came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Folded {
    /// The executable, where all of those whose executable is known had the same.
    pub exe: Exe,
    /// How many they are.
    pub images: u64,
    /// When the first of them began, and when the last ended.
    pub start_ns: u64,
    pub end_ns: u64,
    /// The highest sample of RSS in any of them; None where none was sampled.
    pub peak_rss_bytes: Option<u64>,
    /// Those of which faults were seen, and no mappings were read.
    pub mappings_unknown: u64,
    pub totals: Totals,
}

/// The executable of several address spaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Exe {
    #[default]
    Unknown,
    One(Arc<str>),
    Several,
}

impl Exe {
    pub fn path(&self) -> Option<&str> {
        match self {
            Self::One(path) => Some(path),
            Self::Unknown | Self::Several => None,
        }
    }

    fn add(&mut self, path: &Arc<str>) {
        match self {
            Self::Unknown => *self = Self::One(Arc::clone(path)),
            Self::One(before) if before != path => *self = Self::Several,
            Self::One(_) | Self::Several => {}
        }
    }
}

impl Folded {
    fn add(&mut self, mm: &Mm) {
        let end_ns = mm.end_ns.unwrap_or(mm.start_ns);
        self.start_ns = match self.images {
            0 => mm.start_ns,
            _ => self.start_ns.min(mm.start_ns),
        };
        self.end_ns = self.end_ns.max(end_ns);
        self.images += 1;
        self.peak_rss_bytes = self.peak_rss_bytes.max(mm.rss.peak_bytes);
        self.mappings_unknown += u64::from(mm.mappings_missed());
        if let Some(path) = &mm.exe {
            self.exe.add(path);
        }
        self.totals.add(&mm.totals);
    }
}

/// Which ended address spaces are still whole, and the sums of the others.
#[derive(Clone, Debug)]
pub(super) struct Folding {
    kept: usize,
    /// The ended ones that are whole, from the smallest: each one's place among all address spaces.
    ended: BTreeMap<Size, usize>,
    names: BTreeMap<String, Folded>,
    /// Names beyond `MOST_NAMES`.
    others: Folded,
}

/// By what address spaces are compared; of equals the older one is larger.
pub(super) type Size = (u64, Reverse<u64>);

impl Default for Folding {
    fn default() -> Self {
        Self {
            kept: KEPT,
            ended: BTreeMap::new(),
            names: BTreeMap::new(),
            others: Folded::default(),
        }
    }
}

impl Folding {
    pub(super) fn keep(&mut self, kept: usize) {
        self.kept = kept;
    }

    /// An address space that may be summed up has ended.
    pub(super) fn ended(&mut self, mm: &Mm, at: usize) {
        self.ended.insert(size(mm), at);
    }

    /// One that has ended is elsewhere now.
    pub(super) fn moved(&mut self, mm: &Mm, to: usize) {
        if let Some(at) = self.ended.get_mut(&size(mm)) {
            *at = to;
        }
    }

    /// The place of the smallest, if there are too many; it is no longer remembered here.
    pub(super) fn surplus(&mut self) -> Option<usize> {
        let too_many = self.ended.len() > self.kept;
        let (_, at) = too_many.then(|| self.ended.pop_first()).flatten()?;
        Some(at)
    }

    pub(super) fn fold(&mut self, mm: &Mm) {
        let known = self.names.contains_key(&mm.comm);
        let sum = if known || self.names.len() < MOST_NAMES {
            self.names.entry(mm.comm.clone()).or_default()
        } else {
            &mut self.others
        };
        sum.add(mm);
    }

    /// The sums by name; None stands for all names beyond a number of them.
    pub(super) fn sums(&self) -> impl Iterator<Item = (Option<&str>, &Folded)> {
        let names = self
            .names
            .iter()
            .map(|(name, sum)| (Some(name.as_str()), sum));
        let others = (self.others.images > 0).then_some((None, &self.others));
        names.chain(others)
    }
}

/// The most that is known to have been resident, or to have been brought by faults: most commands end
/// before their RSS is sampled.
fn size(mm: &Mm) -> Size {
    let resident = mm.rss.peak_bytes.unwrap_or(0);
    (
        resident.max(mm.totals.faults.all().bytes),
        Reverse(mm.serial),
    )
}
