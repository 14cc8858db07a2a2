//! What a mapping is: its kind, its name and the flags that matter here.

use std::sync::Arc;

/// What a mapping is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    pub kind: MappingKind,
    pub shared: bool,
    pub flags: VmFlags,
    /// The file's name, or the name the program gave an anonymous mapping. Not escaped.
    pub name: Option<Arc<str>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MappingKind {
    Heap,
    Stack,
    Anon,
    File,
    /// vdso, vvar and the like.
    Special,
}

impl MappingKind {
    /// The word shown for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Heap => "heap",
            Self::Stack => "stack",
            Self::Anon => "anon",
            Self::File => "file",
            Self::Special => "special",
        }
    }
}

/// What a mapping's VmFlags say that matters here (fs/proc/task_mmu.c:show_smap_vma_flags).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VmFlags {
    pub huge: HugeAdvice,
    /// MAP_HUGETLB or a file of hugetlbfs (`ht`): the size of its pages. Reads map no zero page there.
    pub hugetlb: Option<u64>,
    /// userfaultfd may take access away from pages that stay (`ur`, Linux 7.3): a fault on such a
    /// page looks like one on a page that is gone.
    pub faults_anew: bool,
    /// MADV_DONTFORK (`dc`).
    pub dont_fork: bool,
    /// MADV_WIPEONFORK (`wf`).
    pub wipe_on_fork: bool,
    /// MAP_DROPPABLE (`dp`): what reclaim takes comes back as zeroes, not from swap.
    pub droppable: bool,
    /// MADV_DONTDUMP (`dd`).
    pub dont_dump: bool,
    /// MADV_RANDOM (`rr`) or MADV_SEQUENTIAL (`sr`).
    pub read_ahead: ReadAhead,
    /// MADV_MERGEABLE (`mg`).
    pub mergeable: bool,
}

/// How a mapping's file is read ahead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadAhead {
    #[default]
    Normal,
    Random,
    Sequential,
}

impl VmFlags {
    /// Whether mappings of these flags may be one (mm/vma.c:is_mergeable_vma).
    pub fn may_be_joined_with(self, other: Self) -> bool {
        let unknown = [self.huge, other.huge].contains(&HugeAdvice::Unknown);
        let with_advice = |flags: Self| Self {
            huge: if unknown {
                HugeAdvice::Unknown
            } else {
                flags.huge
            },
            // Set for whole mappings, by others than the program.
            faults_anew: false,
            ..flags
        };
        with_advice(self) == with_advice(other)
    }
}

/// What a mapping's VmFlags say of huge pages (mm/madvise.c: MADV_HUGEPAGE and MADV_NOHUGEPAGE).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HugeAdvice {
    /// Neither was given: the machine's settings decide.
    #[default]
    Default,
    /// MADV_HUGEPAGE, `hg` in VmFlags.
    Huge,
    /// MADV_NOHUGEPAGE, `nh` in VmFlags: base pages only.
    Base,
    /// Mapped before the trace, and its VmFlags were not read.
    Unknown,
}
