//! Short ways to write events down, one nanosecond apart.

use std::sync::Arc;

use crate::ledger::advice::Advice;
use crate::ledger::event::{
    Access, Begin, Call, Event, Fault, FaultBatch, FolioSizes, Folios, Fork, Mapping, MappingKind,
    Mappings, Measuring, Op, Populated, Rollup, Sample, Taken, VmFlags,
};
use crate::ledger::lazy::Lazy;
use crate::ledger::rules::Rules;
use crate::ledger::totals::{Basis, FaultClass, ReleaseTotals, Released, Totals};
use crate::ledger::{Classified, Ledger, Stretch};

pub const PAGE: u64 = 4096;
/// Where the tests map.
pub const BASE: u64 = 0x7000_0000_0000;
pub const PID: u32 = 10;
/// What [`Scene::fork`] makes.
pub const CHILD: u32 = 20;

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
        flags: VmFlags::default(),
        name: None,
    }
}

impl Scene {
    /// A process that was just exec'd, without folios larger than a page.
    pub fn new() -> Self {
        Self::with(Rules::default())
    }

    fn with(rules: Rules) -> Self {
        let mut scene = Self {
            ledger: Ledger::of(rules),
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

    /// The same, once its mappings were read: there are none.
    pub fn known() -> Self {
        Self::known_with(Rules::default())
    }

    /// The same on a kernel of these rules.
    pub fn known_with(rules: Rules) -> Self {
        let mut scene = Self::with(rules);
        scene.apply(Event::Mappings(Mappings {
            at_ns: 0,
            until_ns: 0,
            pid: PID,
            fresh: true,
            heap_end: None,
            whole: false,
            list: Vec::new(),
        }));
        scene
    }

    pub fn base_pages_only(&mut self, pid: u32) {
        self.folios(pid, PAGE);
    }

    pub fn folios(&mut self, pid: u32, any_bytes: u64) {
        self.apply(Event::Folios(Folios {
            any: FolioSizes::one(any_bytes),
            advised: FolioSizes::one(2 << 20),
            ..Folios::base_pages(self.now, pid)
        }));
    }

    /// Takes an event in; of a batch of faults, returns what the first was.
    pub fn apply(&mut self, event: Event) -> Option<Classified> {
        let mut first = None;
        match &event {
            Event::Faults(batch) => {
                let mut tell = |faults: &Stretch<'_>| {
                    first.get_or_insert(faults.was);
                };
                self.ledger.faults(batch, Some(&mut tell));
            }
            _ => self.ledger.apply(&event),
        }
        first
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
            until_ns: at_ns,
            pid: PID,
            fresh: false,
            heap_end: None,
            whole: false,
            list,
        }));
    }

    pub fn call(&mut self, op: Op, ret: i64) -> Arc<Call> {
        self.call_of(PID, op, ret)
    }

    pub fn call_of(&mut self, pid: u32, op: Op, ret: i64) -> Arc<Call> {
        let enter_ns = self.tick();
        let exit_ns = self.tick();
        Arc::new(Call {
            pid,
            tid: if pid == PID { self.tid } else { pid },
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
        self.touch_by(n, access, present, false)
    }

    pub fn touch_by(
        &mut self,
        n: u64,
        access: Access,
        present: bool,
        by_kernel: bool,
    ) -> Classified {
        let at_ns = self.tick();
        let (pid, tid) = (PID, self.tid);
        self.apply(Event::Faults(FaultBatch::of(&Fault {
            at_ns,
            pid,
            tid,
            addr: page(n),
            present,
            access,
            by_kernel,
        })))
        .expect("the process is known")
    }

    /// A write by the child: why it faulted.
    pub fn child_write(&mut self, n: u64, present: bool) -> FaultClass {
        let at_ns = self.tick();
        self.apply(Event::Faults(FaultBatch::of(&Fault {
            at_ns,
            pid: CHILD,
            tid: CHILD,
            addr: page(n),
            present,
            access: Access::Write,
            by_kernel: false,
        })))
        .expect("the child is known")
        .class
    }

    /// From here on the kernel's count tells the bytes.
    pub fn measure(&mut self) {
        let at_ns = self.tick();
        self.apply(Event::Measuring(Measuring { at_ns, pid: PID }));
    }

    pub fn populated(&mut self, pages: u64, in_user_fault: bool) {
        let at_ns = self.tick();
        self.apply(Event::Populated(Populated {
            at_ns,
            pid: PID,
            tid: self.tid,
            bytes: pages * PAGE,
            in_user_fault,
        }));
    }

    /// A call by which, as the kernel counted, so many pages went.
    pub fn done_measured(&mut self, op: Op, ret: Option<i64>, pages: u64) {
        let mut call = self.call(op, 0);
        let known = Arc::get_mut(&mut call).expect("nobody else has it");
        known.ret = ret;
        known.released_bytes = Some(pages * PAGE);
        self.enter(&call);
        self.leave(&call);
    }

    pub fn fork(&mut self) {
        let at_ns = self.tick();
        self.apply(Event::Fork(Fork {
            at_ns,
            parent_pid: PID,
            pid: CHILD,
            shares_vm: false,
            followed: true,
        }));
    }

    /// A look at smaps_rollup that showed so many pages lazily free.
    pub fn look(&mut self, pid: u32, lazy_pages: u64) {
        let at_ns = self.tick();
        self.apply(Event::Sample(Box::new(Sample {
            at_ns,
            pid,
            rss_bytes: 100 * PAGE,
            virtual_bytes: None,
            rollup: Some(Rollup {
                at_ns,
                rss_bytes: 100 * PAGE,
                anonymous_bytes: 100 * PAGE,
                lazyfree_bytes: lazy_pages * PAGE,
                ..Rollup::default()
            }),
            cgroup: None,
        })));
    }

    /// The kernel has taken so many lazily free pages by now.
    pub fn taken(&mut self, pages: u64) {
        let at_ns = self.tick();
        self.apply(Event::Taken(Taken {
            at_ns,
            pid: PID,
            dropped_bytes: pages * PAGE,
            ..Taken::default()
        }));
    }

    pub fn lazy(&self) -> Lazy {
        self.ledger.mms()[0].lazy()
    }

    /// Marked, dropped and outstanding, in pages.
    pub fn lazy_pages(&self) -> (u64, u64, u64) {
        let lazy = self.lazy();
        let pages = |bytes: u64| bytes / PAGE;
        (
            pages(lazy.marked_bytes),
            pages(lazy.dropped_bytes),
            pages(lazy.outstanding_bytes),
        )
    }

    /// Writes of which nobody is told what they were.
    pub fn write_older(&mut self, first: u64, pages: u64) {
        for n in first..first + pages {
            let at_ns = self.tick();
            self.apply(Event::Faults(FaultBatch::of(&Fault {
                at_ns,
                pid: PID,
                tid: self.tid,
                addr: page(n),
                present: false,
                access: Access::Write,
                by_kernel: false,
            })));
        }
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

/// So many pages released at the most, known that way.
pub fn released(pages: u64, basis: Basis) -> Option<(u64, Basis)> {
    Some((pages, basis))
}

/// The same of what the ledger says.
pub fn in_pages(released: Released) -> (u64, Basis) {
    (released.bytes / PAGE, released.basis)
}

/// mremap; pages from `from` to `to`.
pub fn mremap(from: (u64, u64), to: (u64, u64), flags: u32) -> Op {
    Op::Mremap {
        addr: page(from.0),
        old_len: from.1 * PAGE,
        new_len: to.1 * PAGE,
        flags,
        new_addr: page(to.0),
    }
}

pub fn munmap(first: u64, pages: u64) -> Op {
    Op::Munmap {
        addr: page(first),
        len: pages * PAGE,
    }
}

pub fn madvise(advice: Advice, first: u64, pages: u64) -> Op {
    Op::Madvise {
        advice,
        addr: page(first),
        len: pages * PAGE,
    }
}
