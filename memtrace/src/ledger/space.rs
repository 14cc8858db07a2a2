//! One address space: what is mapped where, and the state of its pages.

use std::iter::once;
use std::ops::Range;

use super::event::{Folios, HugeAdvice, Mapping, MappingKind, VmFlags};
use super::ground::Ground;
use super::pages::{Page, Release};
use super::ranges::RangeMap;
use super::states::{Found, States};
use super::vma::Vma;

/// The smallest page of the architectures that have the tracepoints.
pub const PAGE: u64 = 4096;

/// What a page table holds: the size of a huge page of anonymous memory or of the page cache.
pub const PMD: u64 = 2 << 20;

pub(super) const EVERYWHERE: Range<u64> = 0..!(PAGE - 1);

/// How far below a stack's mapping a fault still counts as its growth: above any sane RLIMIT_STACK.
const STACK_REACH: u64 = 1 << 30;

#[derive(Clone, Debug)]
pub struct Space {
    pub(super) vmas: RangeMap<Vma>,
    pub(super) pages: States,
    /// Where MADV_GUARD_INSTALL lets nothing come: an access ends in a signal.
    guards: RangeMap<()>,
    pub folios: Folios,
    /// The program break, where known.
    pub brk: Option<u64>,
    /// Calls were lost, and the mappings not read again since: there are more than are known.
    pub mappings_lost: bool,
}

impl Default for Space {
    fn default() -> Self {
        Self {
            vmas: RangeMap::default(),
            pages: States::default(),
            guards: RangeMap::default(),
            folios: Folios::largest(0, 0),
            brk: None,
            mappings_lost: false,
        }
    }
}

impl Space {
    /// Other folios are given from here on.
    pub fn set_folios(&mut self, folios: Folios) {
        let same = Folios {
            at_ns: self.folios.at_ns,
            pid: self.folios.pid,
            ..folios
        };
        if same != self.folios {
            self.spread(&EVERYWHERE);
        }
        self.folios = folios;
    }

    /// The mapping at `addr`. A fault just below a stack grows the stack.
    pub fn vma_at(&self, addr: u64) -> Option<&Vma> {
        self.vmas.get(addr).map(|(_, vma)| vma)
    }

    /// The runs of mappings within `range`, cut to it.
    pub fn vmas(&self, range: Range<u64>) -> impl Iterator<Item = (Range<u64>, &Vma)> {
        self.vmas.within(range)
    }

    pub fn mapped_bytes(&self, range: Range<u64>) -> u64 {
        self.vmas
            .within(range)
            .map(|(run, _)| run.end - run.start)
            .sum()
    }

    /// The runs of mapped memory within `range`, neighbours joined.
    pub fn mapped(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let mut mapped: Vec<Range<u64>> = Vec::new();
        for (run, _) in self.vmas.within(range) {
            match mapped.last_mut() {
                Some(last) if last.end == run.start => last.end = run.end,
                _ => mapped.push(run),
            }
        }
        mapped
    }

    /// What a fault at `addr` falls on.
    pub fn ground(&mut self, addr: u64) -> Ground {
        if self.vmas.get(addr).is_none() {
            self.grow_stack(addr);
        }
        match self.vmas.get(addr) {
            Some((range, vma)) => Ground::new(range, vma, self),
            None => Ground::unmapped(addr, self.mappings_lost),
        }
    }

    /// Extends the stack above `addr` down to it, if there is one and nothing lies between.
    fn grow_stack(&mut self, addr: u64) {
        let Some((above, vma)) = self.vmas.next_after(addr) else {
            return;
        };
        if vma.mapping.kind == MappingKind::Stack && above.start - addr <= STACK_REACH {
            let grown = Vma::new(vma.mapping.clone(), true);
            self.vmas.set(addr..above.start, grown);
        }
    }

    /// As [`super::page_map::PageMap::warm`].
    pub fn warm(&self, addresses: impl Iterator<Item = u64>) {
        self.pages.warm(addresses);
    }

    /// The state of the page at `addr`, where there is one.
    pub fn seen(&self, addr: u64) -> Option<Page> {
        self.pages.get(addr)
    }

    /// The same, and up to where it is sure to stay so, `limit` at the most.
    pub fn seen_until(&self, addr: u64, limit: u64) -> (Option<Page>, u64) {
        self.pages.run_at(addr, limit)
    }

