//! Does each step twice: as events to the ledger, and as the kernel would to the model's pages.

use std::ops::Range;
use std::sync::Arc;

use super::account::Key;
use super::pages::{Cell, HEAP, Kind, PAGES, Pages, Vma};
use super::steps::{Span, Step};
use crate::ledger::Ledger;
use crate::ledger::advice::Advice as A;
use crate::ledger::event::{
    Access, Begin, Call, Event, Exec, Exit, Fault, FaultBatch, Folios, Fork, Mapping, MappingKind,
    Mappings, Op,
};
use crate::ledger::tests::support::{PAGE, page};

const ENOMEM: i64 = -(libc::ENOMEM as i64);
const EINVAL: i64 = -(libc::EINVAL as i64);
const EACCES: i64 = -(libc::EACCES as i64);
const EINTR: i64 = -(libc::EINTR as i64);

pub struct World {
    ledger: Ledger,
    now: u64,
    /// The living, and whose memory each works on.
    processes: Vec<(u32, usize)>,
    spaces: Vec<Pages>,
    pids: u32,
}

/// What an advice does to a range (mm/madvise.c:madvise_walk_vmas).
#[derive(Default)]
struct Effect {
    done: Vec<usize>,
    /// Nothing tells where of these.
    unknown: Vec<usize>,
    ret: i64,
}

impl Effect {
    fn unknown(range: Range<usize>, ret: i64) -> Self {
        Self {
            done: Vec::new(),
            unknown: range.collect(),
            ret,
        }
    }
}

fn pages((at, len): Span) -> Range<usize> {
    at..at + len
}

fn addr(n: usize) -> u64 {
    page(n as u64)
}

fn bytes(len: usize) -> u64 {
    len as u64 * PAGE
}

impl World {
    pub fn new(before: &[(Span, Kind)]) -> Self {
        let mut world = Self {
            ledger: Ledger::default(),
            now: 0,
            processes: vec![(1, 0)],
            spaces: vec![Pages::new()],
            pids: 1,
        };
        world.ledger.apply(&Event::Begin(Begin {
            at_ns: 0,
            pid: 1,
            comm: "test".to_owned(),
            before_exec: false,
        }));
        let cells = &mut world.spaces[0].cells;
        for (span, kind) in before {
            let vma = Vma {
                before: true,
                ..Vma::new(*kind)
            };
            cells[pages(*span)].fill(Some(Cell::new(vma)));
        }
        let list = (0..HEAP).filter_map(|n| {
            let kind = cells[n]?.vma.kind;
            let mapping = Mapping {
                kind: if matches!(kind, Kind::File | Kind::SharedFile) {
                    MappingKind::File
                } else {
                    MappingKind::Anon
                },
                shared: kind.is_shared(),
                huge_advised: false,
                name: None,
            };
            Some((addr(n)..addr(n + 1), mapping))
        });
        let list = list.collect();
        world.read_maps(1, false, list);
        world
    }

    fn read_maps(&mut self, pid: u32, fresh: bool, list: Vec<(Range<u64>, Mapping)>) {
        let at_ns = self.now;
        self.ledger.apply(&Event::Folios(Folios {
            at_ns,
            pid,
            any_bytes: PAGE,
            advised_bytes: PAGE,
        }));
        self.ledger.apply(&Event::Mappings(Mappings {
            at_ns,
            pid,
            fresh,
            heap_end: Some(addr(HEAP)),
            list,
        }));
    }

    /// Makes the calls of `ops`, all at once, and says when they entered.
    fn call(&mut self, pid: u32, ops: Vec<Op>, ret: i64) -> u64 {
        let enter_ns = self.now + 1;
        self.now += 10;
        let call = |op| {
            Arc::new(Call {
                pid,
                tid: pid,
                enter_ns,
                exit_ns: enter_ns + 9,
                ret: Some(ret),
                op,
                released_bytes: None,
            })
        };
        let calls: Vec<_> = ops.into_iter().map(call).collect();
        for call in &calls {
            if call.op.takes_away() {
                self.ledger.apply(&Event::Enter(Arc::clone(call)));
            }
        }
        for call in calls {
            self.ledger.apply(&Event::Leave(call));
        }
        enter_ns
    }

