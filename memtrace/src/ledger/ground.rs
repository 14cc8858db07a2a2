//! What a fault must know of the mapping that it fell on.

use std::ops::Range;

use super::event::MappingKind;
use super::pages::Page;
use super::space::{FolioBytes, PAGE, Vma};

/// Bytes that the kernel maps around a file fault where the page cache holds them
/// (mm/memory.c:do_fault_around, whose default is 64 KiB).
const FAULT_AROUND: u64 = 64 << 10;

/// The same for all faults in `range`.
#[derive(Clone, Debug)]
pub struct Ground {
    pub range: Range<u64>,
    /// False where no mapping is known.
    pub mapped: bool,
    /// There was one, perhaps, and what it was is lost.
    pub lost: bool,
    /// Mapped while traced, so that nothing in it was populated before.
    pub traced: bool,
    /// As [`Vma::is_private_anon`].
    pub private_anon: bool,
    /// As [`Vma::is_file`].
    pub file: bool,
    /// What is written here is everybody's: no write makes a copy.
    pub shared: bool,
    /// The kernel's own, such as the vdso.
    pub special: bool,
    pub hugetlb: bool,
    /// The largest folio that anonymous memory may get here, in bytes.
    pub folio_bytes: u64,
}

impl Ground {
    pub fn new(range: Range<u64>, vma: &Vma, folios: FolioBytes) -> Self {
        Self {
            range,
            mapped: true,
            lost: false,
            traced: vma.traced,
            private_anon: vma.is_private_anon(),
            file: vma.is_file(),
            shared: vma.mapping.shared,
            special: vma.mapping.kind == MappingKind::Special,
            hugetlb: vma.hugetlb.is_some(),
            folio_bytes: folios.largest(vma),
        }
    }

    /// One page where no mapping is known.
    pub fn unmapped(addr: u64, lost: bool) -> Self {
        Self {
            range: addr..addr.saturating_add(PAGE),
            mapped: false,
            lost,
            traced: false,
            private_anon: false,
            file: false,
            shared: false,
            special: false,
            hugetlb: false,
            folio_bytes: PAGE,
        }
    }

    /// The state of a page here that was never touched since.
    pub fn untouched(&self) -> Option<Page> {
        // There before we were, or not known at all.
        (!self.traced).then_some(Page::Maybe)
    }

    /// The bytes around `addr` that one fault there may populate: a larger folio, or fault-around.
    pub fn reach(&self, addr: u64) -> Range<u64> {
        let bytes = if self.file {
            FAULT_AROUND
        } else {
            self.folio_bytes
        };
        let start = addr - addr % bytes;
        let end = start.saturating_add(bytes);
        start.max(self.range.start)..end.min(self.range.end)
    }
}