    pub fn set_range(&mut self, range: Range<u64>, page: Page) {
        self.pages.set(range, page);
    }

    /// Bytes marked lazily free and not seen to be gone since.
    pub fn lazy_bytes(&self) -> u64 {
        self.pages.lazy_bytes()
    }

    /// Gives back what is, or may be, populated in `range`, and says what that was.
    pub fn release(&mut self, range: Range<u64>, release: Release) -> Found {
        self.materialise_maybe(range.clone());
        self.spread(&range);
        let found = self.pages.found(range.clone());
        self.pages.change(range, |page| release.applied_to(page));
        found
    }

    /// What the call that entered at `at_ns` gave back in `range` may have gone by another one.
    pub fn unsettle(&mut self, range: Range<u64>, at_ns: u64) {
        if range.is_empty() {
            return;
        }
        self.pages.change(range, |page| match page {
            Page::Released(release) if release.at_ns == Some(at_ns) => {
                Page::Released(release.unsettled())
            }
            Page::PerhapsBack(release) if release.at_ns == Some(at_ns) => {
                Page::PerhapsBack(release.unsettled())
            }
            page => page,
        });
    }

    /// What is, or may be, populated in `range`.
    pub fn found(&mut self, range: Range<u64>) -> Found {
        for run in self.mapped(range.clone()) {
            self.materialise_maybe(run);
        }
        self.spread(&range);
        // Pages were seen also where no mapping is known.
        self.pages.found(range)
    }

    /// Marks as unknown what is, or may be, populated in `range`, and says what that was.
    /// `all_known`: what is not known to be mapped is not.
    pub fn make_unknown(&mut self, range: Range<u64>, all_known: bool) -> Found {
        let found = self.found(range.clone());
        if !all_known {
            self.materialise_maybe(range.clone());
        }
        let lost = self.mappings_lost;
        self.pages.change(range, |page| match page {
            Page::Doubt { .. } => Page::IN_DOUBT,
            _ if lost => Page::IN_DOUBT,
            _ => Page::Unknown,
        });
        found
    }

    /// Notes that something may be mapped and populated in all of `range` where nothing is known to be.
    pub fn perhaps_mapped(&mut self, range: Range<u64>) {
        for gap in self.vmas.gaps(range) {
            self.pages.fill_gaps(gap, &Page::Maybe);
        }
    }

    /// Notes that all of `range` was populated, with zeroes where nothing was, which may have gone since.
    pub fn perhaps_filled_with_zeroes(&mut self, range: Range<u64>) {
        self.perhaps_populated(range.clone());
        self.zeroes_perhaps_replaced(range);
    }

    /// Notes that other memory may be where the zero page was.
    pub fn zeroes_perhaps_replaced(&mut self, range: Range<u64>) {
        self.pages.change(range, |page| match page {
            Page::Zero { .. } => Page::Maybe,
            page => page,
        });
    }

    /// Notes that a call may have populated `range`, in part or whole. It took nothing away.
    pub fn perhaps_filled(&mut self, range: Range<u64>) {
        for run in self.mapped(range.clone()) {
            self.pages.fill_gaps(run, &Page::Unknown);
        }
        self.pages.change(range, |page| match page {
            Page::Populated { .. } | Page::Doubt { .. } => page,
            page if page.is_lazy() => page,
            _ => Page::Unknown,
        });
    }

    /// Marks all of `range` that is mapped.
    pub fn set_mapped(&mut self, range: Range<u64>, page: Page) {
        for run in self.mapped(range) {
            self.pages.set(run, page);
        }
    }

    /// Notes that reads may have filled `range` without a fault: with the zero page, or with the
    /// file. What was there stays as it was.
    pub fn read_in(&mut self, range: Range<u64>) {
        for run in self.mapped(range.clone()) {
            self.pages.fill_gaps(run, &Page::Maybe);
        }
        self.pages.change(range.clone(), |page| match page {
            Page::Released(release) | Page::PerhapsBack(release) if release.source.is_zap() => {
                Page::Maybe
            }
            // Read back in from swap, if it was there at all before PAGEOUT.
            Page::Released(_) | Page::PerhapsBack(_) if !page.is_lazy() => Page::Unknown,
            page => page,
        });
        let files: Vec<_> = self
            .vmas(range)
            .filter(|(_, vma)| vma.is_file())
            .map(|(run, _)| run)
            .collect();
        for run in files {
            self.pages.set(run, Page::POPULATED);
        }
    }

