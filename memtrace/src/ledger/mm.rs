//! The ledger of one address space: applies calls and faults to it and keeps its totals.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::advice::Advice;
use super::applied::{self, Applied, page_range};
use super::event::{Call, Folios, Mapping, Mappings, Op};
use super::lazy::{self, Lazy};
use super::pages::{Release, Source};
use super::rules::Rules;
use super::space::{Lifted, PAGE, Space};
use super::states::Found;
use super::totals::{FaultClass, ReleaseTotals, RssHistory, Totals, add};
use super::vma::Vma;

const MAP_FIXED: u32 = 0x10;

mod advice;
mod faults;
mod gap;
mod measured;
mod remap;
mod samples;

/// A call that takes memory away and has not come back.
#[derive(Clone, Debug)]
struct InFlight {
    tid: u32,
    ranges: Vec<Range<u64>>,
    /// None: it ends mappings.
    source: Option<Source>,
    /// What mremap carries to its new place.
    lifted: Option<Lifted>,
    enter_ns: u64,
    exit_ns: u64,
}

/// What is known of one address space.
#[derive(Clone, Debug)]
pub struct Mm {
    /// Its first owner.
    pub pid: u32,
    pub image: u32,
    /// The how manieth address space of the run it is.
    pub serial: u64,
    pub comm: String,
    /// The path of its executable, where it could be read in time.
    pub exe: Option<Arc<str>>,
    /// The last address space, so far, of a process that was named or launched.
    pub named: bool,
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
    /// Until then there was more mapped, perhaps, than the list of mappings shows.
    settled_ns: u64,
    pub(super) space: Space,
    pub(super) rules: Rules,
    /// A call failed that may have changed the mappings first.
    pub(super) mappings_unsure: bool,
    in_flight: Vec<InFlight>,
    /// The last fault, if it may have brought a larger folio.
    open: Option<Open>,
    /// With `--exact-bytes`: the last fault of each thread, whose bytes are still to come.
    measured: Option<HashMap<u32, LastFault>>,
}

/// A fault that may have brought all of a block. If its thread's next one is on another page of
/// the block, it has not.
#[derive(Clone, Debug)]
struct Open {
    tid: u32,
    at_ns: u64,
    /// Its own page.
    addr: u64,
    block: Range<u64>,
    class: FaultClass,
    release: Option<Release>,
    derived: bool,
    /// As it was counted, in bytes: the least, and how much more it may be.
    loose: u64,
    extra: u64,
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
            serial: 0,
            comm,
            exe: None,
            named: false,
            start_ns,
            end_ns: None,
            exit: None,
            totals: Totals::default(),
            rss: RssHistory::default(),
            lazy: Lazy::default(),
            ended: false,
            from_start: false,
            mappings_known: false,
            settled_ns: 0,
            space: Space::default(),
            rules: Rules::default(),
            mappings_unsure: false,
            in_flight: Vec::new(),
            open: None,
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

    /// MADV_GUARD_INSTALL is back: until then, a page may still come there.
    fn guard(&mut self, applied: Applied) {
        for range in applied.ranges {
            self.space.guard(range);
        }
    }

    /// The ledger of a forked child: its own totals over a copy of the ranges.
    pub(super) fn fork(&self, pid: u32, at_ns: u64) -> Self {
        let space = self.space.fork();
        Self {
            lazy: Lazy {
                // Of what the parent had from before its trace nobody knows what is left.
                before_bytes: match self.lazy.before_bytes {
                    Some(_) if self.lazy.unplaced_bytes == 0 => Some(0),
                    _ => None,
                },
                inherited_bytes: space.lazy_bytes(),
                droppable: self.lazy.droppable,
                zeroes: self.lazy.zeroes,
                ..Lazy::default()
            },
            space,
            exe: self.exe.clone(),
            mappings_known: self.mappings_known,
            settled_ns: self.settled_ns,
            ..Self::new(pid, 0, self.comm.clone(), at_ns)
        }
    }

    /// Nobody works on it any more: only its totals are wanted now, and the ranges may be many.
    pub(super) fn end(&mut self, at_ns: u64, exit: Option<i32>) {
        self.end_ns = Some(at_ns);
        self.ended = true;
        self.exit = exit;
        self.lazy.ended_bytes = self.space.lazy_bytes();
        add(&mut self.lazy.ended_bytes, self.lazy.unplaced_bytes);
        add(&mut self.lazy.dropped_bytes, self.lazy.ended_bytes);
        self.measured = None;
        self.space = Space::default();
        self.in_flight = Vec::new();
    }

