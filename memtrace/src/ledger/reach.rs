//! Which pages may have come with another: by a folio that holds both, or by fault-around.

use std::ops::Range;

use super::event::{FolioSizes, HugeAdvice, VmFlags};
use super::ground::Ground;
use super::pages::Page;
use super::space::{PAGE, PMD, Space};
use super::vma::Vma;

/// Bytes that the kernel maps around a file fault where the page cache holds them
/// (mm/memory.c:do_fault_around, whose default is 64 KiB).
const FAULT_AROUND: u64 = 64 << 10;

/// The aligned block of that size that holds `addr`.
fn block_of(addr: u64, bytes: u64) -> Range<u64> {
    let start = addr - addr % bytes;
    start..start.saturating_add(bytes)
}

impl Space {
    /// The folios that anonymous memory may get in a mapping (mm/huge_memory.c:
    /// __thp_vma_allowable_orders).
    pub fn folio_sizes(&self, vma: &Vma) -> FolioSizes {
        if !vma.is_private_anon() || vma.mapping.flags.hugetlb.is_some() {
            return FolioSizes::NONE;
        }
        match vma.mapping.flags.huge {
            HugeAdvice::Default => self.folios.any,
            HugeAdvice::Huge => self.folios.advised,
            HugeAdvice::Unknown => self.folios.any.with(self.folios.advised),
            HugeAdvice::Base => FolioSizes::NONE,
        }
    }

    /// The most that a fault on the page at `addr` may have populated, seen the pages around it.
    pub fn reach(&self, ground: &Ground, addr: u64, present: bool, writes: bool) -> Range<u64> {
        let page = addr..addr.saturating_add(PAGE);
        if let Some(bytes) = ground.hugetlb {
            let block = block_of(addr, bytes);
            return block.start.max(ground.range.start)..block.end.min(ground.range.end);
        }
        if ground.file {
            // A write to a private mapping copies one page. A write to a shared one maps one, or a folio.
            let copies = writes && !ground.shared;
            return if present || copies {
                page
            } else {
                self.around(ground, addr, writes)
            };
        }
        if ground.sizes.is_none() {
            return page;
        }
        // A folio takes the place of pages that are not there (mm/memory.c:alloc_anon_folio), or a
        // whole huge page that of the huge zero page (mm/huge_memory.c:do_huge_zero_wp_pmd).
        ground
            .sizes
            .descending()
            .filter(|bytes| !present || *bytes == PMD)
            .map(|bytes| block_of(addr, bytes))
            .find(|block| self.fits(block) && !self.is_taken(block, present))
            .unwrap_or(page)
    }

    /// The same, where the pages of `before` have just come too.
    pub fn reach_after(
        &self,
        ground: &Ground,
        addr: u64,
        present: bool,
        before: Range<u64>,
    ) -> Range<u64> {
        let page = addr..addr.saturating_add(PAGE);
        let free = |block: &Range<u64>| before.is_empty() || before.end <= block.start;
        ground
            .sizes
            .descending()
            .filter(|bytes| !present || *bytes == PMD)
            .map(|bytes| block_of(addr, bytes))
            .find(|block| free(block) && self.fits(block) && !self.is_taken(block, present))
            .unwrap_or(page)
    }

    /// What a fault on a file may map: a read, some 64 KiB from the start of the mapping or of an
    /// aligned block, whichever comes later, and never past the page table or the mapping. Where
    /// mprotect has divided the mapping can't be told, and so neither where the block begins. A huge
    /// page of a file, or a larger folio of shared memory, is mapped whole (mm/memory.c:finish_fault).
    fn around(&self, ground: &Ground, addr: u64, writes: bool) -> Range<u64> {
        let table = block_of(addr, PMD);
        let within = self.files_around(ground, &table);
        if ground.large_shmem || (ground.huge_file && within == table) {
            return within;
        }
        if writes {
            return addr..addr.saturating_add(PAGE);
        }
        let end = addr.saturating_add(FAULT_AROUND);
        block_of(addr, FAULT_AROUND).start.max(within.start)..end.min(within.end)
    }