    /// Maps `range` anew, over whatever was there, and says what that was.
    pub fn map(&mut self, range: Range<u64>, vma: Vma) -> Found {
        let found = self.unmap(range.clone());
        self.vmas.set(range, vma);
        found
    }

    /// Ends the mappings in `range`, and says what went with them.
    pub fn unmap(&mut self, range: Range<u64>) -> Found {
        let found = self.found(range.clone());
        self.pages.clear(range.clone());
        self.guards.clear(range.clone());
        self.vmas.clear(range);
        found
    }

    /// Faults were lost: what was mapped may be populated, whatever was known of it.
    /// Pages that had no state get `untouched`.
    pub fn doubt_pages(&mut self, untouched: Page) {
        self.pages.change(EVERYWHERE, Page::after_lost_faults);
        for (run, _) in self.vmas.iter() {
            self.pages.fill_gaps(run, &untouched);
        }
    }

    /// Calls were lost: nothing is known any more of what is mapped where, nor of any page.
    /// Pages that had no state get `untouched`.
    pub fn doubt_all(&mut self, untouched: Page) {
        self.vmas.clear(EVERYWHERE);
        self.guards.clear(EVERYWHERE);
        self.brk = None;
        self.mappings_lost = true;
        self.pages.change(EVERYWHERE, Page::after_lost_calls);
        self.pages.fill_gaps(EVERYWHERE, &untouched);
    }

    /// Learns of a mapping that was there before; what was mapped under trace stands.
    pub fn learn(&mut self, range: Range<u64>, vma: &Vma) {
        for gap in self.vmas.gaps(range) {
            self.vmas.set(gap, vma.clone());
        }
    }

    /// Only this is mapped: whatever is kept elsewhere went by a call that was lost, or is no more
    /// than an access that ended in a signal.
    pub fn forget_outside<T>(&mut self, list: &[(Range<u64>, T)]) {
        let mut end = EVERYWHERE.start;
        let mapped = list.iter().map(|(range, _)| range.clone());
        for next in mapped.chain(once(EVERYWHERE.end..EVERYWHERE.end)) {
            if end < next.start {
                self.pages.clear(end..next.start);
                self.vmas.clear(end..next.start);
            }
            end = next.end;
        }
    }

    /// Changes the mappings in `range`, as some advice does.
    pub fn change_vmas(&mut self, range: Range<u64>, change: impl Fn(&mut Vma)) {
        self.vmas.change(range, |_, vma| {
            let mut vma = vma.clone();
            change(&mut vma);
            Some(vma)
        });
    }

    /// MADV_GUARD_INSTALL was applied: page tables hold markers, which a fork copies.
    pub fn guard(&mut self, range: Range<u64>) {
        for run in self.mapped(range.clone()) {
            self.guards.set(run, ());
        }
        self.write_to_all(range, false);
    }

    pub fn unguard(&mut self, range: Range<u64>) {
        self.guards.clear(range);
    }

    /// Whether a guard is at `addr`, and up to where that stays so, `limit` at the most.
    pub fn guarded(&self, addr: u64, limit: u64) -> (bool, u64) {
        if self.guards.is_empty() {
            return (false, limit);
        }
        match self.guards.get(addr) {
            Some((run, ())) => (true, run.end.min(limit)),
            None => {
                let next = self.guards.next_after(addr);
                (false, next.map_or(limit, |(run, ())| run.start.min(limit)))
            }
        }
    }

    /// The file mapped in `range` loses its pages: other mappings of it do too. Says whether there are any.
    pub fn remove_elsewhere(&mut self, range: &Range<u64>) -> bool {
        let removed: Vec<_> = self
            .vmas
            .within(range.clone())
            .map(|(_, vma)| &vma.mapping)
            .filter(|mapping| mapping.kind == MappingKind::File)
            .collect();
        // A file whose name could not be read in time may be any.
        let elsewhere: Vec<_> = self
            .vmas
            .iter()
            .filter(|(_, vma)| {
                let may_be = |one: &&Mapping| {
                    let names = [&one.name, &vma.mapping.name];
                    names.contains(&&None) || names[0] == names[1]
                };
                vma.mapping.kind == MappingKind::File && removed.iter().any(may_be)
            })
            .flat_map(|(run, _)| {
                [
                    run.start..run.end.min(range.start),
                    run.start.max(range.end)..run.end,
                ]
            })
            .filter(|run| run.start < run.end)
            .collect();
        for run in &elsewhere {
            self.pages.change(run.clone(), |page| match page {
                Page::Populated { .. } => Page::Unknown,
                page => page,
            });
        }
        !elsewhere.is_empty()
    }

