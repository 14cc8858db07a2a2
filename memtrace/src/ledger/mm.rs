//! The ledger of one address space: applies calls and faults to it and keeps its totals.

use std::ops::Range;

use super::advice::Advice;
use super::applied::{self, Applied, page_range};
use super::classify::{Classified, classify};
use super::event::{Call, Fault, Folios, Mapping, Mappings, Op, Sample};
use super::pages::{Page, Release, Source};
use super::space::{FolioBytes, Lifted, Space, Vma};
use super::totals::{ReleaseTotals, RssHistory, Totals};

const MAP_FIXED: u32 = 0x10;

mod remap;

/// A call that takes memory away and has not come back.
#[derive(Clone, Debug)]
struct InFlight {
    tid: u32,
    ranges: Vec<Range<u64>>,
    /// None: it ends mappings.
    source: Option<Source>,
    /// What mremap carries to its new place.
    lifted: Option<Lifted>,
}

/// What is known of one address space.
#[derive(Clone, Debug)]
pub struct Mm {
    /// Its first owner.
    pub pid: u32,
    pub image: u32,
    pub comm: String,
    pub start_ns: u64,
    pub end_ns: Option<u64>,
    pub exit: Option<i32>,
    pub totals: Totals,
    pub rss: RssHistory,
    /// True once its mappings were read: without them most faults have no class.
    pub mappings_known: bool,
    pub(super) space: Space,
    in_flight: Vec<InFlight>,
}

impl Mm {
    pub(super) fn new(pid: u32, image: u32, comm: String, start_ns: u64) -> Self {
        Self {
            pid,
            image,
            comm,
            start_ns,
            end_ns: None,
            exit: None,
            totals: Totals::default(),
            rss: RssHistory::default(),
            mappings_known: false,
            space: Space::default(),
            in_flight: Vec::new(),
        }
    }

    /// The ledger of a forked child: its own totals over a copy of the ranges.
    pub(super) fn fork(&self, pid: u32, at_ns: u64) -> Self {
        Self {
            space: self.space.fork(),
            mappings_known: self.mappings_known,
            ..Self::new(pid, 0, self.comm.clone(), at_ns)
        }
    }

    /// Nobody works on it any more: only its totals are wanted now, and the ranges may be many.
    pub(super) fn end(&mut self, at_ns: u64, exit: Option<i32>) {
        self.end_ns = Some(at_ns);
        self.exit = exit;
        self.space = Space::default();
        self.in_flight = Vec::new();
    }

    /// The mapping at `addr`.
    pub fn mapping_at(&self, addr: u64) -> Option<&Mapping> {
        self.space.vma_at(addr).map(|vma| &vma.mapping)
    }

    /// The program break, where known.
    pub fn brk(&self) -> Option<u64> {
        self.space.brk
    }

    pub(super) fn mappings(&mut self, event: &Mappings) {
        self.mappings_known = true;
        for (range, mapping) in &event.list {
            self.space
                .learn(range.clone(), &Vma::new(mapping.clone(), event.fresh));
        }
        self.space.brk = self.space.brk.or(event.heap_end);
    }

    pub(super) fn folios(&mut self, event: &Folios) {
        self.space.folios = FolioBytes {
            any: event.any_bytes,
            advised: event.advised_bytes,
        };
    }

    pub(super) fn sample(&mut self, sample: &Sample) {
        let rss = &mut self.rss;
        rss.start_bytes.get_or_insert(sample.rss_bytes);
        rss.last_bytes = Some(sample.rss_bytes);
        rss.last_at_ns = Some(sample.at_ns);
        rss.peak_bytes = rss.peak_bytes.max(Some(sample.rss_bytes));
        if let Some(lazy) = sample.lazyfree {
            rss.lazyfree_bytes = Some(lazy.lazyfree_bytes);
            rss.effective_bytes = Some(lazy.rss_bytes.saturating_sub(lazy.lazyfree_bytes));
            rss.lazyfree_at_ns = Some(sample.at_ns);
        }
    }

