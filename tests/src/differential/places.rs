//! Where the random program's pages lie: an arena far from all else, and the heap that brk moves.

/// The arena's first address, 2 MiB aligned.
pub const ARENA: u64 = 0x2000_0000_0000;
pub const ARENA_PAGES: u64 = 4096;
/// Pages of the heap, from where the break was at first.
pub const HEAP_PAGES: u64 = 256;
pub const PAGES: u64 = ARENA_PAGES + HEAP_PAGES;
pub const PAGE: u64 = 4096;
/// Small pages in a huge one.
pub const HUGE_PAGES: u64 = 512;

/// Maps the pages' numbers to addresses: the arena's come first, then the heap's.
#[derive(Clone, Copy, Debug, Default)]
pub struct Places {
    /// The heap's first page.
    pub heap: u64,
}

impl Places {
    /// Of a program whose break was there.
    pub fn new(brk: u64) -> Self {
        Self {
            heap: brk.next_multiple_of(PAGE),
        }
    }

    pub fn address(self, page: u64) -> u64 {
        match page.checked_sub(ARENA_PAGES) {
            None => ARENA + page * PAGE,
            Some(page) => self.heap + page * PAGE,
        }
    }

    /// The page at an address, where it is one of these.
    pub fn page(self, address: u64) -> Option<u64> {
        let in_arena = address.checked_sub(ARENA).map(|bytes| bytes / PAGE);
        if let Some(page) = in_arena.filter(|&page| page < ARENA_PAGES) {
            return Some(page);
        }
        let in_heap = address.checked_sub(self.heap).map(|bytes| bytes / PAGE)?;
        (in_heap < HEAP_PAGES).then_some(ARENA_PAGES + in_heap)
    }

    /// Both stretches of addresses.
    pub fn stretches(self) -> [(u64, u64); 2] {
        [
            (ARENA, ARENA + ARENA_PAGES * PAGE),
            (self.heap, self.heap + HEAP_PAGES * PAGE),
        ]
    }
}
