//! Touches: which class each fault ought to have, and what it brought.

use super::super::places::PAGES;
use super::super::protocol::{Entry, How};
use super::super::snapshot::{Kind, PageTruth, Snapshot};
use super::super::step::{Step, advice_name};
use super::page::{Class, Expected, GivenBack, Lazy, Page, Touched};
use super::process::Process;

impl Process {
    pub(super) fn touch(&mut self, before: &Snapshot, pages: &[u64], how: How, entries: &[Entry]) {
        for (&page, entry) in pages.iter().zip(entries) {
            if entry.refused != 0 {
                *self.truth.refused.entry(page).or_default() += 1;
                continue;
            }
            self.touch_one(&before.pages[page as usize], page, how, *entry);
        }
        self.brought_along(before, pages, entries, how);
        let faulted = pages
            .iter()
            .zip(entries)
            .filter(|(_, entry)| entry.faults > 0);
        let faulted: Vec<u64> = faulted.map(|(page, _)| *page).collect();
        self.perhaps_brought(&faulted, how);
    }

    /// A read of a file brings pages around it that are in the page cache, a touch of private memory perhaps a
    /// larger folio: of both no event tells.
    fn perhaps_brought(&mut self, faulted: &[u64], how: How) {
        const AROUND: u64 = 16;
        for &page in faulted {
            let mapped = self.now.pages[page as usize].mapped;
            let around = match mapped.map(|mapped| mapped.kind) {
                Some(Kind::Anonymous) if self.folio > 1 => self.folio,
                Some(Kind::PrivateFile | Kind::Shared) if !how.writes() => AROUND,
                _ => continue,
            };
            let (line, kind) = mapped.map(|mapped| (mapped.line, mapped.kind)).unzip();
            for near in page.saturating_sub(around)..(page + around).min(PAGES) {
                let is = self.now.pages[near as usize];
                let other = is.mapped.map(|mapped| mapped.line) != line;
                // Mappings may have been parted since; which of one file lie beside each other as one is not
                // in the events.
                let apart =
                    kind == Some(Kind::Anonymous) || is.mapped.map(|mapped| mapped.kind) != kind;
                if is.present || is.mapped.is_none() || (other && apart && self.folio == 1) {
                    continue;
                }
                let state = &mut self.pages[near as usize];
                if let Some(given) = &mut state.given {
                    given.doubtful = true;
                } else if state.touched == Touched::No {
                    state.touched = Touched::Maybe;
                }
            }
        }
    }

    fn touch_one(&mut self, was: &PageTruth, page: u64, how: How, entry: Entry) {
        let is = self.now.pages[page as usize];
        let came = entry.came.max(0) as u64;
        if how.is_remote() {
            self.truth.unfaulted += came;
            if is.counts() && !was.counts() {
                self.populated(page);
                self.unseen(page);
            }
        } else if entry.faults > 0 {
            self.faulted(was, page, how, entry);
        } else {
            // Nothing may have come without a fault.
            self.truth.came_doubtful += came;
        }
        let state = &mut self.pages[page as usize];
        if how.writes() && state.lazy == Lazy::Clean {
            state.lazy = Lazy::Reused;
            state.given = None;
        }
    }

    fn faulted(&mut self, was: &PageTruth, page: u64, how: How, entry: Entry) {
        let is = self.now.pages[page as usize];
        let state = self.pages[page as usize].clone();
        let doubtful = state.given.as_ref().is_some_and(|given| given.doubtful);
        self.truth.shaken += u64::from(state.shaken || doubtful);
        let came = entry.came.max(0) as u64;
        let (expected, given) = class_of(was, &is, &state, how);
        self.truth.fault(page, expected);
        for _ in 1..entry.faults {
            self.truth.fault(page, Expected::ANY);
        }
        if how.is_kernel() {
            *self.truth.twice.entry(page).or_default() += 1;
        }
        // A write to the zero page brings bytes to the class of the read, and is no refault of its own.
        let zero_write = was.present && was.zero && how.writes();
        match (expected.class(), &state.zero) {
            (Some(class), _) => *self.truth.came.entry(class).or_default() += came,
            (None, Some((read, _))) if zero_write && read.is_one() && !state.shaken => {
                let class = read.class().expect("one class");
                *self.truth.came.entry(class).or_default() += came;
            }
            _ => self.truth.came_doubtful += came.max(u64::from(state.shaken || doubtful)),
        }
        if let Some(given) = given.filter(|given| !zero_write && !given.by.is_empty()) {
            let advice = self.truth.advice(&given.by.clone());
            if given.doubtful || !expected.is_one() {
                advice.refaults_doubtful += 1;
            } else {
                advice.refaults += 1;
            }
        }
        let given = self.pages[page as usize].given.clone();
        self.populated(page);
        if is.zero {
            self.pages[page as usize].zero = Some((expected, given));
        }
    }

