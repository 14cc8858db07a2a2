//! The advice values of madvise(2) and what each means for the pages it is applied to.

use std::fmt;

/// An advice as passed in `behavior` (include/uapi/asm-generic/mman-common.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Advice(pub i32);

impl Advice {
    pub const NORMAL: Self = Self(0);
    pub const RANDOM: Self = Self(1);
    pub const SEQUENTIAL: Self = Self(2);
    pub const FREE: Self = Self(8);
    pub const REMOVE: Self = Self(9);
    pub const DONTNEED: Self = Self(4);
    pub const DONTFORK: Self = Self(10);
    pub const DOFORK: Self = Self(11);
    pub const MERGEABLE: Self = Self(12);
    pub const UNMERGEABLE: Self = Self(13);
    pub const HUGEPAGE: Self = Self(14);
    pub const NOHUGEPAGE: Self = Self(15);
    pub const DONTDUMP: Self = Self(16);
    pub const DODUMP: Self = Self(17);
    pub const WIPEONFORK: Self = Self(18);
    pub const KEEPONFORK: Self = Self(19);
    pub const COLD: Self = Self(20);
    pub const PAGEOUT: Self = Self(21);
    pub const POPULATE_READ: Self = Self(22);
    pub const POPULATE_WRITE: Self = Self(23);
    pub const DONTNEED_LOCKED: Self = Self(24);
    pub const COLLAPSE: Self = Self(25);
    pub const GUARD_INSTALL: Self = Self(102);
    pub const GUARD_REMOVE: Self = Self(103);

    /// Stands for all the numbers that are no advice, where there are too many of them to list.
    pub const OTHERS: Self = Self(i32::MIN);

    /// How the advice gives pages back, if it does.
    pub fn give_back(self) -> Option<GiveBack> {
        match self {
            Self::FREE => Some(GiveBack::Free),
            Self::DONTNEED | Self::DONTNEED_LOCKED => Some(GiveBack::DontNeed),
            Self::REMOVE | Self::GUARD_INSTALL | Self::PAGEOUT => Some(GiveBack::Other),
            _ => None,
        }
    }

    /// True where it brings pages without a fault.
    pub fn populates(self) -> bool {
        matches!(
            self,
            Self::POPULATE_READ | Self::POPULATE_WRITE | Self::COLLAPSE
        )
    }

    /// The name in the headers, where there is one.
    pub fn name(self) -> Option<&'static str> {
        Some(match self.0 {
            0 => "MADV_NORMAL",
            1 => "MADV_RANDOM",
            2 => "MADV_SEQUENTIAL",
            3 => "MADV_WILLNEED",
            4 => "MADV_DONTNEED",
            8 => "MADV_FREE",
            9 => "MADV_REMOVE",
            10 => "MADV_DONTFORK",
            11 => "MADV_DOFORK",
            12 => "MADV_MERGEABLE",
            13 => "MADV_UNMERGEABLE",
            14 => "MADV_HUGEPAGE",
            15 => "MADV_NOHUGEPAGE",
            16 => "MADV_DONTDUMP",
            17 => "MADV_DODUMP",
            18 => "MADV_WIPEONFORK",
            19 => "MADV_KEEPONFORK",
            20 => "MADV_COLD",
            21 => "MADV_PAGEOUT",
            22 => "MADV_POPULATE_READ",
            23 => "MADV_POPULATE_WRITE",
            24 => "MADV_DONTNEED_LOCKED",
            25 => "MADV_COLLAPSE",
            100 => "MADV_HWPOISON",
            101 => "MADV_SOFT_OFFLINE",
            102 => "MADV_GUARD_INSTALL",
            103 => "MADV_GUARD_REMOVE",
            i32::MIN => "others",
            _ => return None,
        })
    }
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.pad(name),
            None => f.pad(&format!("MADV_{}", self.0)),
        }
    }
}

/// The three ways of giving memory back that faults are classed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum GiveBack {
    /// MADV_FREE: the page stays until the kernel wants it.
    Free,
    /// MADV_DONTNEED and its kin: the page goes at once.
    DontNeed,
    /// MADV_REMOVE, GUARD_INSTALL, PAGEOUT, and the old range of mremap's DONTUNMAP.
    Other,
}
