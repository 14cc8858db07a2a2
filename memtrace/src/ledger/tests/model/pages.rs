//! One address space, page by page: what each page is, and what calls and faults make of it.

use super::account::{Account, Key};
use crate::ledger::advice::Advice as A;
use crate::ledger::totals::{Basis, FaultClass as C};

pub const PAGE: u64 = 4096;
/// Where the heap begins; mmap stays below.
pub const HEAP: usize = 24;
pub const PAGES: usize = 32;
/// Pages around a file fault that the kernel may map with it (mm/memory.c:do_fault_around).
const AROUND: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Anon,
    /// Anonymous memory with MAP_SHARED.
    Shmem,
    /// A file, MAP_PRIVATE.
    File,
    /// A file, MAP_SHARED.
    SharedFile,
}

impl Kind {
    pub fn is_shared(self) -> bool {
        matches!(self, Self::Shmem | Self::SharedFile)
    }
}

/// What a page's mapping is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Vma {
    pub kind: Kind,
    /// Mapped before the trace.
    pub before: bool,
    pub dont_fork: bool,
    pub wipe_on_fork: bool,
    /// A private page of it may have come.
    pub written: bool,
    /// Its pages were copied by a fork: it is joined with nothing new.
    pub forked: bool,
}

impl Vma {
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            before: false,
            dont_fork: false,
            wipe_on_fork: false,
            written: false,
            forked: false,
        }
    }
}

/// A give-back: by which advice (None: DONTUNMAP), and when its call entered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Given {
    pub by: Option<A>,
    pub at_ns: u64,
    pub inherited: bool,
    /// It may have been another call instead.
    pub unsettled: bool,
}

impl Given {
    /// The page may be there until the kernel wants it.
    pub fn is_offer(self) -> bool {
        matches!(self.by, Some(A::FREE | A::PAGEOUT))
    }

    pub fn class(self) -> C {
        match self.by {
            Some(A::FREE) => C::RefaultFree,
            Some(A::DONTNEED | A::DONTNEED_LOCKED) => C::RefaultDontneed,
            _ => C::RefaultOther,
        }
    }
}

/// What may be known of a page.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum State {
    /// Nothing was ever there.
    Untouched,
    /// Something may be there; a fault that finds nothing proves that there never was.
    Perhaps,
    /// Something may be there, or be given back.
    Unknown,
    Populated,
    /// A read of this class mapped the zero page.
    Zero(C, Option<Given>),
    Given(Given),
    /// Given back, and back with a neighbour, perhaps.
    Back(Given),
}

#[derive(Clone, Copy, Debug)]
pub struct Cell {
    pub vma: Vma,
    pub state: State,
    /// MADV_GUARD_INSTALL lets nothing come here.
    pub guard: bool,
}

impl Cell {
    pub fn new(vma: Vma) -> Self {
        let state = if vma.before {
            State::Perhaps
        } else {
            State::Untouched
        };
        Self {
            vma,
            state,
            guard: false,
        }
    }

    fn is_lazy(&self) -> bool {
        matches!(self.state, State::Given(given) | State::Back(given) if given.by == Some(A::FREE))
    }
}

#[derive(Clone, Debug)]
pub struct Pages {
    pub cells: Vec<Option<Cell>>,
    /// The first page behind the heap.
    pub brk: usize,
    pub account: Account,
}

impl Pages {
    pub fn new() -> Self {
        Self {
            cells: vec![None; PAGES],
            brk: HEAP,
            account: Account::default(),
        }
    }

    pub fn is_mapped(&self, n: usize) -> bool {
        self.cells[n].is_some()
    }

    pub fn mapped(&self, range: std::ops::Range<usize>) -> Vec<usize> {
        range.filter(|n| self.is_mapped(*n)).collect()
    }

    /// Marked by MADV_FREE, and not seen to be gone.
    pub fn lazy_bytes(&self) -> u64 {
        self.cells.iter().flatten().filter(|c| c.is_lazy()).count() as u64 * PAGE
    }

    /// True if anything may be there.
    pub fn may_hold(&self, n: usize) -> bool {
        self.cells[n].is_some_and(|cell| match cell.state {
            State::Untouched | State::Zero(..) => false,
            State::Perhaps | State::Unknown | State::Populated => true,
            State::Given(given) => given.is_offer(),
            State::Back(_) => true,
        })
    }