    /// The part of `most` that is one mapping of a file, perhaps: the kernel may have joined some.
    fn files_around(&self, ground: &Ground, most: &Range<u64>) -> Range<u64> {
        let (_, of) = self.vmas.get(ground.range.start).unzip();
        let joins = |vma: &Vma| vma.is_file() && of.is_none_or(|of| vma.may_be_joined_with(of));
        let file_at = |addr: u64| self.vmas.get(addr).filter(|(_, vma)| joins(vma));
        let mut reach = ground.range.clone();
        while reach.start > most.start
            && let Some((run, _)) = file_at(reach.start - PAGE)
        {
            reach.start = run.start;
        }
        while reach.end < most.end
            && let Some((run, _)) = file_at(reach.end)
        {
            reach.end = run.end;
        }
        reach.start.max(most.start)..reach.end.min(most.end)
    }

    /// True if one folio may lie there: the kernel joins mappings, so they may be several of ours, but
    /// of one advice (mm/vma.c:is_mergeable_vma).
    fn fits(&self, block: &Range<u64>) -> bool {
        let mut at = block.start;
        let mut first: Option<VmFlags> = None;
        for (run, vma) in self.vmas.within(block.clone()) {
            let flags = vma.mapping.flags;
            if run.start != at || !vma.is_private_anon() || flags.hugetlb.is_some() {
                return false;
            }
            if !flags.may_be_joined_with(*first.get_or_insert(flags)) {
                return false;
            }
            at = run.end;
        }
        at == block.end
    }

    /// True if a page there has a place in the page table for certain, so that no new folio has.
    fn is_taken(&self, block: &Range<u64>, present: bool) -> bool {
        let mut taken = false;
        let mut zeroes = 0;
        self.pages.each(block.clone(), |run, page| match page {
            Page::POPULATED => taken = true,
            Page::Zero { .. } => zeroes += run.end - run.start,
            _ => {}
        });
        // The huge zero page makes one fault: two show that there is a page table.
        taken || zeroes > if present { PAGE } else { 0 }
    }

    /// Writes down which pages in and around `range` may be populated because a neighbour is: its
    /// fault may have brought a folio that holds both, or khugepaged may have collapsed them into one
    /// since (mm/khugepaged.c:collapse_huge_page). To be done before a page there, or
    /// what a mapping there may get, changes.
    pub fn spread(&mut self, range: &Range<u64>) {
        let sizes = self.folios.any.with(self.folios.advised);
        if sizes.is_none() || range.is_empty() {
            return;
        }
        let largest = sizes.largest();
        let last = range.end - PAGE.min(range.end);
        let around = block_of(range.start, largest).start..block_of(last, largest).end;
        let mut reached: Vec<Range<u64>> = Vec::new();
        let mut reach = |run: Range<u64>| {
            let whole = self.folio_at(run.start).start..self.folio_at(run.end - PAGE).end;
            if whole != run {
                reached.push(whole);
            }
        };
        let huge_zero_page = self.folios.zero_page && largest >= PMD;
        self.pages.each(around.clone(), |run, page| {
            let zero = huge_zero_page && matches!(page, Page::Zero { .. });
            if page.may_have_come() || zero {
                reach(run);
            }
        });
        // What was there before the trace may be populated without being written down.
        for (run, vma) in self.vmas.within(around) {
            if !vma.traced {
                reach(run);
            }
        }
        for reached in reached {
            self.pages.fill_gaps(reached.clone(), &Page::Maybe);
            self.pages.change(reached, Page::perhaps_back);
        }
    }

    /// The largest folio that may hold the page at `addr`.
    fn folio_at(&self, addr: u64) -> Range<u64> {
        let page = addr..addr + PAGE;
        let Some(vma) = self.vma_at(addr) else {
            return page;
        };
        self.folio_sizes(vma)
            .descending()
            .map(|bytes| block_of(addr, bytes))
            .find(|block| self.fits(block))
            .unwrap_or(page)
    }

    /// Notes that neighbours of a page may have come with it.
    pub fn perhaps_populated(&mut self, range: Range<u64>) {
        if range.end - range.start > PAGE {
            self.pages.fill_gaps(range.clone(), &Page::Maybe);
            self.pages.change(range, Page::perhaps_back);
        }
    }
}
