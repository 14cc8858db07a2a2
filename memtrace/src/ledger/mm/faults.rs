//! Faults: what each was, what it counts as, and what it leaves behind.

use std::ops::Range;

use super::super::classify::{Classified, classify};
use super::super::event::{Access, FaultBatch, Gap};
use super::super::fault_totals::Brought;
use super::super::faults::Entry;
use super::super::ground::Ground;
use super::super::pages::{Page, Release, Source};
use super::super::space::{PAGE, PMD};
use super::super::stretch::{Stretch, Tell};
use super::super::totals::FaultClass;
use super::{InFlight, LastFault, Mm, Open, add};

/// Threads whose last fault is remembered.
const MOST_THREADS: usize = 64 * 1024;

/// A fault that comes later proves nothing of one before: the page may have gone in between.
const SETTLED_WITHIN_NS: u64 = 1_000_000_000;

/// The give-backs of other threads that are in flight over a page.
#[derive(Default)]
struct Overlaps {
    sources: Vec<Source>,
    /// One of them ends the mapping.
    unmapping: bool,
}

impl Mm {
    /// Takes a batch in. Neighbouring pages that fault alike are one stretch: looked up, classed,
    /// counted and written down once.
    pub(in crate::ledger) fn faults(
        &mut self,
        batch: &FaultBatch,
        gap: Option<Gap>,
        mut tell: Option<Tell<'_>>,
    ) {
        self.space.warm(batch.scattered());
        let mut overlaps = Overlaps::default();
        let mut ground: Option<Ground> = None;
        let mut entries = batch.entries().peekable();
        while let Some(first) = entries.next() {
            let addr = first.addr();
            let ground = match &mut ground {
                Some(known) if known.range.contains(&addr) => known,
                other => other.insert(self.space.ground(addr)),
            };
            let mut end = addr.saturating_add(PAGE);
            let mut limit = ground.range.end;
            self.find_overlaps(batch, addr, &mut overlaps, &mut limit);
            let guarded;
            (guarded, limit) = self.space.guarded(addr, limit);
            let seen = if entries.peek() == Some(&first.neighbour(1)) {
                let (seen, until) = self.space.seen_until(addr, limit);
                let mut pages = 1;
                while end < until && entries.next_if_eq(&first.neighbour(pages)).is_some() {
                    pages += 1;
                    end += PAGE;
                }
                seen
            } else {
                self.space.seen(addr)
            };
            let stretch = addr..end;
            let fault = batch.fault(first);
            let mut was = match gap {
                None => {
                    let page = seen.or_else(|| ground.untouched());
                    classify(ground, page, &fault, &overlaps.sources)
                }
                // What was lost may have come before it.
                Some(gap) => {
                    let ground = if gap.calls {
                        &Ground::unmapped(addr, true)
                    } else {
                        &*ground
                    };
                    classify(ground, Some(Page::IN_DOUBT), &fault, &[])
                }
            };
            // Whether it hit the old mapping or the new one can't be told.
            was.ambiguous |= overlaps.unmapping;
            if guarded && gap.is_none() {
                was = Classified::NOTHING;
            }
            // A fault where nothing is mapped ends in a signal and populates nothing.
            let settled = batch.at_ns >= self.settled_ns;
            if !ground.mapped && seen.is_none() && self.all_known() && settled && gap.is_none() {
                was.bytes = 0;
            }
            self.lazy.zeroes |= self.rules.splitting_frees_zeroes && !ground.sizes.is_none();
            let reach = self.space.reach(
                ground,
                addr,
                first.present(),
                first.access() == Access::Write,
            );
            // Where the huge zero page was, a huge page may be now.
            let replaced =
                (first.present() && reach.end - reach.start >= PMD).then(|| reach.clone());
            let brought = self.brought(batch, ground, &stretch, first, &mut was, reach);
            self.count(batch.at_ns, (end - addr) / PAGE, &was, brought);
            let seen = seen.is_some();
            self.leave_behind(batch.at_ns, stretch.clone(), ground, seen, first, &was);
            if let Some(block) = replaced {
                self.space.zeroes_perhaps_replaced(block);
            }
            if let Some(tell) = &mut tell {
                tell(&Stretch {
                    at_ns: batch.at_ns,
                    pid: batch.pid,
                    tid: batch.tid,
                    addr,
                    pages: (end - addr) / PAGE,
                    access: first.access(),
                    was,
                    mapping: self.mapping_at(addr),
                });
            }
        }
    }