    pub fn step(&mut self, who: usize, step: &Step) {
        if self.processes.is_empty() {
            return;
        }
        self.now += 40;
        let at = who % self.processes.len();
        let (pid, mm) = self.processes[at];
        match *step {
            Step::Map {
                span,
                kind,
                populate,
            } => self.map(pid, mm, pages(span), kind, populate),
            Step::MapFails { span, errno } => {
                self.call(pid, vec![mmap(pages(span), 0x32)], -i64::from(errno));
                let space = &mut self.spaces[mm];
                space.account.map("mmap", true, 0);
                // Other errors come before it unmaps anything.
                if errno == libc::ENOMEM {
                    space.lose_all(Key::MapFixed, pages(span));
                }
            }
            Step::Unmap(span) => {
                self.call(pid, vec![munmap(span)], 0);
                let space = &mut self.spaces[mm];
                let sum = space.account.sum(Key::Munmap);
                sum.calls += 1;
                sum.requested += bytes(span.1);
                pages(span).for_each(|n| space.unmap(Key::Munmap, n));
            }
            Step::UnmapFails(span) => {
                self.call(pid, vec![munmap(span)], EINVAL);
                let sum = self.spaces[mm].account.sum(Key::Munmap);
                sum.calls += 1;
                sum.failed += 1;
            }
            Step::Advise(advice, span) => {
                let effect = self.effect(mm, advice, pages(span));
                self.advise(pid, mm, advice, span, effect);
            }
            Step::Interrupted(advice, span) => {
                let effect = Effect::unknown(pages(span), EINTR);
                self.advise(pid, mm, advice, span, effect);
            }
            Step::AdviseMany(advice, ref spans) => self.advise_many(at, mm, advice, spans),
            Step::Resize(span, len) => self.resize(pid, mm, span, len),
            Step::Move(from, to) => self.move_to(pid, mm, from, to),
            Step::MoveFails(from, to) => {
                self.call(pid, vec![mremap(from, to, 3)], ENOMEM);
                let space = &mut self.spaces[mm];
                space.account.map("mremap", true, 0);
                let cut_off = from.0 + to.1.min(from.1)..from.0 + from.1;
                // In this order: what the target holds is lost first.
                space.lose_all(Key::Mremap, pages(to));
                space.lose_all(Key::Mremap, cut_off);
            }
            Step::DontUnmap(from, to) => self.dont_unmap(pid, mm, from, to),
            Step::Brk(to) => self.brk(pid, mm, to),
            Step::BrkAsks => {
                let brk = self.spaces[mm].brk;
                self.call(pid, vec![Op::Brk { addr: 0 }], addr(brk) as i64);
                self.spaces[mm].account.map("brk", false, 0);
            }
            Step::Touch {
                span,
                access,
                present,
            } => {
                let space = &mut self.spaces[mm];
                let fault = |n| Fault {
                    at_ns: self.now,
                    pid,
                    tid: pid,
                    addr: addr(n),
                    present: present && space.is_mapped(n),
                    access,
                    by_kernel: false,
                };
                let faults: Vec<Fault> = pages(span).map(fault).collect();
                for (n, fault) in pages(span).zip(&faults) {
                    space.fault(n, access == Access::Write, fault.present, self.now);
                }
                let batch = FaultBatch::of_all(&faults).expect("no span is empty");
                self.ledger.apply(&Event::Faults(batch));
            }
            Step::Fork | Step::Vfork if self.spaces.len() > 4 => {}
            Step::Fork => {
                let child = self.spaces[mm].fork();
                self.spaces.push(child);
                self.fork(pid, self.spaces.len() - 1, false);
            }
            Step::Vfork => self.fork(pid, mm, true),
            Step::Exec => {
                self.ledger.apply(&Event::Exec(Exec {
                    at_ns: self.now,
                    pid,
                    comm: "next".to_owned(),
                    followed: true,
                }));
                self.read_maps(pid, true, Vec::new());
                self.spaces.push(Pages::new());
                self.processes[at].1 = self.spaces.len() - 1;
                self.leave_space(mm);
            }
            Step::Exit => {
                self.ledger.apply(&Event::Exit(Exit {
                    at_ns: self.now,
                    pid,
                    status: Some(0),
                }));
                self.processes.remove(at);
                self.leave_space(mm);
            }
        }
    }

    fn leave_space(&mut self, mm: usize) {
        if self.processes.iter().all(|(_, other)| *other != mm) {
            self.spaces[mm].end();
        }
    }

    fn fork(&mut self, parent_pid: u32, mm: usize, shares_vm: bool) {
        self.pids += 1;
        self.processes.push((self.pids, mm));
        self.ledger.apply(&Event::Fork(Fork {
            at_ns: self.now,
            parent_pid,
            pid: self.pids,
            shares_vm,
            followed: true,
        }));
    }