    /// A call takes the page away, at once.
    fn count_taken(&mut self, key: Key, n: usize) {
        let Some(cell) = self.cells[n] else { return };
        if self.may_hold(n) {
            let certain = cell.state == State::Populated;
            self.account.released(key, !certain);
        }
        self.drop_mark(n);
    }

    /// What may be lazily free goes: a page that is marked, or one of those that nobody knows.
    fn drop_mark(&mut self, n: usize) {
        if self.is_lazy(n) {
            self.account.dropped += PAGE;
        } else if self.may_be_there(n) && self.account.unplaced > 0 {
            self.account.unplaced -= PAGE;
            self.account.dropped += PAGE;
        }
    }

    pub fn is_lazy(&self, n: usize) -> bool {
        self.cells[n].is_some_and(|cell| cell.is_lazy())
    }

    /// It may be populated, and nobody saw it so.
    fn may_be_there(&self, n: usize) -> bool {
        self.may_hold(n) && self.cells[n].is_some_and(|cell| cell.state != State::Populated)
    }

    /// FREE marks the page, for certain or perhaps.
    pub fn mark(&mut self, n: usize) {
        if self.is_lazy(n) {
            self.account.marked_again += PAGE;
        } else if self.may_be_there(n) && self.account.unplaced > 0 {
            self.account.unplaced -= PAGE;
            self.account.marked_again += PAGE;
        } else if self.may_hold(n) {
            self.account.marked += PAGE;
        }
    }

    /// The mapping ends here.
    pub fn unmap(&mut self, key: Key, n: usize) {
        self.count_taken(key, n);
        self.cells[n] = None;
    }

    /// A call may have been applied to the page or not.
    pub fn lose(&mut self, n: usize) {
        self.drop_mark(n);
        self.shake(n);
    }

    fn shake(&mut self, n: usize) {
        let Some(cell) = &mut self.cells[n] else {
            return;
        };
        if cell.state != State::Untouched {
            cell.state = State::Unknown;
        }
    }

    /// A FREE may have been applied to the pages or not.
    pub fn perhaps_free(&mut self, pages: &[usize]) {
        let held: Vec<usize> = pages
            .iter()
            .copied()
            .filter(|n| self.may_hold(*n))
            .collect();
        held.iter().for_each(|n| self.mark(*n));
        self.account.unplaced += held.len() as u64 * PAGE;
        pages.iter().for_each(|n| self.shake(*n));
    }

    pub fn give_back(&mut self, advice: A, n: usize, at_ns: u64) {
        let Some(cell) = self.cells[n] else { return };
        let given = Given {
            by: Some(advice),
            at_ns,
            inherited: false,
            unsettled: false,
        };
        let key = Key::Advice(advice);
        if advice == A::FREE {
            self.mark(n);
            if self.may_hold(n) {
                self.account.released(key, true);
            }
        } else if !given.is_offer() {
            self.count_taken(key, n);
        }
        let after = match cell.state {
            State::Back(before) => {
                let gone = Cell {
                    state: State::Given(before),
                    ..cell
                };
                let gone = offered(gone, given);
                match gone {
                    _ if gone == State::Given(given) => gone,
                    State::Given(other) if other.by == Some(A::FREE) => State::Given(Given {
                        unsettled: true,
                        ..other
                    }),
                    _ => State::Given(Given {
                        unsettled: true,
                        ..given
                    }),
                }
            }
            _ => offered(cell, given),
        };
        self.cells[n] = Some(Cell {
            state: after,
            guard: cell.guard || advice == A::GUARD_INSTALL,
            ..cell
        });
    }

    /// DONTUNMAP has moved the page away and left its place.
    pub fn leave_place(&mut self, n: usize, at_ns: u64) {
        let given = Given {
            by: None,
            at_ns,
            inherited: false,
            unsettled: false,
        };
        if let Some(cell) = &mut self.cells[n] {
            cell.guard = false;
            cell.state = match cell.state {
                State::Back(before) if before.is_offer() => State::Given(given),
                State::Back(_) => State::Given(Given {
                    unsettled: true,
                    ..given
                }),
                state => taken(state, given),
            };
        }
    }

    /// MADV_POPULATE_WRITE.
    pub fn write_in(&mut self, n: usize) {
        self.write_to(n);
        if let Some(cell) = &mut self.cells[n] {
            cell.state = State::Populated;
        }
    }