    /// Finds what runs over `addr`, and lowers `limit` to where that changes.
    fn find_overlaps(
        &self,
        batch: &FaultBatch,
        addr: u64,
        overlaps: &mut Overlaps,
        limit: &mut u64,
    ) {
        overlaps.sources.clear();
        overlaps.unmapping = false;
        let others = |call: &&InFlight| call.tid != batch.tid;
        for call in self.in_flight.iter().filter(others) {
            let mut over = false;
            for range in &call.ranges {
                over |= range.contains(&addr);
                for edge in [range.start, range.end] {
                    if addr < edge {
                        *limit = edge.min(*limit);
                    }
                }
            }
            match call.source {
                _ if !over => {}
                Some(source) => overlaps.sources.push(source),
                None => overlaps.unmapping = true,
            }
        }
    }

    /// Every mapping is known, so that what is not mapped is not there.
    pub(super) fn all_known(&self) -> bool {
        self.mappings_known && !self.space.mappings_lost
    }

    /// What a stretch of faults brought. `reach` is what the first of them may have.
    ///
    /// In a stretch each fault shows that the one before brought no folio that holds the next
    /// page; so it is the first and the last that may have brought more.
    fn brought(
        &mut self,
        batch: &FaultBatch,
        ground: &Ground,
        stretch: &Range<u64>,
        fault: Entry,
        was: &mut Classified,
        reach: Range<u64>,
    ) -> Brought {
        let pages = (stretch.end - stretch.start) / PAGE;
        // What it faulted on has not come by the last one's folio.
        if let Some(open) = self.open.take()
            && open.tid == batch.tid
            && open.addr != stretch.start
            && open.block.contains(&stretch.start)
            && batch.at_ns.saturating_sub(open.at_ns) < SETTLED_WITHIN_NS
        {
            let class = self.totals.faults.class_mut(open.class);
            class.settle(open.loose, open.extra, open.derived);
            if let Some(advice) = open.release.and_then(Release::advice) {
                let refaulted = &mut self.totals.of_advice(advice).refaulted_extra_bytes;
                *refaulted = refaulted.saturating_sub(open.extra);
            }
        }
        // A copy replaces a page and adds none: what it is known by stays.
        let copied = was.class == FaultClass::Cow;
        let measured = self.measured.is_some() && !copied;
        self.expect_measure(batch.tid, fault, was, copied);
        if measured {
            was.bytes = 0;
            return Brought {
                measured,
                ..Brought::default()
            };
        }
        let mut brought = Brought {
            bytes: was.bytes * pages,
            derived: was.derived,
            ..Brought::default()
        };
        // The usual case: a page of anonymous memory that may get no larger folio.
        let base_page = ground.mapped && ground.private_anon && ground.sizes.is_none();
        if base_page && was.bytes == PAGE && ground.hugetlb.is_none() && !ground.special {
            return brought;
        }
        if was.after.is_none() && was.class == FaultClass::Unknown {
            // It may have come from swap, or was a second one on its page.
            return brought;
        }
        let least = was.bytes;
        let may_bring = |reach: &Range<u64>| {
            let most = match was.after {
                // The zero page, or the huge one.
                Some(Page::Zero { .. }) => 0,
                _ => reach.end - reach.start,
            };
            most.saturating_sub(least)
        };
        if !ground.mapped || ground.special {
            let most = if ground.special { PAGE } else { PMD };
            brought.loose = brought.bytes;
            brought.extra = (most.max(least) - least).saturating_mul(pages);
            return brought;
        }
        if ground.file && fault.present() {
            return brought;
        }
        if ground.file {
            // Each maps what is around it, where the page cache holds that.
            let writes = fault.access() == Access::Write;
            for page in 0..pages {
                let at = stretch.start + page * PAGE;
                let extra = may_bring(&self.space.reach(ground, at, fault.present(), writes));
                brought.extra += extra;
                brought.loose += if extra > 0 { least } else { 0 };
            }
            return brought;
        }
        let present = fault.present();
        if !self.in_flight.is_empty() {
            // A call may take away in between what one has brought, so that the next proves nothing.
            for page in 0..pages {
                let at = stretch.start + page * PAGE;
                let stays = matches!(was.after, Some(Page::POPULATED | Page::Zero { .. }));
                let before = if stays { stretch.start } else { at }..at;
                let extra = may_bring(&self.space.reach_after(ground, at, present, before));
                brought.loose += if extra > 0 { least } else { 0 };
                brought.extra += extra;
            }
            return brought;
        }
        let mut last = reach.clone();
        if pages > 1 {
            let next = stretch.start + PAGE;
            let extra = may_bring(&reach);
            if extra > 0 && !reach.contains(&next) {
                brought.loose += least;
                brought.extra += extra;
            }
            // Those before it are not written down yet.
            let at = stretch.end - PAGE;
            last = self
                .space
                .reach_after(ground, at, present, stretch.start..at);
        }
        let extra = may_bring(&last);
        if extra > 0 {
            brought.loose += least;
            brought.extra += extra;
            self.open = Some(Open {
                tid: batch.tid,
                at_ns: batch.at_ns,
                addr: stretch.end - PAGE,
                block: last,
                class: was.class,
                release: was.release,
                derived: was.derived,
                loose: least,
                extra,
            });
        }
        brought
    }