    fn map(&mut self, pid: u32, mm: usize, range: Range<usize>, kind: Kind, populate: bool) {
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
            cell.state = super::pages::State::Perhaps;
        }
        space.cells[range].fill(Some(cell));
    }

    fn effect(&self, mm: usize, advice: A, range: Range<usize>) -> Effect {
        let space = &self.spaces[mm];
        let mapped = space.mapped(range.clone());
        let whole = mapped.len() == range.len();
        let kind = |n: &usize| space.cells[*n].map(|cell| cell.vma.kind);
        let not_anon = mapped.iter().find(|n| kind(n) != Some(Kind::Anon));
        let private = mapped
            .iter()
            .find_map(|n| kind(n).filter(|kind| !kind.is_shared()));
        let refused = |ret| {
            if range.len() == 1 && ret == EINVAL {
                return Effect {
                    ret,
                    ..Effect::default()
                };
            }
            Effect::unknown(range.clone(), ret)
        };
        match (advice, not_anon, private) {
            (A::FREE, Some(&stop), _) => Effect {
                done: space.mapped(range.start..stop),
                unknown: Vec::new(),
                ret: EINVAL,
            },
            // The ledger does not go into why these are refused, and so not into where.
            (A::GUARD_INSTALL, Some(_), _) => refused(EINVAL),
            (A::REMOVE, _, Some(Kind::Anon)) => refused(EINVAL),
            (A::REMOVE, _, Some(_)) => refused(EACCES),
            (A::WIPEONFORK | A::KEEPONFORK, Some(_), _) => refused(EINVAL),
            (A::POPULATE_READ | A::POPULATE_WRITE, ..) => Effect {
                done: range.take_while(|n| space.is_mapped(*n)).collect(),
                unknown: Vec::new(),
                ret: if whole { 0 } else { ENOMEM },
            },
            _ => Effect {
                done: mapped,
                unknown: Vec::new(),
                ret: if whole { 0 } else { ENOMEM },
            },
        }
    }

    fn advise(&mut self, pid: u32, mm: usize, advice: A, span: Span, effect: Effect) {
        let op = Op::Madvise {
            advice,
            addr: addr(span.0),
            len: bytes(span.1),
        };
        let at_ns = self.call(pid, vec![op], effect.ret);
        let space = &mut self.spaces[mm];
        let sum = space.account.sum(Key::Advice(advice));
        sum.calls += 1;
        sum.failed += u64::from(effect.ret < 0);
        sum.partial += u64::from(effect.ret < 0 && !effect.done.is_empty());
        take_effect(space, advice, &effect, at_ns);
    }

    /// process_madvise on `mm`, by the next process in turn.
    fn advise_many(&mut self, at: usize, mm: usize, advice: A, spans: &[Span]) {
        let (target, _) = self.processes[at];
        let (caller, _) = self.processes[(at + 1) % self.processes.len()];
        let mut done = 0;
        let mut error = 0;
        let mut effects = Vec::new();
        // As far as they can go without taking effect on each other's ranges.
        let mut taken: Vec<usize> = Vec::new();
        let spans: Vec<Span> = spans
            .iter()
            .filter(|span| {
                let apart = pages(**span).all(|n| !taken.contains(&n));
                taken.extend(pages(**span));
                apart
            })
            .copied()
            .collect();
        for (index, span) in spans.iter().enumerate() {
            let effect = self.effect(mm, advice, pages(*span));
            if effect.ret < 0 {
                if index == 0 {
                    error = effect.ret;
                    effects.push(effect);
                } else {
                    // With which error, it does not say.
                    effects.push(Effect::unknown(pages(*span), 0));
                }
                break;
            }
            done += bytes(span.1);
            effects.push(effect);
        }
        let ret = if done > 0 { done as i64 } else { error };
        let mut before_bytes = 0;
        let op = |(index, span): (usize, &Span)| {
            let op = Op::ProcessMadvise {
                target_pid: Some(target),
                advice,
                range: Some((addr(span.0), bytes(span.1))),
                index: index as u32,
                ranges: spans.len() as u32,
                before_bytes,
            };
            before_bytes += bytes(span.1);
            op
        };
        let ops = spans.iter().enumerate().map(op).collect();
        let at_ns = self.call(caller, ops, ret);
        let space = &mut self.spaces[mm];
        let sum = space.account.sum(Key::Advice(advice));
        sum.calls += 1;
        sum.failed += u64::from(ret < 0);
        sum.partial += u64::from(ret < 0 && !effects[0].done.is_empty());
        for effect in &effects {
            take_effect(space, advice, effect, at_ns);
        }
    }

    /// True if the span is one mapping, as mremap wants it.
    fn is_one(&self, mm: usize, span: Span) -> bool {
        let like = |n: usize| {
            let vma = self.spaces[mm].cells[n]?.vma;
            Some((vma.kind, vma.dont_fork, vma.wipe_on_fork))
        };
        like(span.0).is_some() && pages(span).all(|n| like(n) == like(span.0))
    }

    fn resize(&mut self, pid: u32, mm: usize, span: Span, len: usize) {
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

    fn move_to(&mut self, pid: u32, mm: usize, from: Span, to: Span) {
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

    fn dont_unmap(&mut self, pid: u32, mm: usize, from: Span, to: usize) {
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

    fn brk(&mut self, pid: u32, mm: usize, to: usize) {
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
            space.cells[old..to].fill(Some(Cell::new(Vma::new(Kind::Anon))));
        }
    }

    /// Where the ledger says otherwise.
    pub fn differs(&self) -> Option<String> {
        let mms = self.ledger.mms();
        assert_eq!(mms.len(), self.spaces.len());
        mms.iter().zip(&self.spaces).enumerate().find_map(|(n, (mm, space))| {
            let lazy = mm.lazy();
            let account = &space.account;
            let ours = [
                account.marked,
                account.marked_again,
                account.dropped,
                account.inherited,
                space.lazy_bytes(),
            ];
            let theirs = [
                lazy.marked_bytes,
                lazy.marked_again_bytes,
                lazy.dropped_bytes,
                lazy.inherited_bytes,
                lazy.outstanding_bytes,
            ];
            let lazy = (ours != theirs)
                .then(|| format!("marked, again, dropped, inherited, left: {ours:?}, in the ledger {theirs:?}"));
            let differs = lazy.or_else(|| account.differs(&mm.totals))?;
            Some(format!("space {n}: {differs}"))
        })
    }
}

fn take_effect(space: &mut Pages, advice: A, effect: &Effect, at_ns: u64) {
    let gives_back = advice.give_back().is_some();
    let sum = space.account.sum(Key::Advice(advice));
    sum.requested += bytes(effect.done.len());
    sum.doubtful |= advice == A::FREE;
    sum.unknown |= gives_back && !effect.unknown.is_empty();
    for n in effect.done.iter().copied() {
        match advice {
            A::POPULATE_WRITE => space.write_in(n),
            A::POPULATE_READ => space.read_in(n),
            _ if gives_back => space.give_back(advice, n, at_ns),
            _ => {}
        }
        if let Some(cell) = &mut space.cells[n] {
            match advice {
                A::DONTFORK => cell.vma.dont_fork = true,
                A::DOFORK => cell.vma.dont_fork = false,
                A::WIPEONFORK => cell.vma.wipe_on_fork = true,
                A::KEEPONFORK => cell.vma.wipe_on_fork = false,
                _ => {}
            }
        }
    }
    for n in effect.unknown.iter().copied() {
        match advice {
            A::POPULATE_WRITE => space.perhaps_write_in(n),
            _ if gives_back => space.lose(n),
            _ => {}
        }
    }
}

impl Pages {
    /// Ends what is mapped in `range`: one call, if anything is.
    fn end_mapped(&mut self, key: Key, range: Range<usize>) {
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
    fn lose_all(&mut self, key: Key, range: Range<usize>) {
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
            self.cells[range].fill(Some(Cell::new(vma)));
        }
    }
}

fn mmap(range: Range<usize>, flags: u32) -> Op {
    Op::Mmap {
        addr: addr(range.start),
        len: bytes(range.len()),
        prot: 3,
        flags,
        fd: if flags & 0x20 != 0 { -1 } else { 3 },
        name: None,
    }
}

fn munmap((at, len): Span) -> Op {
    Op::Munmap {
        addr: addr(at),
        len: bytes(len),
    }
}

fn mremap(from: Span, to: Span, flags: u32) -> Op {
    Op::Mremap {
        addr: addr(from.0),
        old_len: bytes(from.1),
        new_len: bytes(to.1),
        flags,
        new_addr: addr(to.0),
    }
}
