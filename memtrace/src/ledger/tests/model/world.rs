//! Does each step twice: as events to the ledger, and as the kernel would to the model's pages.

use std::ops::Range;
use std::sync::Arc;

use super::account::Key;
use super::effect::Effect;
use super::mappings::{mmap, mremap, munmap};
use super::pages::{Cell, HEAP, Kind, Pages, Vma};
use super::steps::{Span, Step};
use crate::ledger::Ledger;
use crate::ledger::advice::Advice as A;
use crate::ledger::event::{
    Access, Begin, Call, Event, Exec, Exit, Fault, FaultBatch, Folios, Fork, Mapping, MappingKind,
    Mappings, Op, VmFlags,
};
use crate::ledger::tests::support::{PAGE, page};

const ENOMEM: i64 = -(libc::ENOMEM as i64);
const EINVAL: i64 = -(libc::EINVAL as i64);
const EINTR: i64 = -(libc::EINTR as i64);

pub struct World {
    ledger: Ledger,
    now: u64,
    /// The living, and whose memory each works on.
    processes: Vec<(u32, usize)>,
    pub spaces: Vec<Pages>,
    pids: u32,
}

pub fn pages((at, len): Span) -> Range<usize> {
    at..at + len
}

pub fn addr(n: usize) -> u64 {
    page(n as u64)
}

pub fn bytes(len: usize) -> u64 {
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
                written: true,
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
                flags: VmFlags::default(),
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
            ..Folios::base_pages(at_ns, pid)
        }));
        self.ledger.apply(&Event::Mappings(Mappings {
            at_ns,
            until_ns: at_ns,
            pid,
            fresh,
            heap_end: Some(addr(HEAP)),
            whole: false,
            list,
        }));
    }

    /// Makes the calls of `ops`, all at once, and says when they entered.
    pub fn call(&mut self, pid: u32, ops: Vec<Op>, ret: i64) -> u64 {
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
            if call.op.enter_matters() {
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
                let effect = self.spaces[mm].effect(advice, pages(span));
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
                if from.1 == to.1 {
                    // Of several mappings the first may have been moved.
                    space.lose_all(Key::Mremap, pages(from));
                }
                space.lose_all(Key::Mremap, cut_off);
                // As the tracker does then. All that is mapped is known still.
                self.read_maps(pid, false, Vec::new());
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
        space.take_effect(advice, &effect, at_ns);
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
            let effect = self.spaces[mm].effect(advice, pages(*span));
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
            space.take_effect(advice, effect, at_ns);
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