    /// MADV_POPULATE_READ: it maps a page, perhaps the zero page, where there is none.
    pub fn read_in(&mut self, n: usize) {
        let Some(cell) = &mut self.cells[n] else {
            return;
        };
        cell.state = match cell.state {
            _ if cell.vma.kind != Kind::Anon => State::Populated,
            State::Given(given) | State::Back(given) if given.by == Some(A::FREE) => cell.state,
            // It comes back with what it held, if there was anything before PAGEOUT.
            State::Given(given) | State::Back(given) if given.is_offer() => State::Unknown,
            State::Untouched | State::Given(_) | State::Back(_) => State::Perhaps,
            state => state,
        };
    }

    /// MADV_POPULATE_WRITE that got nobody knows how far.
    pub fn perhaps_write_in(&mut self, n: usize) {
        self.write_to(n);
        if let Some(cell) = &mut self.cells[n]
            && cell.state != State::Populated
            && !cell.is_lazy()
        {
            cell.state = State::Unknown;
        }
    }

    pub fn fault(&mut self, n: usize, write: bool, present: bool, now: u64) {
        let Some(mut cell) = self.cells[n] else {
            // Nothing is there, and nothing comes.
            self.account.fault(C::Unknown, 0, Basis::LowerBound);
            return;
        };
        if cell.guard {
            self.account.fault(C::Unknown, 0, Basis::Exact);
            return;
        }
        let (state, kind) = (cell.state, cell.vma.kind);
        let alone = present || write || kind == Kind::Anon;
        let basis = if alone || self.around(n).len() == 1 {
            Basis::Exact
        } else {
            Basis::LowerBound
        };
        let there = matches!(state, State::Populated | State::Zero(..)) && kind == Kind::Anon;
        if write && !kind.is_shared() && (present || !there) {
            self.write_to(n);
            cell.vma.written = true;
        }
        if present {
            match state {
                State::Zero(class, given) if write => {
                    self.account.zero_page_write(class, given, basis);
                }
                _ if !write => return self.account.fault(C::Unknown, PAGE, Basis::Derived),
                _ if kind.is_shared() => self.account.fault(C::File, 0, basis),
                _ => self.account.fault(C::Cow, PAGE, basis),
            }
            cell.state = State::Populated;
            self.cells[n] = Some(cell);
            return;
        }
        let (class, given) = match state {
            State::Given(given) | State::Back(given) => (given.class(), Some(given)),
            _ if kind != Kind::Anon => (C::File, None),
            State::Populated | State::Zero(..) => {
                // Swapped out, or faulted on by two at once.
                return self.account.fault(C::Unknown, PAGE, Basis::Derived);
            }
            State::Untouched | State::Perhaps if !cell.vma.before => (C::FirstTouch, None),
            _ => (C::Unknown, None),
        };
        let from_swap = given.is_some_and(|given| given.by == Some(A::PAGEOUT));
        let zero = !write && kind == Kind::Anon && !from_swap;
        let (bytes, after) = if zero {
            (0, State::Zero(class, given))
        } else {
            (PAGE, State::Populated)
        };
        let basis = match class {
            C::Unknown => Basis::Derived,
            // Nothing tells that it was there to be paged out.
            _ if !write && kind == Kind::Anon && from_swap && cell.vma.before => Basis::Derived,
            _ => basis,
        };
        self.account.fault(class, bytes, basis);
        if let Some(given) = given {
            self.account.refault(given, bytes, now);
        }
        cell.state = after;
        self.cells[n] = Some(cell);
        if !alone {
            self.map_around(n);
        }
    }

    /// A private page of the mapping at `n` has come.
    pub fn write_to(&mut self, n: usize) {
        let Some(vma) = self.cells[n].map(|cell| cell.vma) else {
            return;
        };
        if vma.kind.is_shared() {
            return;
        }
        // The heap is a mapping of its own.
        let same = |pages: &Self, m: usize| {
            (m < HEAP) == (n < HEAP) && pages.cells[m].map(|cell| cell.vma) == Some(vma)
        };
        let up = (n..PAGES).take_while(|n| same(self, *n));
        let down = (0..n).rev().take_while(|n| same(self, *n));
        for n in up.chain(down).collect::<Vec<_>>() {
            if let Some(cell) = &mut self.cells[n] {
                cell.vma.written = true;
            }
        }
    }

    /// Pages that one read of a file may map.
    fn around(&self, n: usize) -> Vec<usize> {
        let kind = self.cells[n].map(|cell| cell.vma.kind);
        let file = |n: &usize| self.cells[*n].map(|cell| cell.vma.kind) == kind;
        let window = n - n % AROUND..(n + AROUND).min(PAGES);
        let up = (n..window.end).take_while(file);
        let down = (window.start..n).rev().take_while(file);
        up.chain(down).collect()
    }

