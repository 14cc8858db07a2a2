//! Short ways to write events down, one nanosecond apart.

use std::sync::Arc;

use crate::ledger::advice::Advice;
use crate::ledger::event::{
    Access, Begin, Call, Event, Fault, Folios, Mapping, MappingKind, Mappings, Op,
};
use crate::ledger::totals::{FaultClass, ReleaseTotals, Totals};
use crate::ledger::{Classified, Ledger};

pub const PAGE: u64 = 4096;
/// Where the tests map.
pub const BASE: u64 = 0x7000_0000_0000;
pub const PID: u32 = 10;

/// A ledger with one process, and the time.
pub struct Scene {
    pub ledger: Ledger,
    pub now: u64,
    pub tid: u32,
}

pub fn page(n: u64) -> u64 {
    BASE + n * PAGE
}

pub fn anon() -> Mapping {
    Mapping {
        kind: MappingKind::Anon,
        shared: false,
        huge_advised: false,
        name: None,
    }
}

impl Scene {
    /// A process that was just exec'd, without folios larger than a page.
    pub fn new() -> Self {
        let mut scene = Self {
            ledger: Ledger::default(),
            now: 0,
            tid: PID,
        };
        scene.apply(Event::Begin(Begin {
            at_ns: 0,
            pid: PID,
            comm: "test".to_owned(),
            before_exec: false,
        }));
        scene.base_pages_only(PID);
        scene
    }

    pub fn base_pages_only(&mut self, pid: u32) {
        self.apply(Event::Folios(Folios {
            at_ns: self.now,
            pid,
            any_bytes: PAGE,
            advised_bytes: 2 << 20,
        }));
    }

    pub fn apply(&mut self, event: Event) -> Option<Classified> {
        self.ledger.apply(&event)
    }

    pub fn tick(&mut self) -> u64 {
        self.now += 1;
        self.now
    }

    /// Memory that was there before the trace.
    pub fn mapped_before(&mut self, first: u64, pages: u64, mapping: Mapping) {
        let list = vec![(page(first)..page(first + pages), mapping)];
        let at_ns = self.tick();
        self.apply(Event::Mappings(Mappings {
            at_ns,
            pid: PID,
            fresh: false,
            heap_end: None,
            list,
        }));
    }

    pub fn call(&mut self, op: Op, ret: i64) -> Arc<Call> {
        let enter_ns = self.tick();
        let exit_ns = self.tick();
        Arc::new(Call {
            pid: PID,
            tid: self.tid,
            enter_ns,
            exit_ns,
            ret: Some(ret),
            op,
            released_bytes: None,
        })
    }

    pub fn enter(&mut self, call: &Arc<Call>) {
        self.apply(Event::Enter(Arc::clone(call)));
    }

    pub fn leave(&mut self, call: &Arc<Call>) {
        self.apply(Event::Leave(Arc::clone(call)));
    }

    /// A call that nothing overlaps.
    pub fn done(&mut self, op: Op, ret: i64) {
        let call = self.call(op, ret);
        self.enter(&call);
        self.leave(&call);
    }

    pub fn map(&mut self, first: u64, pages: u64) {
        self.mmap(first, pages, 0x22);
    }

    pub fn mmap(&mut self, first: u64, pages: u64, flags: u32) {
        let op = Op::Mmap {
            addr: page(first),
            len: pages * PAGE,
            prot: 3,
            flags,
            fd: if flags & 0x20 != 0 { -1 } else { 3 },
            name: None,
        };
        self.done(op, page(first) as i64);
    }

    pub fn unmap(&mut self, first: u64, pages: u64) {
        let (addr, len) = (page(first), pages * PAGE);
        self.done(Op::Munmap { addr, len }, 0);
    }

    pub fn advise(&mut self, advice: Advice, first: u64, pages: u64) {
        self.advise_ret(advice, first, pages, 0);
    }

    pub fn advise_ret(&mut self, advice: Advice, first: u64, pages: u64, ret: i64) {
        let op = madvise(advice, first, pages);
        self.done(op, ret);
    }

    pub fn touch(&mut self, n: u64, access: Access, present: bool) -> Classified {
        let at_ns = self.tick();
        let (pid, tid) = (PID, self.tid);
        self.apply(Event::Fault(Fault {
            at_ns,
            pid,
            tid,
            addr: page(n),
            present,
            access,
            by_kernel: false,
        }))
        .expect("the process is known")
    }

    /// Writes that find each page not present.
    pub fn write(&mut self, first: u64, pages: u64) {
        for n in first..first + pages {
            self.touch(n, Access::Write, false);
        }
    }

    pub fn totals(&self) -> &Totals {
        &self.ledger.mms()[0].totals
    }

    pub fn faults(&self, class: FaultClass) -> u64 {
        self.totals().faults.class(class).faults
    }

    pub fn bytes(&self, class: FaultClass) -> u64 {
        self.totals().faults.class(class).bytes
    }

    pub fn advice(&self, advice: Advice) -> ReleaseTotals {
        self.totals()
            .advice
            .get(&advice)
            .cloned()
            .unwrap_or_default()
    }
}

pub fn madvise(advice: Advice, first: u64, pages: u64) -> Op {
    Op::Madvise {
        advice,
        addr: page(first),
        len: pages * PAGE,
    }
}
