//! Faults: what each was, what it counts as, and what it leaves behind.

use std::ops::Range;

use super::super::classify::{Classified, classify};
use super::super::event::{FaultBatch, Gap};
use super::super::faults::Entry;
use super::super::ground::Ground;
use super::super::pages::{Page, Release, Source};
use super::super::space::PAGE;
use super::super::stretch::{Stretch, Tell};
use super::super::totals::{Basis, FaultClass};
use super::{InFlight, LastFault, Mm, add};

/// Threads whose last fault is remembered.
const MOST_THREADS: usize = 64 * 1024;

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
            self.take_from_measure(batch.tid, first, &mut was);
            self.count(batch.at_ns, (end - addr) / PAGE, &was);
            self.leave_behind(stretch.clone(), ground, seen.is_some(), first, &was);
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

    /// With `--exact-bytes`: the bytes come later, from the kernel's count.
    fn take_from_measure(&mut self, tid: u32, fault: Entry, was: &mut Classified) {
        let Some(faults) = &mut self.measured else {
            return;
        };
        let last = LastFault {
            class: was.class,
            release: was.release,
            by_kernel: fault.by_kernel(),
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
        faults.insert(tid, last);
    }

    fn count(&mut self, at_ns: u64, pages: u64, was: &Classified) {
        let bytes = was.bytes * pages;
        let faults = &mut self.totals.faults;
        faults.total += pages;
        if was.ambiguous {
            faults.ambiguous += pages;
        }
        let class = faults.class_mut(was.class);
        add(&mut class.bytes, bytes);
        class.basis = class.basis.max(was.basis);
        let new = if was.zero_page_write { 0 } else { pages };
        class.faults += new;
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
        pages: Range<u64>,
        ground: &Ground,
        seen: bool,
        fault: Entry,
        was: &Classified,
    ) {
        let Some(after) = was.after else { return };
        let last = pages.end.saturating_sub(PAGE);
        let reach = ground.reach(pages.start).start..ground.reach(last).end;
        // A fault where nothing is mapped ends in a signal and populates nothing.
        if ground.mapped || seen || !self.mappings_known {
            self.space.set_range(pages, after);
        }
        if !fault.present() {
            self.space.perhaps_populated(reach);
        }
    }
}
