//! What a fault must know of the mapping that it fell on.

use std::ops::Range;

use super::event::{FolioSizes, HugeAdvice, MappingKind};
use super::pages::Page;
use super::space::{PAGE, PMD, Space};
use super::vma::Vma;

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
    /// As [`VmFlags::faults_anew`](super::event::VmFlags::faults_anew).
    pub faults_anew: bool,
    /// As [`VmFlags::hugetlb`](super::event::VmFlags::hugetlb).
    pub hugetlb: Option<u64>,
    /// The folios that anonymous memory may get here.
    pub sizes: FolioSizes,
    /// One fault may map a huge page of a file.
    pub huge_file: bool,
    /// One fault may map a larger folio of shared memory.
    pub large_shmem: bool,
    /// As [`Vma::written`].
    pub written: bool,
    /// As [`VmFlags::droppable`](super::event::VmFlags::droppable).
    pub droppable: bool,
    /// As [`Folios::zero_page`](super::event::Folios::zero_page).
    huge_zero_page: bool,
}

impl Ground {
    pub fn new(range: Range<u64>, vma: &Vma, space: &Space) -> Self {
        Self {
            range,
            mapped: true,
            lost: false,
            traced: vma.traced,
            private_anon: vma.is_private_anon(),
            file: vma.is_file(),
            shared: vma.mapping.shared,
            special: vma.mapping.kind == MappingKind::Special,
            faults_anew: vma.mapping.flags.faults_anew,
            hugetlb: vma.mapping.flags.hugetlb,
            sizes: space.folio_sizes(vma),
            huge_file: space.folios.huge_files || vma.mapping.flags.huge == HugeAdvice::Huge,
            large_shmem: space.folios.large_shmem && vma.is_shmem(),
            written: vma.written,
            droppable: vma.mapping.flags.droppable,
            huge_zero_page: space.folios.zero_page,
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
            faults_anew: false,
            hugetlb: None,
            sizes: FolioSizes::NONE,
            huge_file: false,
            large_shmem: false,
            written: true,
            droppable: false,
            huge_zero_page: true,
        }
    }

    /// The state of a page here that was never touched since.
    pub fn untouched(&self) -> Option<Page> {
        // There before we were, or not known at all.
        (!self.traced).then_some(Page::Maybe)
    }

    /// True where a read is sure to populate nothing.
    pub fn reads_zero(&self) -> bool {
        self.huge_zero_page || self.sizes.largest() < PMD
    }
}