    pub(super) fn fault(&mut self, fault: &Fault) -> Classified {
        self.space.grow_stack(fault.addr);
        let mut sources = Vec::new();
        let mut unmapping = false;
        for call in self.in_flight.iter().filter(|call| call.tid != fault.tid) {
            if call.ranges.iter().any(|range| range.contains(&fault.addr)) {
                match call.source {
                    Some(source) => sources.push(source),
                    None => unmapping = true,
                }
            }
        }
        let mut was = classify(&self.space, fault, &sources);
        // Whether it hit the old mapping or the new one can't be told.
        was.ambiguous |= unmapping;
        self.count(fault, &was);
        if let Some(page) = was.after {
            // A fault where nothing is mapped ends in a signal and populates nothing.
            if self.space.may_be_mapped(fault.addr, self.mappings_known) {
                self.space.set_page(fault.addr, page);
            }
            if !fault.present {
                let reach = self.space.reach(fault.addr);
                self.space.perhaps_populated(reach);
            }
        }
        was
    }

    fn count(&mut self, fault: &Fault, was: &Classified) {
        let faults = &mut self.totals.faults;
        faults.total += 1;
        faults.ambiguous += u64::from(was.ambiguous);
        let class = faults.class_mut(was.class);
        class.bytes += was.bytes;
        class.basis = class.basis.max(was.basis);
        let new = u64::from(!was.zero_page_write);
        class.faults += new;
        faults.zero_page_writes += 1 - new;
        if let Some(Release {
            source: Source::Advice(advice),
            at_ns,
            inherited,
        }) = was.release
        {
            let totals = self.totals.of_advice(advice);
            totals.refaults += new;
            totals.refaulted_bytes += was.bytes;
            if inherited {
                totals.inherited_refaulted_bytes += was.bytes;
            }
            if !was.zero_page_write {
                totals.ages.record(fault.at_ns.saturating_sub(at_ns));
            }
        }
    }

    /// The call enters: what it takes away is gone from here on.
    pub(super) fn enter(&mut self, call: &Call) {
        if call.ret.is_some_and(applied::is_restart) {
            return;
        }
        match &call.op {
            &Op::Madvise { advice, addr, len } => {
                let applied = applied::madvise(&self.space, advice, addr, len, call.ret);
                self.give_back(call, advice, applied, true);
            }
            &Op::ProcessMadvise {
                advice,
                range,
                index,
                before_bytes,
                ..
            } => {
                let applied = match range {
                    Some(range) => {
                        applied::process_madvise(&self.space, advice, range, before_bytes, call.ret)
                    }
                    None => Applied::default(),
                };
                self.give_back(call, advice, applied, index == 0);
            }
            Op::Munmap { addr, len } => {
                let done = call.ret == Some(0);
                let totals = &mut self.totals.unmap.munmap;
                totals.calls += 1;
                totals.failed += u64::from(call.ret.is_some_and(|ret| ret < 0));
                if let Some(range) = page_range(*addr, *len) {
                    if done {
                        add(&mut totals.requested_bytes, range.end - range.start);
                        self.end_mappings(call, vec![range]);
                    } else if call.ret.is_none() {
                        self.space.make_unknown(range);
                    }
                }
            }
            &Op::Mmap {
                addr, len, flags, ..
            } if flags & MAP_FIXED != 0 => self.mmap_over(call, addr, len),
            &Op::Mremap {
                addr,
                old_len,
                new_len,
                flags,
                new_addr,
            } => self.mremap_away(call, addr, old_len, new_len, flags, new_addr),
            Op::Brk { .. } => self.brk_shrink(call),
            _ => {}
        }
    }

    /// The call comes back: what it adds is there from here on.
    pub(super) fn leave(&mut self, call: &Call) {
        let mut lifted = None;
        if let Some(at) = self.in_flight.iter().position(|c| c.tid == call.tid) {
            lifted = self.in_flight.swap_remove(at).lifted;
        }
        if call.ret.is_some_and(applied::is_restart) {
            return;
        }
        match &call.op {
            Op::Mmap {
                len,
                flags,
                fd,
                name,
                ..
            } => {
                let mapping = remap::new_mapping(*flags, *fd, name.clone());
                self.mmap_add(call, *len, *flags, mapping);
            }
            &Op::Mremap {
                addr,
                old_len,
                new_len,
                flags,
                ..
            } => self.mremap_add(call, addr, old_len, new_len, flags, lifted),
            Op::Brk { addr } => self.brk_grow(call, *addr),
            &Op::Madvise { advice, addr, len } if advice.give_back().is_none() => {
                let applied = applied::madvise(&self.space, advice, addr, len, call.ret);
                self.advise(advice, &applied);
                self.count_advice(advice, &applied, true);
            }
            &Op::ProcessMadvise {
                advice,
                range,
                index,
                before_bytes,
                ..
            } if advice.give_back().is_none() => {
                let applied = match range {
                    Some(range) => {
                        applied::process_madvise(&self.space, advice, range, before_bytes, call.ret)
                    }
                    None => Applied::default(),
                };
                self.advise(advice, &applied);
                self.count_advice(advice, &applied, index == 0);
            }
            // Before the mappings were read: they show what it did.
            Op::Unseen { .. } if !self.mappings_known => {}
            Op::Unseen { .. } => self.totals.unseen_calls += 1,
            _ => {}
        }
    }

