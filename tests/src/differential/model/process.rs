//! One process of the model: its pages, what pagemap showed last, and its sums.

use super::super::places::{PAGES, Places};
use super::super::protocol::{Entry, Head};
use super::super::snapshot::{Kind, Snapshot};
use super::super::step::Step;
use super::page::{Lazy, Page, Touched};
use super::truth::Truth;

#[derive(Clone, Debug)]
pub struct Process {
    pub pid: u32,
    pub places: Places,
    pub pages: Vec<Page>,
    pub now: Snapshot,
    pub truth: Truth,
    /// The most pages that a fault on private anonymous memory may bring.
    pub folio: u64,
    /// Whether it is traced already: what it does before counts nowhere.
    pub traced: bool,
    /// Where its break is, in bytes from the heap's first page.
    pub brk: u64,
    /// A child shares the pages at this time.
    pub holds: bool,
    /// Something has been locked or is to be wiped: smaps must be read.
    pub flags_matter: bool,
    /// The last pages that MADV_FREE has marked, and no look has confirmed.
    pub lazy_before: u64,
}

impl Process {
    pub fn new(pid: u32, places: Places, traced: bool) -> Self {
        Self {
            pid,
            places,
            pages: vec![Page::default(); PAGES as usize],
            now: Snapshot::empty(),
            truth: Truth::default(),
            folio: 1,
            traced,
            brk: 0,
            holds: false,
            flags_matter: false,
            lazy_before: 0,
        }
    }

    /// Tracing begins: what was mapped before may have been populated.
    pub fn attach(&mut self) {
        self.traced = true;
        self.truth = Truth {
            shared: self.truth.shared,
            ..Truth::default()
        };
        for (page, state) in self.pages.iter_mut().enumerate() {
            let lazy = state.lazy;
            *state = Page::default();
            if self.now.pages[page].mapped.is_some() {
                state.old = true;
                state.touched = Touched::Maybe;
                state.lazy = lazy;
                self.truth.marked += u64::from(lazy == Lazy::Clean);
            }
        }
    }

    /// Takes in a step that was done, with what pagemap shows after it.
    pub fn apply(&mut self, step: &Step, head: &Head, entries: &[Entry], after: Snapshot) {
        self.truth.steps += 1;
        if self.folio > 1 {
            self.perhaps_beside();
        }
        let before = std::mem::replace(&mut self.now, after);
        match step {
            Step::Touch {
                page,
                pages,
                step,
                how,
            } => {
                let touched: Vec<u64> = (0..*pages).map(|index| page + index * step).collect();
                self.touch(&before, &touched, *how, entries);
            }
            Step::Hold => {
                self.holds = head.ret > 0;
                self.truth.shared = true;
            }
            Step::Fork | Step::Exit => {}
            Step::Threads { .. } => self.threads(step, entries),
            _ => self.call(step, head, &before),
        }
        self.forget_unmapped();
    }

    /// Which pages came with a neighbour is not in the events, whatever was mapped since: each page beside one that
    /// is there may be.
    fn perhaps_beside(&mut self) {
        for first in (0..PAGES).step_by(self.folio as usize) {
            let block = first..(first + self.folio).min(PAGES);
            let is_anonymous = |page: u64| {
                let mapped = self.now.pages[page as usize].mapped;
                mapped.is_some_and(|mapped| mapped.kind == Kind::Anonymous)
            };
            let there = |page: u64| self.now.pages[page as usize].present && is_anonymous(page);
            if !block.clone().any(there) {
                continue;
            }
            for page in block {
                if self.now.pages[page as usize].present || !is_anonymous(page) {
                    continue;
                }
                let state = &mut self.pages[page as usize];
                match &mut state.given {
                    Some(given) => given.doubtful = true,
                    None if state.touched == Touched::No => state.touched = Touched::Maybe,
                    None => {}
                }
            }
        }
    }

    /// What is not mapped any more is nothing.
    fn forget_unmapped(&mut self) {
        for (page, truth) in self.pages.iter_mut().zip(&self.now.pages) {
            if truth.mapped.is_none() {
                *page = Page::default();
            }
        }
    }

    /// The process has ended, or its trace has: what is still lazily free goes with it.
    pub fn end(&mut self) {
        for page in 0..PAGES {
            self.drop_mark(page);
        }
    }

    /// A page goes while it may be marked.
    pub(super) fn drop_mark(&mut self, page: u64) {
        let state = &mut self.pages[page as usize];
        match std::mem::take(&mut state.lazy) {
            Lazy::Clean => self.truth.dropped += 1,
            Lazy::Reused => self.truth.reused += 1,
            Lazy::No => {}
        }
    }
}
