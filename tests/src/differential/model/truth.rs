//! The sums that a process's summary is compared with.

use std::collections::{BTreeMap, BTreeSet};

use super::page::{Class, Expected};

/// How a mapping ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unmap {
    Munmap,
    MapFixed,
    Mremap,
    Brk,
}

impl Unmap {
    pub const ALL: [Self; 4] = [Self::Munmap, Self::MapFixed, Self::Mremap, Self::Brk];

    pub fn name(self) -> &'static str {
        match self {
            Self::Munmap => "munmap",
            Self::MapFixed => "map_fixed",
            Self::Mremap => "mremap",
            Self::Brk => "brk",
        }
    }
}

/// Of one advice, or one way to unmap.
#[derive(Clone, Debug, Default)]
pub struct Given {
    pub calls: u64,
    pub failed: u64,
    pub partial: u64,
    /// Pages that the calls were applied to.
    pub requested: u64,
    /// The rules here do not say what some call was applied to.
    pub unsure: bool,
    /// Pages that were there and went.
    pub released: u64,
    /// Pages newly marked by MADV_FREE, at the least and by the rules.
    pub marked: u64,
    /// Faults on pages that it gave back: certain ones, and those that may be so.
    pub refaults: u64,
    pub refaults_doubtful: u64,
}

#[derive(Clone, Debug, Default)]
pub struct Truth {
    /// The lines that the faults of each page must have, in their order.
    pub faults: BTreeMap<u64, Vec<Expected>>,
    /// Lines `unknown` that may stand there too: the kernel tries some touches twice.
    pub twice: BTreeMap<u64, u64>,
    /// Faults that may be of any class, after a call that failed nobody knows how far.
    pub shaken: u64,
    /// Pages on which touches were refused.
    pub refused: BTreeMap<u64, u64>,
    pub advice: BTreeMap<String, Given>,
    pub unmap: BTreeMap<Unmap, Given>,
    /// mmap's calls, failures and bytes.
    pub mmap: [u64; 3],
    /// Pages that came by faults of each class.
    pub came: BTreeMap<Class, u64>,
    /// Pages that came by faults whose class is not certain.
    pub came_doubtful: u64,
    /// Pages that came with no fault.
    pub unfaulted: u64,
    /// Pages that came by mlock or another process's write: in no bound.
    pub unseen: u64,
    /// Pages that MADV_FREE marked, each populated anew once; those the kernel took, those written again that
    /// stayed so to the end, and those dropped while marked.
    pub marked: u64,
    pub reclaimed: u64,
    pub reused: u64,
    pub dropped: u64,
    /// The process has forked, or is a fork's child: what shares a page decides what MADV_FREE marks.
    pub shared: bool,
    /// Pages on which threads ran at the same time: their lines are not looked at.
    pub wild: BTreeSet<u64>,
    /// Pages came with a fault on another one, which only pagemap shows.
    pub neighbours: bool,
    /// Threads ran at the same time on the same pages.
    pub raced: bool,
    pub steps: u64,
}

impl Truth {
    pub fn advice(&mut self, name: &str) -> &mut Given {
        self.advice.entry(name.to_owned()).or_default()
    }

    pub fn unmap(&mut self, how: Unmap) -> &mut Given {
        self.unmap.entry(how).or_default()
    }

    pub fn fault(&mut self, page: u64, expected: Expected) {
        self.faults.entry(page).or_default().push(expected);
    }
}