    fn count_advice(&mut self, advice: Advice, applied: &Applied, first_range: bool) {
        let totals = self.totals.of_advice(advice);
        count_call(totals, applied, first_range);
    }

    fn give_back(&mut self, call: &Call, advice: Advice, applied: Applied, first_range: bool) {
        if advice.give_back().is_none() {
            return;
        }
        self.count_advice(advice, &applied, first_range);
        let source = Source::Advice(advice);
        let release = Release {
            source,
            at_ns: call.enter_ns,
            inherited: false,
        };
        for range in &applied.ranges {
            self.space.release(range.clone(), release);
        }
        let mut ranges = applied.ranges;
        if let Some(unknown) = applied.unknown {
            self.space.make_unknown(unknown.clone());
            ranges.push(unknown);
        }
        self.fly(call, ranges, Some(source), None);
    }

    /// Advice that gives nothing back but changes what later faults mean.
    fn advise(&mut self, advice: Advice, applied: &Applied) {
        let populates = matches!(
            advice,
            Advice::POPULATE_READ | Advice::POPULATE_WRITE | Advice::COLLAPSE
        );
        if let Some(unknown) = &applied.unknown
            && populates
        {
            self.space.set_mapped(unknown.clone(), Page::Unknown);
        }
        for range in applied.ranges.iter().cloned() {
            match advice {
                Advice::HUGEPAGE => self
                    .space
                    .change_vmas(range, |vma| vma.mapping.huge_advised = true),
                Advice::NOHUGEPAGE => self
                    .space
                    .change_vmas(range, |vma| vma.mapping.huge_advised = false),
                Advice::DONTFORK => self.space.change_vmas(range, |vma| vma.dont_fork = true),
                Advice::DOFORK => self.space.change_vmas(range, |vma| vma.dont_fork = false),
                Advice::WIPEONFORK => self.space.change_vmas(range, |vma| vma.wipe_on_fork = true),
                Advice::KEEPONFORK => self
                    .space
                    .change_vmas(range, |vma| vma.wipe_on_fork = false),
                // They populate without a fault (mm/gup.c:faultin_page_range).
                Advice::POPULATE_READ | Advice::POPULATE_WRITE => {
                    self.space.set_mapped(range, Page::POPULATED);
                }
                // Only whole aligned huge pages are collapsed (mm/khugepaged.c:madvise_collapse).
                Advice::COLLAPSE => {
                    let huge = 2 << 20;
                    let start = range.start.next_multiple_of(huge);
                    let end = range.end - range.end % huge;
                    if start < end {
                        self.space.set_mapped(start..end, Page::POPULATED);
                    }
                }
                _ => {}
            }
        }
    }

    /// Remembers the call until it leaves, for the faults that other threads take meanwhile.
    fn fly(
        &mut self,
        call: &Call,
        ranges: Vec<Range<u64>>,
        source: Option<Source>,
        lifted: Option<Lifted>,
    ) {
        // The ranges of one process_madvise are one call in flight.
        match self.in_flight.iter_mut().find(|c| c.tid == call.tid) {
            Some(flying) if flying.source == source => flying.ranges.extend(ranges),
            _ => self.in_flight.push(InFlight {
                tid: call.tid,
                ranges,
                source,
                lifted,
            }),
        }
    }
}

fn count_call(totals: &mut ReleaseTotals, applied: &Applied, first_range: bool) {
    if first_range {
        totals.calls += 1;
        totals.failed += u64::from(applied.failed);
    }
    totals.partial += u64::from(applied.partial);
    add(&mut totals.requested_bytes, applied.bytes());
}

/// A sum of requests can pass 2^64: a loop over 64 TiB of nothing does it in seconds.
fn add(sum: &mut u64, bytes: u64) {
    *sum = sum.saturating_add(bytes);
}
