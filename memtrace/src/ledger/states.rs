//! The states of all pages of one address space, and how many of them are marked lazily free.

use std::ops::{AddAssign, Range};

use super::pages::Page;
use super::ranges::RangeMap;

/// What lay in a range, in bytes, when a call took it or marked it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Seen populated, and not given back since.
    pub populated: u64,
    /// Perhaps populated: mapped before the trace, or beside a fault that may have reached so far.
    pub perhaps: u64,
    /// Marked lazily free: still there, written again, or taken by the kernel.
    pub lazy: u64,
}

impl Found {
    /// The most that can have been resident.
    pub fn most(self) -> u64 {
        self.populated + self.perhaps + self.lazy
    }

    fn add(&mut self, page: &Page, bytes: u64) {
        match page {
            Page::Populated {
                perhaps_taken: None,
            } => self.populated += bytes,
            Page::Populated { .. } | Page::Maybe | Page::Unknown => self.perhaps += bytes,
            Page::Released(_) if page.is_lazy() => self.lazy += bytes,
            // Paged out: gone, unless the kernel kept it.
            Page::Released(release) if !release.source.is_zap() => self.perhaps += bytes,
            // Nothing of its own is there.
            Page::Released(_) | Page::Zero { .. } => {}
        }
    }
}

impl AddAssign for Found {
    fn add_assign(&mut self, other: Self) {
        self.populated += other.populated;
        self.perhaps += other.perhaps;
        self.lazy += other.lazy;
    }
}

/// Runs of pages with their states; keeps count of the lazily free ones as they change.
#[derive(Clone, Debug, Default)]
pub struct States {
    runs: RangeMap<Page>,
    lazy_bytes: u64,
}

impl States {
    pub fn get(&self, addr: u64) -> Option<Page> {
        self.runs.get(addr).map(|(_, page)| *page)
    }

    /// Bytes marked lazily free and not seen to be gone since.
    pub fn lazy_bytes(&self) -> u64 {
        self.lazy_bytes
    }

    /// What lies in `range`.
    pub fn found(&self, range: Range<u64>) -> Found {
        let mut found = Found::default();
        for (run, page) in self.runs.within(range) {
            found.add(page, run.end - run.start);
        }
        found
    }

    pub fn set(&mut self, range: Range<u64>, page: Page) {
        if range.start >= range.end {
            return;
        }
        self.forget_lazy(range.clone());
        if page.is_lazy() {
            self.lazy_bytes += range.end - range.start;
        }
        self.runs.set(range, page);
    }

    pub fn clear(&mut self, range: Range<u64>) {
        self.forget_lazy(range.clone());
        self.runs.clear(range);
    }

    /// Takes `range` out and returns what it held.
    pub fn take(&mut self, range: Range<u64>) -> Vec<(Range<u64>, Page)> {
        self.forget_lazy(range.clone());
        self.runs.take(range)
    }

    /// Replaces every state in `range` by what `change` makes of it.
    pub fn change(&mut self, range: Range<u64>, change: impl Fn(Page) -> Page) {
        let lazy = &mut self.lazy_bytes;
        self.runs.change(range, |run, page| {
            let bytes = run.end - run.start;
            let new = change(*page);
            match (page.is_lazy(), new.is_lazy()) {
                (true, false) => *lazy -= bytes,
                (false, true) => *lazy += bytes,
                _ => {}
            }
            Some(new)
        });
    }

    /// Gives the parts of `range` that have no state this one, which is not a lazily free one.
    pub fn fill_gaps(&mut self, range: Range<u64>, page: &Page) {
        self.runs.fill_gaps(range, page);
    }

    fn forget_lazy(&mut self, range: Range<u64>) {
        // Most of all that is ever set has nothing lazily free around it.
        if self.lazy_bytes > 0 {
            self.lazy_bytes -= self.found(range).lazy;
        }
    }
}
