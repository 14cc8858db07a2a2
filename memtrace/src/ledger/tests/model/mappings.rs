//! The calls that change what is mapped where, done in both: in the ledger and in the model.

use std::ops::Range;

use super::account::Key;
use super::pages::{Cell, HEAP, Kind, Pages, State, Vma};
use super::steps::Span;
use super::world::{World, addr, bytes, pages};
use crate::ledger::event::Op;

impl World {
    pub fn map(&mut self, pid: u32, mm: usize, range: Range<usize>, kind: Kind, populate: bool) {
        let flags = match kind {
            Kind::Anon => 0x32,
            Kind::Shmem => 0x31,
            Kind::File => 0x12,
            Kind::SharedFile => 0x11,
        };
        let populates = if populate { 0x8000 } else { 0 };
        self.call(
            pid,
            vec![mmap(range.clone(), flags | populates)],
            addr(range.start) as i64,
        );
        let space = &mut self.spaces[mm];
        space.end_mapped(Key::MapFixed, range.clone());
        space.account.map("mmap", false, range.len());
        let mut cell = Cell::new(Vma::new(kind));
        if populate {
            cell.state = State::Perhaps;
            cell.vma.written = true;
        }
        space.map(range, cell);
    }

    /// True if the span is one mapping, as mremap wants it.
    fn is_one(&self, mm: usize, span: Span) -> bool {
        let like = |n: usize| {
            let vma = self.spaces[mm].cells[n]?.vma;
            Some((vma.kind, vma.dont_fork, vma.wipe_on_fork))
        };
        like(span.0).is_some() && pages(span).all(|n| like(n) == like(span.0))
    }

    pub fn resize(&mut self, pid: u32, mm: usize, span: Span, len: usize) {
        let (at, old) = span;
        let space = &self.spaces[mm];
        let free = at + len <= HEAP && (at + old..at + len).all(|n| !space.is_mapped(n));
        if !self.is_one(mm, span) || !free {
            return;
        }
        self.call(pid, vec![mremap(span, (at, len), 0)], addr(at) as i64);
        let space = &mut self.spaces[mm];
        let grown = len.saturating_sub(old);
        space.account.map("mremap", false, grown);
        space.end_mapped(Key::Mremap, at + len.min(old)..at + old);
        space.extend(at + old - 1, at + old..at + old + grown);
    }

    pub fn move_to(&mut self, pid: u32, mm: usize, from: Span, to: Span) {
        let apart = from.0 + from.1 <= to.0 || to.0 + to.1 <= from.0;
        if !apart || !self.is_one(mm, from) {
            return;
        }
        self.call(pid, vec![mremap(from, to, 3)], addr(to.0) as i64);
        let space = &mut self.spaces[mm];
        let kept = from.1.min(to.1);
        let cut_off = from.0 + kept..from.0 + from.1;
        space.account.map("mremap", false, to.1 - kept);
        space.end_all_mapped(Key::Mremap, pages(to).chain(cut_off).collect());
        for n in 0..kept {
            space.cells[to.0 + n] = space.cells[from.0 + n].take();
        }
        space.extend(to.0 + kept - 1, to.0 + kept..to.0 + to.1);
    }

    pub fn dont_unmap(&mut self, pid: u32, mm: usize, from: Span, to: usize) {
        let target = (to, from.1);
        let apart = from.0 + from.1 <= to || to + from.1 <= from.0;
        let anon = self.spaces[mm].cells[from.0].is_some_and(|cell| cell.vma.kind == Kind::Anon);
        if !apart || to + from.1 > HEAP || !anon || !self.is_one(mm, from) {
            return;
        }
        let at_ns = self.call(pid, vec![mremap(from, target, 7)], addr(to) as i64);
        let space = &mut self.spaces[mm];
        space.account.map("mremap", false, from.1);
        space.end_mapped(Key::Mremap, pages(target));
        for n in 0..from.1 {
            space.cells[to + n] = space.cells[from.0 + n];
            space.leave_place(from.0 + n, at_ns);
        }
    }

    pub fn brk(&mut self, pid: u32, mm: usize, to: usize) {
        let space = &self.spaces[mm];
        let old = space.brk;
        let shrinks = to < old;
        self.call(pid, vec![Op::Brk { addr: addr(to) }], addr(to) as i64);
        let space = &mut self.spaces[mm];
        space.brk = to;
        if shrinks {
            let sum = space.account.sum(Key::Brk);
            sum.calls += 1;
            sum.requested += bytes(old - to);
            (to..old).for_each(|n| space.unmap(Key::Brk, n));
        } else {
            space.account.map("brk", false, to - old);
            space.map(old..to, Cell::new(Vma::new(Kind::Anon)));
        }
    }
}

impl Pages {
    /// Ends what is mapped in `range`: one call, if anything is.
    pub fn end_mapped(&mut self, key: Key, range: Range<usize>) {
        self.end_all_mapped(key, range.collect());
    }

    fn end_all_mapped(&mut self, key: Key, pages: Vec<usize>) {
        let mapped: Vec<usize> = pages.into_iter().filter(|n| self.is_mapped(*n)).collect();
        if mapped.is_empty() {
            return;
        }
        let sum = self.account.sum(key);
        sum.calls += 1;
        sum.requested += bytes(mapped.len());
        mapped.into_iter().for_each(|n| self.unmap(key, n));
    }

    /// A call that failed may have ended what was mapped there.
    pub fn lose_all(&mut self, key: Key, range: Range<usize>) {
        if range.clone().any(|n| self.may_hold(n)) {
            self.account.sum(key).unknown = true;
        }
        range.for_each(|n| self.lose(n));
    }

    /// Maps `range` like the page before it.
    fn extend(&mut self, like: usize, range: Range<usize>) {
        if let Some(cell) = self.cells[like] {
            let vma = Vma {
                before: false,
                ..cell.vma
            };
            self.map(range, Cell::new(vma));
        }
    }

    /// New memory, which the kernel joins with what was written beside it.
    fn map(&mut self, range: Range<usize>, mut cell: Cell) {
        let beside = |n: usize| self.is_written_like(n, cell.vma);
        let before = range.start.checked_sub(1).is_some_and(beside);
        cell.vma.written |= before || beside(range.end);
        self.cells[range].fill(Some(cell));
    }
}

pub fn mmap(range: Range<usize>, flags: u32) -> Op {
    Op::Mmap {
        addr: addr(range.start),
        len: bytes(range.len()),
        prot: 3,
        flags,
        fd: if flags & 0x20 != 0 { -1 } else { 3 },
        name: None,
    }
}

pub fn munmap((at, len): Span) -> Op {
    Op::Munmap {
        addr: addr(at),
        len: bytes(len),
    }
}

pub fn mremap(from: Span, to: Span, flags: u32) -> Op {
    Op::Mremap {
        addr: addr(from.0),
        old_len: bytes(from.1),
        new_len: bytes(to.1),
        flags,
        new_addr: addr(to.0),
    }
}
