//! What the ledger tells of faults: neighbouring pages in one, where they were all the same.

use super::Classified;
use super::event::{Access, Mapping};

/// Whom to tell.
pub type Tell<'a> = &'a mut dyn FnMut(&Stretch<'_>);

/// Faults of one batch on neighbouring pages, upwards, each of which was the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch<'a> {
    pub at_ns: u64,
    pub pid: u32,
    pub tid: u32,
    /// The first page's address.
    pub addr: u64,
    pub pages: u64,
    pub access: Access,
    /// What each of them was.
    pub was: Classified,
    pub mapping: Option<&'a Mapping>,
}

impl Stretch<'_> {
    /// Since the release; refaults only, and not where it is unknown which release it was.
    pub fn age_ns(&self) -> Option<u64> {
        let given_ns = self.was.release?.at_ns?;
        Some(self.at_ns.saturating_sub(given_ns))
    }
}