    /// A page came of which no event tells: what is told of its going, or of the next fault, is not judged.
    pub(super) fn unseen(&mut self, page: u64) {
        self.pages[page as usize].shaken = true;
        self.truth.unseen += 1;
    }

    /// A page is there anew, or another one is in its place.
    pub(super) fn populated(&mut self, page: u64) {
        let state = &mut self.pages[page as usize];
        state.shaken = false;
        state.guarded = false;
        state.touched = Touched::Yes;
        state.given = None;
        state.zero = None;
        if state.lazy == Lazy::Clean {
            // Its copy is not marked.
            state.lazy = Lazy::Reused;
        }
    }

    /// Pages that came with a fault on another one.
    fn brought_along(&mut self, before: &Snapshot, pages: &[u64], entries: &[Entry], how: How) {
        for page in 0..PAGES {
            let (was, is) = (&before.pages[page as usize], self.now.pages[page as usize]);
            let faulted = pages.iter().position(|&touched| touched == page);
            let faulted = faulted.is_some_and(|index| entries[index].faults > 0);
            if !is.present || was.present || faulted {
                continue;
            }
            self.populated(page);
            self.truth.neighbours = true;
            if how.is_remote() {
                self.unseen(page);
            }
            if is.zero {
                // No event tells that it is: the first write may be taken for either.
                self.pages[page as usize].zero = Some((Expected::ANY, None));
            }
        }
    }

    /// Threads that write to pages and give them back.
    pub(super) fn threads(&mut self, step: &Step, entries: &[Entry]) {
        let &Step::Threads {
            page: first,
            pages,
            rounds,
            advice,
            apart,
            ..
        } = step
        else {
            return;
        };
        let disjoint = apart >= pages;
        self.truth.raced |= !disjoint;
        let name = advice_name(advice);
        let calls = entries.len() as u64 * rounds;
        let given = self.truth.advice(&name);
        given.calls += calls;
        given.requested += calls * pages;
        given.unsure |= !disjoint;
        if !disjoint || advice != libc::MADV_DONTNEED {
            given.unsure = true;
        }
        for index in 0..entries.len() as u64 {
            if !disjoint {
                self.truth.wild.extend(first..first + pages);
            }
            for page in first + index * apart..first + index * apart + pages {
                self.thread_page(page, rounds, disjoint, &name);
            }
        }
    }

    /// What a thread of its own did to one page: the first write as the page was, then refaults.
    fn thread_page(&mut self, page: u64, rounds: u64, disjoint: bool, name: &str) {
        let state = self.pages[page as usize].clone();
        let fresh = state == Page::default();
        for round in 0..rounds {
            let expected = match (disjoint && fresh, round) {
                (true, 0) => Expected::fault(Class::FirstTouch),
                (true, _) => Expected::fault(Class::RefaultDontneed),
                (false, _) => Expected::ANY,
            };
            self.truth.fault(page, expected);
            match expected.class() {
                Some(class) => *self.truth.came.entry(class).or_default() += 1,
                None => self.truth.came_doubtful += 1,
            }
            let given = self.truth.advice(name);
            given.released += 1;
            given.refaults += u64::from(round > 0);
        }
        self.pages[page as usize] = Page {
            touched: Touched::Yes,
            given: Some(GivenBack {
                class: Class::RefaultDontneed,
                by: name.to_owned(),
                inherited: false,
                doubtful: !disjoint,
                or: Expected::NONE,
            }),
            ..state
        };
    }
}

/// The lines that may stand for a fault, and the advice that it is a refault of.
fn class_of(
    was: &PageTruth,
    is: &PageTruth,
    state: &Page,
    how: How,
) -> (Expected, Option<GivenBack>) {
    if state.shaken {
        return (Expected::ANY, state.given.clone().map(GivenBack::in_doubt));
    }
    let one = |class| (Expected::fault(class), None);
    let kind = is.mapped.or(was.mapped).map(|mapped| mapped.kind);
    if was.present {
        if !how.writes() {
            return one(Class::Unknown);
        }
        if was.zero {
            return match &state.zero {
                Some((read, given)) if read.is_one() && read.class().is_some() => {
                    let class = read.class().expect("it has one");
                    (Expected::zero_write(class), given.clone())
                }
                _ => (Expected::ANY, None),
            };
        }
        return match kind {
            Some(Kind::Shared) => one(Class::File),
            _ => one(Class::Cow),
        };
    }
    if let Some(given) = state.given.clone() {
        let mut expected = Expected::fault(given.class);
        if given.doubtful {
            let else_ = match kind {
                Some(Kind::Anonymous) if state.old => Class::Unknown,
                Some(Kind::Anonymous) => Class::FirstTouch,
                _ => Class::File,
            };
            expected = expected.or(Expected::fault(else_)).or(given.or);
        }
        return (expected, Some(given));
    }
    match kind {
        Some(Kind::Shared | Kind::PrivateFile) => one(Class::File),
        _ if state.old => one(Class::Unknown),
        _ => one(Class::FirstTouch),
    }
}
