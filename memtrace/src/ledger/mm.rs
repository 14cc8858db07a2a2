//! The ledger of one address space: applies calls and faults to it and keeps its totals.

use std::ops::Range;

use super::advice::Advice;
use super::applied::{self, Applied, page_range};
use super::classify::{Classified, classify};
use super::event::{Call, Fault, Folios, Mapping, MappingKind, Mappings, Op, Sample};
use super::pages::{Page, Release, Source};
use super::space::{FolioBytes, Lifted, Space, Vma};
use super::totals::{ReleaseTotals, RssHistory, Totals};

const MAP_TYPE: u32 = 0x0f;
const MAP_PRIVATE: u32 = 0x02;
const MAP_FIXED: u32 = 0x10;
const MAP_ANONYMOUS: u32 = 0x20;
const MAP_GROWSDOWN: u32 = 0x100;
const MAP_LOCKED: u32 = 0x2000;
const MAP_POPULATE: u32 = 0x8000;
const MAP_HUGETLB: u32 = 0x40000;

const MREMAP_FIXED: u32 = 2;
const MREMAP_DONTUNMAP: u32 = 4;

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
                let mapping = new_mapping(*flags, *fd, name.clone());
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

    fn mmap_over(&mut self, call: &Call, addr: u64, len: u64) {
        let Some(range) = page_range(addr, len) else {
            return;
        };
        match call.ret {
            Some(0..) => {
                let mapped = self.space.mapped_bytes(range.clone());
                if mapped > 0 {
                    let totals = &mut self.totals.unmap.map_fixed;
                    totals.calls += 1;
                    add(&mut totals.requested_bytes, mapped);
                    self.end_mappings(call, vec![range]);
                }
            }
            // Refused before anything was unmapped.
            Some(ret) if [libc::EBADF, libc::EACCES, libc::EPERM].contains(&(-ret as i32)) => {}
            // It may have unmapped before it ran out of memory, or before the file's own mmap
            // failed (mm/mmap.c:mmap_region).
            _ => self.space.make_unknown(range),
        }
    }

    fn mmap_add(&mut self, call: &Call, len: u64, flags: u32, mapping: Mapping) {
        let totals = &mut self.totals.map.mmap;
        totals.calls += 1;
        let addr = match call.ret {
            Some(ret) if !is_errno(ret) => ret as u64,
            Some(_) => {
                totals.failed += 1;
                return;
            }
            None => return,
        };
        let Some(range) = page_range(addr, len) else {
            return;
        };
        add(&mut totals.bytes, range.end - range.start);
        let hugetlb = flags & MAP_HUGETLB != 0;
        let vma = Vma {
            hugetlb,
            ..Vma::new(mapping, true)
        };
        self.space.map(range.clone(), vma);
        self.settle(call.tid, &range);
        if flags & (MAP_POPULATE | MAP_LOCKED) != 0 {
            // As much as it can get, without saying how much (mm/gup.c:__mm_populate).
            self.space.set_mapped(range, Page::Maybe);
        }
    }

    fn mremap_away(
        &mut self,
        call: &Call,
        addr: u64,
        old_len: u64,
        new_len: u64,
        flags: u32,
        new_addr: u64,
    ) {
        let (Some(old), Some(new)) = (page_range(addr, old_len), page_range(addr, new_len)) else {
            return;
        };
        let Some(ret) = call.ret.filter(|ret| !is_errno(*ret)) else {
            // It may have unmapped its target, and what it cuts off, before it failed
            // (mm/mremap.c:mremap_to).
            if flags & MREMAP_FIXED != 0 {
                if let Some(target) = page_range(new_addr, new_len) {
                    self.space.make_unknown(target);
                }
                if new.end < old.end {
                    self.space.make_unknown(new.end..old.end);
                }
            }
            return;
        };
        let mut gone = Vec::new();
        let mut kept = old.clone();
        if new.end < old.end && flags & MREMAP_DONTUNMAP == 0 {
            gone.push(new.end..old.end);
            kept.end = new.end;
        }
        if flags & MREMAP_FIXED != 0
            && let Some(target) = page_range(new_addr, new_len)
        {
            gone.extend(self.space.mapped(target));
        }
        let bytes: u64 = gone.iter().map(|range| range.end - range.start).sum();
        if bytes > 0 {
            let totals = &mut self.totals.unmap.mremap;
            totals.calls += 1;
            add(&mut totals.requested_bytes, bytes);
        }
        for range in &gone {
            self.space.unmap(range.clone());
        }
        let mut lifted = None;
        // An old length of 0 duplicates a shared mapping and moves nothing.
        if ret as u64 != addr && !kept.is_empty() {
            let carried = self.space.lift(kept.clone());
            if flags & MREMAP_DONTUNMAP != 0 {
                // The old range stays mapped, without its pages.
                for (range, vma) in &carried.vmas {
                    self.space.map(range.clone(), vma.clone());
                }
                let release = Release {
                    source: Source::DontUnmap,
                    at_ns: call.enter_ns,
                    inherited: false,
                };
                for (range, page) in &carried.pages {
                    self.space
                        .set_range(range.clone(), release.applied_to(*page));
                }
            }
            gone.push(kept);
            lifted = Some(carried);
        }
        if !gone.is_empty() {
            self.fly(call, gone, None, lifted);
        }
    }

    fn mremap_add(
        &mut self,
        call: &Call,
        addr: u64,
        old_len: u64,
        new_len: u64,
        flags: u32,
        lifted: Option<Lifted>,
    ) {
        let totals = &mut self.totals.map.mremap;
        totals.calls += 1;
        let (Some(ret), Some(old)) = (call.ret, page_range(addr, old_len)) else {
            return;
        };
        if is_errno(ret) {
            totals.failed += 1;
            return;
        }
        let to = ret as u64;
        let Some(new) = page_range(to, new_len) else {
            return;
        };
        let old_bytes = old.end - old.start;
        let new_bytes = new.end - new.start;
        let added = if flags & MREMAP_DONTUNMAP != 0 {
            new_bytes
        } else {
            new_bytes.saturating_sub(old_bytes)
        };
        add(&mut totals.bytes, added);
        // The new part is like the old mapping's end; a duplicate of a shared one, like its start.
        let like = match &lifted {
            Some(lifted) => lifted.vmas.last().map(|(_, vma)| vma.clone()),
            None => self
                .space
                .vma_at(old.end.saturating_sub(1).max(old.start))
                .cloned(),
        };
        if let Some(lifted) = &lifted {
            self.space.put_down(to, lifted);
        }
        self.settle(call.tid, &new);
        if new_bytes > old_bytes
            && let Some(vma) = like
        {
            let grown = Vma {
                traced: true,
                ..vma
            };
            self.space.map(new.start + old_bytes..new.end, grown);
        }
    }

    fn brk_shrink(&mut self, call: &Call) {
        let (Some(old), Some(new)) = (self.space.brk, call.ret.map(|ret| ret as u64)) else {
            return;
        };
        let (Some(old), Some(new_page)) = (page_up(old), page_up(new)) else {
            return;
        };
        if new_page < old {
            let totals = &mut self.totals.unmap.brk;
            totals.calls += 1;
            totals.requested_bytes += old - new_page;
            self.end_mappings(call, std::iter::once(new_page..old).collect());
        }
    }

    fn brk_grow(&mut self, call: &Call, asked: u64) {
        let Some(new) = call.ret.map(|ret| ret as u64) else {
            return;
        };
        let before = self.space.brk.replace(new);
        let totals = &mut self.totals.map.brk;
        match before {
            // A shrink is counted where it took effect, at enter.
            Some(before) if new < before => {}
            Some(before) => {
                totals.calls += 1;
                // It returns the break as it is; below the heap's start it is a question.
                totals.failed += u64::from(asked > before && new < asked);
                if let (Some(from), Some(to)) = (page_up(before), page_up(new))
                    && from < to
                {
                    totals.bytes += to - from;
                    let heap = Mapping {
                        kind: MappingKind::Heap,
                        shared: false,
                        huge_advised: false,
                        name: None,
                    };
                    self.space.map(from..to, Vma::new(heap, true));
                }
            }
            None => totals.calls += 1,
        }
    }

    fn end_mappings(&mut self, call: &Call, ranges: Vec<Range<u64>>) {
        for range in &ranges {
            self.space.unmap(range.clone());
        }
        self.fly(call, ranges, None, None);
    }

    /// An address was handed out anew, so that whoever unmaps it in another thread has done so.
    fn settle(&mut self, tid: u32, range: &Range<u64>) {
        let unmapping = |call: &&mut InFlight| call.tid != tid && call.source.is_none();
        for call in self.in_flight.iter_mut().filter(unmapping) {
            call.ranges = call
                .ranges
                .iter()
                .flat_map(|gone| {
                    let before = gone.start..gone.end.min(range.start);
                    let behind = gone.start.max(range.end)..gone.end;
                    [before, behind]
                })
                .filter(|left| !left.is_empty())
                .collect();
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

/// mmap and mremap return an address, or one of the last 4095 numbers (include/linux/err.h).
fn is_errno(ret: i64) -> bool {
    (-4095..0).contains(&ret)
}

fn page_up(addr: u64) -> Option<u64> {
    addr.checked_next_multiple_of(super::space::PAGE)
}

fn new_mapping(flags: u32, fd: i32, name: Option<std::sync::Arc<str>>) -> Mapping {
    let anonymous = flags & MAP_ANONYMOUS != 0 || fd < 0;
    Mapping {
        kind: if !anonymous {
            MappingKind::File
        } else if flags & MAP_GROWSDOWN != 0 {
            MappingKind::Stack
        } else {
            MappingKind::Anon
        },
        shared: flags & MAP_TYPE != MAP_PRIVATE,
        huge_advised: false,
        name,
    }
}
