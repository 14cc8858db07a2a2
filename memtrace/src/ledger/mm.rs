//! The ledger of one address space: applies calls and faults to it and keeps its totals.

use std::collections::HashMap;
use std::ops::Range;

use super::advice::Advice;
use super::applied::{self, Applied, page_range};
use super::classify::{Classified, classify};
use super::event::{Call, Fault, Folios, Mapping, Mappings, Op, Populated, Sample, Taken};
use super::lazy::{self, Lazy};
use super::pages::{Page, Release, Source};
use super::space::{FolioBytes, Lifted, Space, Vma};
use super::states::Found;
use super::totals::{Basis, FaultClass, ReleaseTotals, Released, RssHistory, Totals, add};

const MAP_FIXED: u32 = 0x10;
/// Threads whose last fault is remembered.
const MOST_THREADS: usize = 64 * 1024;

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
    lazy: Lazy,
    ended: bool,
    /// Traced from its first instruction.
    pub from_start: bool,
    /// True once its mappings were read: without them most faults have no class.
    pub mappings_known: bool,
    pub(super) space: Space,
    in_flight: Vec<InFlight>,
    /// With `--exact-bytes`: the last fault of each thread, whose bytes are still to come.
    measured: Option<HashMap<u32, LastFault>>,
}

/// A fault whose bytes the kernel will tell.
#[derive(Clone, Copy, Debug)]
struct LastFault {
    class: FaultClass,
    release: Option<Release>,
    /// It was the kernel's own, in a system call, and has brought nothing yet.
    by_kernel: bool,
    /// It put a copy in the place of a page: what came with it is no new memory.
    copied: bool,
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
            lazy: Lazy::default(),
            ended: false,
            from_start: false,
            mappings_known: false,
            space: Space::default(),
            in_flight: Vec::new(),
            measured: None,
        }
    }

    /// The address space of a process that has just exec'd: nothing was done to it before.
    pub(super) fn fresh(pid: u32, image: u32, comm: String, start_ns: u64) -> Self {
        let mut new = Self::new(pid, image, comm, start_ns);
        new.lazy.before_bytes = Some(0);
        new.from_start = true;
        new
    }

    /// The ledger of a forked child: its own totals over a copy of the ranges.
    pub(super) fn fork(&self, pid: u32, at_ns: u64) -> Self {
        let space = self.space.fork();
        Self {
            lazy: Lazy {
                // Of what the parent had from before its trace nobody knows what is left.
                before_bytes: match self.lazy.before_bytes {
                    Some(_) if self.lazy.before_left_bytes == 0 => Some(0),
                    _ => None,
                },
                inherited_bytes: space.lazy_bytes(),
                ..Lazy::default()
            },
            space,
            mappings_known: self.mappings_known,
            ..Self::new(pid, 0, self.comm.clone(), at_ns)
        }
    }

    /// Nobody works on it any more: only its totals are wanted now, and the ranges may be many.
    pub(super) fn end(&mut self, at_ns: u64, exit: Option<i32>) {
        self.end_ns = Some(at_ns);
        self.ended = true;
        self.exit = exit;
        self.lazy.ended_bytes = self.space.lazy_bytes();
        add(&mut self.lazy.dropped_bytes, self.lazy.ended_bytes);
        self.measured = None;
        self.space = Space::default();
        self.in_flight = Vec::new();
    }

    /// True once nobody works on it any more; not for one that was left alive.
    pub fn ended(&self) -> bool {
        self.ended
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
        // A look takes its time, and is told after samples that were taken meanwhile.
        if rss.last_at_ns.is_none_or(|last| last <= sample.at_ns) {
            rss.last_bytes = Some(sample.rss_bytes);
            rss.last_at_ns = Some(sample.at_ns);
        }
        rss.peak_bytes = rss.peak_bytes.max(Some(sample.rss_bytes));
        rss.trend.push(sample.at_ns, sample.rss_bytes);
        rss.virtual_bytes = sample.virtual_bytes.or(rss.virtual_bytes);
        if let Some(rollup) = sample.rollup {
            let lazy = &mut self.lazy;
            if rss.first_rollup.is_none() && lazy.last_marked_ns.is_none() {
                // What a child inherited is in the sum already.
                let before = rollup.lazyfree_bytes.saturating_sub(lazy.inherited_bytes);
                lazy.found_before(before);
            }
            lazy.look(&rollup);
            rss.first_rollup.get_or_insert(rollup);
            rss.last_rollup = Some(rollup);
            let effective = rollup.rss_bytes.saturating_sub(rollup.lazyfree_bytes);
            rss.effective_trend.push(sample.at_ns, effective);
            rss.rollups += 1;
        }
        if sample.cgroup.is_some() {
            rss.cgroup.clone_from(&sample.cgroup);
        }
    }

    /// The balance of MADV_FREE.
    pub fn lazy(&self) -> Lazy {
        Lazy {
            outstanding_bytes: self.space.lazy_bytes(),
            ..self.lazy
        }
    }

    /// True unless it is certain that nothing of it is lazily free.
    pub fn may_have_lazy(&self) -> bool {
        let seen = match self.rss.lazyfree_bytes() {
            Some(bytes) => bytes > 0,
            // Before the trace nobody knows what was done to it.
            None => self.lazy.before_bytes.is_none(),
        };
        seen || self.space.lazy_bytes() > 0 || self.lazy_unseen()
    }

    /// True if a look at smaps could tell something new of what is lazily free.
    pub fn lazy_may_change(&self) -> bool {
        self.rss.lazyfree_bytes().is_some_and(|bytes| bytes > 0) || self.lazy_unseen()
    }

    /// True where the last look, or the fresh start, showed nothing lazily free, and nothing was
    /// marked since.
    pub fn nothing_is_lazy(&self) -> bool {
        let known = self.rss.last_rollup.is_some() || self.lazy.before_bytes == Some(0);
        known && !self.lazy_may_change()
    }

    /// True if something was marked since the last look, or nobody ever looked.
    pub fn lazy_unseen(&self) -> bool {
        let looked_ns = self.rss.last_rollup.map(|rollup| rollup.at_ns);
        match (self.lazy.last_marked_ns, looked_ns) {
            (Some(marked), Some(looked)) => marked >= looked,
            (Some(_), None) => true,
            (None, _) => self.lazy.inherited_bytes > 0 && looked_ns.is_none(),
        }
    }

    /// Since when something may have been lazily free: from the start, where it was before.
    pub fn lazy_since_ns(&self) -> Option<u64> {
        let before = self.lazy.before_bytes != Some(0) || self.lazy.inherited_bytes > 0;
        if before {
            return Some(self.start_ns);
        }
        self.lazy.since_ns
    }

    pub(super) fn taken(&mut self, taken: &Taken) {
        // Of an image before this one, whose end was not known yet.
        if taken.begun_ns >= self.start_ns {
            self.lazy.taken = Some(*taken);
        }
    }

    /// Begins to take bytes from the kernel's count.
    pub(super) fn measure(&mut self) {
        self.measured.get_or_insert_default();
        self.totals.unfaulted_bytes.get_or_insert(0);
    }

    /// Adds what a fault brought, or notes that it came without one.
    pub(super) fn populated(&mut self, event: &Populated) {
        let Some(faults) = &mut self.measured else {
            return;
        };
        let fault = faults
            .get_mut(&event.tid)
            .filter(|fault| event.in_user_fault != fault.by_kernel);
        let Some(fault) = fault else {
            add(self.totals.unfaulted_bytes.get_or_insert(0), event.bytes);
            return;
        };
        let last = *fault;
        // What else a system call brings afterwards is no fault's.
        if fault.by_kernel {
            faults.remove(&event.tid);
        }
        if last.copied {
            return;
        }
        let class = self.totals.faults.class_mut(last.class);
        add(&mut class.bytes, event.bytes);
        self.refaulted(last.release, event.bytes);
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
        if let Some(faults) = &mut self.measured {
            let last = LastFault {
                class: was.class,
                release: was.release,
                by_kernel: fault.by_kernel,
                // A copy replaces a page and adds none: what it is known by stays.
                copied: was.class == FaultClass::Cow,
            };
            if !last.copied {
                was.bytes = 0;
                was.basis = Basis::Measured;
            }
            // Threads come and go; the oldest faults have had their bytes.
            if faults.len() >= MOST_THREADS {
                faults.clear();
            }
            faults.insert(fault.tid, last);
        }
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
        add(&mut class.bytes, was.bytes);
        class.basis = class.basis.max(was.basis);
        let new = u64::from(!was.zero_page_write);
        class.faults += new;
        faults.zero_page_writes += 1 - new;
        if let Some(Release {
            source: Source::Advice(advice),
            at_ns,
            ..
        }) = was.release
        {
            let totals = self.totals.of_advice(advice);
            totals.refaults += new;
            if !was.zero_page_write {
                totals.ages.record(fault.at_ns.saturating_sub(at_ns));
            }
        }
        self.refaulted(was.release, was.bytes);
    }

    /// Counts bytes that came back after they were given back.
    fn refaulted(&mut self, release: Option<Release>, bytes: u64) {
        if let Some(Release {
            source: Source::Advice(advice),
            inherited,
            ..
        }) = release
        {
            let totals = self.totals.of_advice(advice);
            add(&mut totals.refaulted_bytes, bytes);
            if inherited {
                add(&mut totals.inherited_refaulted_bytes, bytes);
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
                let hidden = range.is_none() && call.ret.is_none_or(|ret| ret > 0);
                if hidden && advice.give_back().is_some() && self.counted(call).is_none() {
                    self.totals.of_advice(advice).count_released(None);
                }
            }
            Op::Munmap { addr, len } => {
                let done = call.ret == Some(0);
                let refused = call.ret.is_some_and(|ret| ret < 0);
                let totals = &mut self.totals.unmap.munmap;
                totals.calls += 1;
                totals.failed += u64::from(refused);
                if refused {
                    totals.count_released(Some(lazy::dropped(Found::default())));
                } else if let Some(range) = page_range(*addr, *len) {
                    if done {
                        add(&mut totals.requested_bytes, range.end - range.start);
                        let found = self.end_mappings(call, vec![range]);
                        let released = self.released(call, found);
                        self.totals.unmap.munmap.count_released(released);
                    } else if call.ret.is_none() {
                        let released = self.counted(call);
                        self.totals.unmap.munmap.count_released(released);
                        self.lose(range);
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

    /// What a call released that drops pages at once: counted by the kernel, or what is known of
    /// the pages; None where the mappings are not known.
    pub(super) fn released(&self, call: &Call, found: Found) -> Option<Released> {
        self.counted(call)
            .or_else(|| self.mappings_known.then(|| lazy::dropped(found)))
    }

    /// What a call released, as the kernel counted it; None where nobody asked it to.
    pub(super) fn counted(&self, call: &Call) -> Option<Released> {
        let bytes = call.released_bytes.filter(|_| self.measured.is_some())?;
        Some(Released {
            bytes,
            basis: Basis::Measured,
        })
    }

    /// A call was applied to `range` in part or not at all, and nothing tells which; says what
    /// it may have taken.
    pub(super) fn lose(&mut self, range: Range<u64>) -> Found {
        let found = self.space.make_unknown(range);
        self.lazy.drop(found);
        found
    }

    /// Maps `range` anew. Whoever ended what was there was not seen to.
    pub(super) fn map_anew(&mut self, range: Range<u64>, vma: Vma) {
        let found = self.space.map(range, vma);
        self.lazy.drop(found);
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
        // A call that did nothing released nothing, whatever is known of the mappings.
        let known = self.mappings_known || applied.ranges.is_empty();
        let mut found = Found::default();
        for range in &applied.ranges {
            found += self.space.release(range.clone(), release);
        }
        let mut ranges = applied.ranges;
        let released = if advice == Advice::FREE {
            // What this call marked is in the sum already.
            if self.space.lazy_bytes() == found.populated + found.perhaps {
                self.lazy.since_ns = None;
            }
            self.lazy.mark(found, call.enter_ns, call.exit_ns);
            known.then(|| lazy::marked(found))
        } else if source.is_zap() {
            self.lazy.drop(found);
            self.counted(call)
                .or_else(|| known.then(|| lazy::dropped(found)))
        } else {
            // Offered to the kernel; what it takes is not known by the call.
            None
        };
        // What went of an unknown part is not known either, unless the kernel counted it.
        let released = match applied.unknown {
            Some(_) if source.is_zap() => self.counted(call),
            Some(_) => None,
            None => released,
        };
        self.totals.of_advice(advice).count_released(released);
        if let Some(unknown) = applied.unknown {
            self.lose(unknown.clone());
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
            self.space.perhaps_filled(unknown.clone());
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
                // They populate without a fault (mm/gup.c:faultin_page_range), with the zero page
                // where nothing is read.
                Advice::POPULATE_READ => self.space.read_in(range),
                Advice::POPULATE_WRITE => self.space.set_mapped(range, Page::POPULATED),
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
