//! Where kernels differ in what a call does.

/// What the traced kernel does, by its version. Made for the newest where nothing else is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// mremap looks for the mapping that it is to move before it unmaps anything (Linux 5.16,
    /// mm/mremap.c:SYSCALL_DEFINE5(mremap)).
    pub mremap_looks_first: bool,
    /// mremap to a fixed place moves all mappings in the range, one by one, and leaves the target alone
    /// where there is a hole (Linux 6.17, mm/mremap.c:remap_move). What does not change a
    /// size it refuses before it unmaps anything.
    pub mremap_moves_several: bool,
    /// Splitting a larger folio gives those of its pages back that hold only zeroes (Linux 6.12,
    /// mm/migrate.c:try_to_map_unused_to_zeropage).
    pub splitting_frees_zeroes: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            mremap_looks_first: true,
            mremap_moves_several: true,
            splitting_frees_zeroes: true,
        }
    }
}

impl Rules {
    /// Those of a Linux of that version.
    pub fn of(major: u32, minor: u32) -> Self {
        Self {
            mremap_looks_first: (major, minor) >= (5, 16),
            mremap_moves_several: (major, minor) >= (6, 17),
            splitting_frees_zeroes: (major, minor) >= (6, 12),
        }
    }
}