    /// True once nobody works on it any more; not for one that was left alive.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// True where faults came, and the mappings that they fell on were never read.
    pub fn mappings_missed(&self) -> bool {
        !self.mappings_known && self.totals.faults.total > 0
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
        self.settled_ns = event.until_ns;
        self.space.mappings_lost = false;
        if event.whole {
            self.space.forget_outside(&event.list);
        }
        for (range, mapping) in &event.list {
            self.space
                .learn(range.clone(), &Vma::new(mapping.clone(), event.fresh));
        }
        self.space.brk = self.space.brk.or(event.heap_end);
    }

    /// There may be mappings that are not known, until they are read again.
    fn doubt_mappings(&mut self) {
        self.mappings_unsure = true;
        self.settled_ns = u64::MAX;
    }

    pub(super) fn folios(&mut self, event: &Folios) {
        self.space.set_folios(*event);
    }

    /// The call enters: what it takes away is gone from here on.
    pub(super) fn enter(&mut self, call: &Call) {
        if call.ret.is_some_and(applied::is_restart) {
            return;
        }
        self.open = None;
        // What a call populates is not the last fault's, which the kernel took in another call.
        if let Some(faults) = &mut self.measured
            && faults.get(&call.tid).is_some_and(|last| last.by_kernel)
        {
            faults.remove(&call.tid);
        }
        if call.enter_ns < self.settled_ns
            && let Some(range) = named(&call.op)
        {
            self.space.perhaps_mapped(range);
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
            } if flags & MAP_FIXED != 0 => self.mmap_over(call, addr, len, flags),
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
                prot,
                flags,
                fd,
                name,
                ..
            } => {
                let mapping = remap::new_mapping(*flags, *fd, name.clone());
                self.mmap_add(call, *len, *prot, *flags, mapping);
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
                self.count_advice(call, advice, &applied, true);
            }
            &Op::Madvise { advice, addr, len } if advice == Advice::GUARD_INSTALL => {
                let applied = applied::madvise(&self.space, advice, addr, len, call.ret);
                self.guard(applied);
            }
            &Op::ProcessMadvise {
                advice,
                range: Some(range),
                before_bytes,
                ..
            } if advice == Advice::GUARD_INSTALL => {
                let applied =
                    applied::process_madvise(&self.space, advice, range, before_bytes, call.ret);
                self.guard(applied);
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
                self.count_advice(call, advice, &applied, index == 0);
            }
            // Before the mappings were read: they show what it did.
            Op::Unseen { .. } if !self.mappings_known => {}
            Op::Unseen { .. } => self.totals.unseen_calls += 1,
            _ => {}
        }
    }

    /// A call comes back that was under way when the trace began: the mappings that were read may show
    /// what it did, or not yet. What it took counts as nothing.
    pub(super) fn leave_late(&mut self, call: &Call) {
        let done = call.ret.is_some_and(|ret| !(-4095..0).contains(&ret));
        match call.op {
            Op::Munmap { addr, len } if done => {
                if let Some(range) = page_range(addr, len) {
                    let found = self.space.unmap(range);
                    self.lazy.drop(found);
                }
            }
            Op::Mremap {
                addr,
                old_len,
                new_len,
                ..
            } if done => {
                let to = page_range(call.ret.unwrap_or(0) as u64, new_len);
                for range in page_range(addr, old_len).into_iter().chain(to) {
                    self.lose(range);
                }
                self.doubt_mappings();
            }
            Op::Brk { .. } => {
                if let (Some(brk), Some(ret)) = (self.space.brk, call.ret)
                    && let (Some(old), Some(new)) = (
                        brk.checked_next_multiple_of(PAGE),
                        (ret as u64).checked_next_multiple_of(PAGE),
                    )
                    && new < old
                {
                    let found = self.space.unmap(new..old);
                    self.lazy.drop(found);
                }
                self.leave(call);
            }
            _ => self.leave(call),
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
                enter_ns: call.enter_ns,
                exit_ns: call.exit_ns,
            }),
        }
    }
}

/// The range that a call takes memory from.
fn named(op: &Op) -> Option<Range<u64>> {
    match *op {
        Op::Madvise { addr, len, .. } | Op::Munmap { addr, len } | Op::Mmap { addr, len, .. } => {
            page_range(addr, len)
        }
        Op::ProcessMadvise { range, .. } => range.and_then(|(addr, len)| page_range(addr, len)),
        Op::Mremap { addr, old_len, .. } => page_range(addr, old_len),
        Op::Brk { .. } | Op::Unseen { .. } => None,
    }
}

fn count_call(totals: &mut ReleaseTotals, call: &Call, applied: &Applied, first_range: bool) {
    if first_range {
        totals.calls += 1;
        totals.failed += u64::from(call.ret.is_some_and(|ret| ret < 0));
    }
    totals.partial += u64::from(applied.partial);
    add(&mut totals.requested_bytes, applied.bytes());
}
