//! A mapping as the ledger keeps it, and which of them the kernel may have joined.

use super::event::{Mapping, MappingKind};

/// A mapping, and what the ledger must know of it besides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vma {
    pub mapping: Mapping,
    /// Mapped while traced, so that nothing in it was populated before.
    pub traced: bool,
    /// A private page of it may have been populated: then it has an anon_vma, and a fork copies its
    /// pages (kernel/fork.c:vma_needs_copy, or copy_page_range before Linux 6.3).
    pub written: bool,
    /// A fork has copied its pages into here: no kernel joins such a mapping with one that has no
    /// anon_vma yet (mm/vma.c:vma_is_fork_child, or mm/mmap.c:is_mergeable_anon_vma).
    pub forked: bool,
}

impl Vma {
    pub fn new(mapping: Mapping, traced: bool) -> Self {
        Self {
            mapping,
            traced,
            written: true,
            forked: false,
        }
    }

    /// What a call has just mapped, and nobody has touched.
    pub fn untouched(mapping: Mapping) -> Self {
        Self {
            written: false,
            ..Self::new(mapping, true)
        }
    }

    /// Whether the kernel may join the two where they lie side by side: only where both are of one file,
    /// as far as their names tell (mm/vma.c:is_mergeable_vma).
    pub fn may_be_joined_with(&self, other: &Self) -> bool {
        let (one, other) = (&self.mapping, &other.mapping);
        let differ = |one: &str| other.name.as_deref().is_some_and(|other| one != other);
        one.kind == other.kind
            && one.shared == other.shared
            && !one.name.as_deref().is_some_and(differ)
    }

    /// Private anonymous memory: what MADV_FREE accepts and what reads map the zero page into.
    pub fn is_private_anon(&self) -> bool {
        !self.mapping.shared
            && matches!(
                self.mapping.kind,
                MappingKind::Anon | MappingKind::Heap | MappingKind::Stack
            )
    }

    /// Shared memory: it lies in the page cache, and its folios follow settings of their own.
    pub fn is_shmem(&self) -> bool {
        const NAMES: [&str; 4] = ["/memfd:", "/dev/shm/", "/SYSV", "/dev/zero"];
        let named = |name: &str| NAMES.iter().any(|start| name.starts_with(start));
        let anonymous = self.mapping.kind == MappingKind::Anon;
        self.is_file() && (anonymous || self.mapping.name.as_deref().is_some_and(named))
    }

    /// Backed by the page cache: a file, or shared memory.
    pub fn is_file(&self) -> bool {
        self.mapping.kind == MappingKind::File
            || (self.mapping.shared && self.mapping.kind == MappingKind::Anon)
    }
}