    /// With `--exact-bytes`: the bytes come later, from the kernel's count.
    fn expect_measure(&mut self, tid: u32, fault: Entry, was: &Classified, copied: bool) {
        let Some(faults) = &mut self.measured else {
            return;
        };
        // A read that maps the zero page brings nothing: what else its system call populates is no
        // fault's. Of a user's faults several may come before what they brought.
        if fault.by_kernel() && matches!(was.after, Some(Page::Zero { .. })) {
            faults.remove(&tid);
            return;
        }
        // Threads come and go; the oldest faults have had their bytes.
        if faults.len() >= MOST_THREADS {
            faults.clear();
        }
        let last = LastFault {
            class: was.class,
            release: was.release,
            by_kernel: fault.by_kernel(),
            copied,
        };
        faults.insert(tid, last);
    }

    fn count(&mut self, at_ns: u64, pages: u64, was: &Classified, brought: Brought) {
        let bytes = brought.bytes;
        let faults = &mut self.totals.faults;
        faults.total += pages;
        if was.ambiguous {
            faults.ambiguous += pages;
        }
        let new = if was.zero_page_write { 0 } else { pages };
        faults.class_mut(was.class).count(new, brought);
        faults.zero_page_writes += pages - new;
        if let Some(Release {
            source: Source::Advice(advice),
            at_ns: given_ns,
            inherited,
        }) = was.release
        {
            let totals = self.totals.of_advice(advice);
            totals.refaults += new;
            if let Some(given_ns) = given_ns {
                totals.ages.record(at_ns.saturating_sub(given_ns), new);
            }
            totals.refaulted(inherited, bytes);
            add(&mut totals.refaulted_extra_bytes, brought.extra);
        }
    }

    /// Counts bytes that came back after they were given back.
    pub(super) fn refaulted(&mut self, release: Option<Release>, bytes: u64) {
        if let Some(Release {
            source: Source::Advice(advice),
            inherited,
            ..
        }) = release
        {
            self.totals.of_advice(advice).refaulted(inherited, bytes);
        }
    }

    /// Writes down the state of the pages after their faults, and that neighbours may have come too.
    fn leave_behind(
        &mut self,
        at_ns: u64,
        pages: Range<u64>,
        ground: &Ground,
        seen: bool,
        fault: Entry,
        was: &Classified,
    ) {
        let Some(after) = was.after else { return };
        let last = pages.end.saturating_sub(PAGE);
        let writes = fault.access() == Access::Write;
        // Only a page of the mapping's own has it copied by fork. A huge page has too, whoever reads.
        let own = writes || ground.sizes.largest() >= PMD;
        if own && !ground.written && ground.mapped && !ground.shared {
            self.space.write_to(pages.start);
        }
        if ground.hugetlb.is_some() && !fault.present() {
            let reach = self.space.reach(ground, pages.start, false, writes);
            let end = self.space.reach(ground, last, false, writes).end;
            self.space.set_range(reach.start..end, after);
            return;
        }
        if ground.mapped || seen || !self.mappings_known || at_ns < self.settled_ns {
            self.space.set_range(pages.clone(), after);
        }
        if ground.file && !fault.present() {
            let reach = self.space.reach(ground, pages.start, false, writes);
            let end = self.space.reach(ground, last, false, writes).end;
            self.space.perhaps_populated(reach.start..end);
        }
    }
}
