//! The states of all pages of one address space, and how many of them are marked lazily free.

use std::ops::{AddAssign, Range};

use super::page_map::PageMap;
use super::pages::Page;
use super::space::PAGE;
use super::word::Word;

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
            Page::Released(_) | Page::PerhapsBack(_) | Page::Doubt { .. } if page.is_lazy() => {
                self.lazy += bytes;
            }
            Page::Doubt { .. } | Page::PerhapsBack(_) => self.perhaps += bytes,
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

/// The states of pages; keeps count of the lazily free ones as they change.
#[derive(Clone, Debug, Default)]
pub struct States {
    pages: PageMap,
    lazy_bytes: u64,
}

impl States {
    pub fn get(&self, addr: u64) -> Option<Page> {
        self.pages.get(addr).map(Page::from)
    }

    /// As [`PageMap::warm`].
    pub fn warm(&self, addresses: impl Iterator<Item = u64>) {
        self.pages.warm(addresses);
    }

    /// The state at `addr`, and up to where it is sure to stay the same, `limit` at the most.
    pub fn run_at(&self, addr: u64, limit: u64) -> (Option<Page>, u64) {
        let (word, until) = self.pages.run_at(addr, limit);
        (word.map(Page::from), until)
    }

    /// Bytes marked lazily free and not seen to be gone since.
    pub fn lazy_bytes(&self) -> u64 {
        self.lazy_bytes
    }

    /// What lies in `range`.
    pub fn found(&self, range: Range<u64>) -> Found {
        let mut found = Found::default();
        self.pages.each(range, |run, word| {
            found.add(&word.into(), run.end - run.start);
        });
        found
    }

    /// Calls `tell` for the runs of pages that have a state in `range`, cut to it, in order.
    pub fn each(&self, range: Range<u64>, mut tell: impl FnMut(Range<u64>, Page)) {
        self.pages.each(range, |run, word| tell(run, word.into()));
    }

    pub fn set(&mut self, range: Range<u64>, page: Page) {
        self.put(range, Some(page.into()));
    }

    pub fn clear(&mut self, range: Range<u64>) {
        self.put(range, None);
    }

    /// Takes `range` out and returns what it held.
    pub fn take(&mut self, range: Range<u64>) -> Vec<(Range<u64>, Page)> {
        let mut taken = Vec::new();
        self.pages.each(range.clone(), |run, word| {
            taken.push((run, word.into()));
        });
        self.clear(range);
        taken
    }

    /// Replaces every state in `range` by what `change` makes of it.
    pub fn change(&mut self, range: Range<u64>, change: impl Fn(Page) -> Page) {
        // Joined as they come: many runs become one when a call takes them all.
        let mut changed: Vec<(Range<u64>, Word)> = Vec::new();
        self.pages.each(range, |run, word| {
            let new = Word::from(change(word.into()));
            match changed.last_mut() {
                Some((last, same)) if last.end == run.start && *same == new => last.end = run.end,
                _ if new == word => {}
                _ => changed.push((run, new)),
            }
        });
        for (run, word) in changed {
            self.put(run, Some(word));
        }
    }

    /// Gives the parts of `range` that have no state this one.
    pub fn fill_gaps(&mut self, range: Range<u64>, page: &Page) {
        for gap in self.pages.gaps(range) {
            self.set(gap, *page);
        }
    }

    fn put(&mut self, range: Range<u64>, word: Option<Word>) {
        if range.start >= range.end {
            return;
        }
        // Most of all that is ever put has nothing lazily free around it.
        if self.lazy_bytes > 0 {
            let lazy = &mut self.lazy_bytes;
            if range.end - range.start == PAGE {
                if self.pages.get(range.start).is_some_and(Word::is_lazy) {
                    *lazy -= PAGE;
                }
            } else {
                self.pages.each(range.clone(), |run, word| {
                    if word.is_lazy() {
                        *lazy -= run.end - run.start;
                    }
                });
            }
        }
        if word.is_some_and(Word::is_lazy) {
            self.lazy_bytes += range.end - range.start;
        }
        self.pages.put(range, word);
    }
}