    /// Learns the flags of the mappings whose flags were not known.
    pub fn learn_flags(&mut self, list: &[(Range<u64>, VmFlags)]) {
        self.spread(&EVERYWHERE);
        let known = |run: &Range<u64>| {
            let first = list.partition_point(|(flagged, _)| flagged.end <= run.start);
            let flagged = list
                .get(first)
                .filter(|(flagged, _)| flagged.start < run.end);
            flagged.map_or_else(VmFlags::default, |(_, flags)| *flags)
        };
        // One of ours may be several of the kernel's, with flags of their own.
        let unknown: Vec<_> = self
            .vmas
            .iter()
            .filter(|(_, vma)| vma.mapping.flags.huge == HugeAdvice::Unknown)
            .map(|(run, _)| run)
            .collect();
        for run in unknown {
            let mut at = run.start;
            while at < run.end {
                let next = list
                    .iter()
                    .skip(list.partition_point(|(flagged, _)| flagged.end <= at))
                    .flat_map(|(flagged, _)| [flagged.start, flagged.end])
                    .find(|edge| *edge > at)
                    .map_or(run.end, |edge| edge.min(run.end));
                let flags = known(&(at..next));
                self.change_vmas(at..next, |vma| vma.mapping.flags = flags);
                at = next;
            }
        }
    }

    /// Sets what mappings in `range` may get from here on.
    pub fn advise_huge(&mut self, range: Range<u64>, advice: HugeAdvice) {
        self.spread(&range);
        self.change_vmas(range, |vma| vma.mapping.flags.huge = advice);
    }

    /// Lifts `range` out, mappings and pages, to be put down elsewhere.
    pub fn lift(&mut self, range: Range<u64>) -> Lifted {
        // What is only implied by the old mapping must travel in writing.
        self.materialise_maybe(range.clone());
        self.spread(&range);
        let vmas = self.vmas.take(range.clone());
        let guards = self.guards.take(range.clone());
        let mut pages = self.pages.take(range.clone());
        // From a hole nothing is carried.
        if !vmas.is_empty() {
            let mapped = |run: &Range<u64>| {
                let at = vmas.partition_point(|(vma, _)| vma.end <= run.start);
                vmas.get(at).is_some_and(|(vma, _)| vma.start < run.end)
            };
            pages.retain(|(run, _)| mapped(run));
        }
        Lifted {
            from: range.start,
            vmas,
            pages,
            guards,
        }
    }

    /// Puts down what was lifted, and says what was in its place. What was there before the trace
    /// still was: a fault on it may be a swap-in, or undo a give-back that nobody saw.
    pub fn put_down(&mut self, to: u64, lifted: &Lifted) -> Found {
        let mut found = Found::default();
        let moved = |run: &Range<u64>| {
            let start = to.wrapping_add(run.start.wrapping_sub(lifted.from));
            start..start + (run.end - run.start)
        };
        for (run, vma) in &lifted.vmas {
            found += self.map(moved(run), vma.clone());
        }
        for (run, page) in &lifted.pages {
            self.pages.set(moved(run), *page);
        }
        for (run, ()) in &lifted.guards {
            self.guards.set(moved(run), ());
        }
        found
    }

    /// Writes down the pages of `range` that may be populated only because of where they lie.
    fn materialise_maybe(&mut self, range: Range<u64>) {
        let untraced: Vec<_> = self
            .vmas
            .within(range.clone())
            .filter(|(_, vma)| !vma.traced)
            .map(|(run, _)| run)
            .chain(self.vmas.gaps(range))
            .collect();
        for run in untraced {
            self.pages.fill_gaps(run, &Page::Maybe);
        }
    }
}

/// A piece of an address space on its way to another place.
#[derive(Clone, Debug)]
pub struct Lifted {
    from: u64,
    pub vmas: Vec<(Range<u64>, Vma)>,
    pub pages: Vec<(Range<u64>, Page)>,
    guards: Vec<(Range<u64>, ())>,
}