    /// A file fault may have brought neighbours in the same mapping.
    fn map_around(&mut self, n: usize) {
        for n in self.around(n) {
            if let Some(cell) = &mut self.cells[n] {
                cell.state = match cell.state {
                    State::Untouched => State::Perhaps,
                    State::Given(given) => State::Back(given),
                    state => state,
                };
            }
        }
    }

    /// Whether anonymous memory of this mapping is joined with the page, and has pages of its own then.
    pub fn is_written_like(&self, n: usize, vma: Vma) -> bool {
        let beside = self.cells.get(n).copied().flatten();
        beside.is_some_and(|Cell { vma: beside, .. }| {
            let flags = |vma: Vma| (vma.kind, vma.dont_fork, vma.wipe_on_fork);
            vma.kind == Kind::Anon
                && flags(beside) == flags(vma)
                && beside.written
                && !beside.forked
        })
    }

    /// The address space of a child.
    pub fn fork(&self) -> Self {
        let inherit = |given: Given| Given {
            inherited: true,
            ..given
        };
        // The first and the last page of the mapping: what lies beside may be joined with it.
        let ends = |n: usize| {
            let vma = self.cells[n].map(|cell| cell.vma);
            let same =
                |m: &usize| (*m < HEAP) == (n < HEAP) && self.cells[*m].map(|cell| cell.vma) == vma;
            let first = (0..=n).rev().take_while(same).last().unwrap_or(n);
            let last = (n..PAGES).take_while(same).last().unwrap_or(n);
            (first.wrapping_sub(1), last + 1)
        };
        let copied = |n: usize, cell: Cell| {
            let (before, behind) = ends(n);
            let joined =
                self.is_written_like(before, cell.vma) || self.is_written_like(behind, cell.vma);
            !cell.vma.kind.is_shared() && (cell.vma.written || cell.vma.before || joined)
        };
        let inherited = |(n, cell): (usize, Cell)| match cell.state {
            _ if cell.vma.dont_fork => None,
            _ if cell.vma.wipe_on_fork || !copied(n, cell) => {
                let mut child = Cell::new(Vma {
                    before: false,
                    written: false,
                    forked: false,
                    ..cell.vma
                });
                if !cell.vma.wipe_on_fork
                    && let State::Given(given) | State::Back(given) = cell.state
                {
                    child.state = State::Given(inherit(given));
                }
                Some(child)
            }
            State::Back(given) => Some(Cell {
                state: State::Back(inherit(given)),
                ..cell
            }),
            State::Given(given) => Some(Cell {
                state: State::Given(inherit(given)),
                ..cell
            }),
            State::Zero(class, given) => Some(Cell {
                state: State::Zero(class, given.map(inherit)),
                ..cell
            }),
            _ => Some(cell),
        };
        let mut child = Self::new();
        let cells = self.cells.iter().copied().enumerate();
        child.cells = cells.map(|(n, cell)| inherited((n, cell?))).collect();
        for cell in child.cells.iter_mut().flatten() {
            cell.vma.forked |= cell.vma.written;
        }
        child.brk = self.brk;
        child.account.inherited = child.lazy_bytes();
        child
    }

    /// Nobody works on it any more.
    pub fn end(&mut self) {
        self.account.dropped += self.lazy_bytes() + self.account.unplaced;
        self.cells.fill(None);
    }
}

/// The same, seen what an offer makes of what was offered already.
fn offered(cell: Cell, given: Given) -> State {
    match cell.state {
        State::Given(before) if before.is_offer() && given.by == Some(A::PAGEOUT) => cell.state,
        State::Given(before) => {
            let given = Given {
                unsettled: before.unsettled || given.unsettled,
                ..given
            };
            if cell.is_lazy() && given.by == Some(A::FREE) {
                return State::Given(Given {
                    inherited: before.inherited,
                    ..given
                });
            }
            taken(cell.state, given)
        }
        state => taken(state, given),
    }
}

/// What a give-back leaves of a page: what was never there, and what is gone already, can't go.
fn taken(state: State, given: Given) -> State {
    match state {
        State::Untouched => state,
        State::Given(before) if !before.is_offer() => state,
        // MADV_FREE and PAGEOUT pass the zero page over (mm/madvise.c).
        State::Zero(..) if given.is_offer() => state,
        _ => State::Given(given),
    }
}
