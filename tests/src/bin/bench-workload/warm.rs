//! The mapping that is faulted on, with its page tables built and its memory kept from the hypervisor.

use memtrace_tests::area::Area;

/// A page that stays is written after so many that are given back.
const BETWEEN_STAKES: usize = 256;

/// Maps pages, populates them once and gives them back.
///
/// A guest may report large blocks of free memory to its hypervisor, which takes them; to touch them again then takes a
/// hundred times as long, and no tracer has a part in it. Memory is handed out in order as long as much is free, so that
/// the pages that stay, a few hundred kilobytes in all, end up between the others and no large block becomes free.
pub fn map(pages: usize) -> Area {
    let area = Area::map(pages);
    let stakes = Area::map(pages / BETWEEN_STAKES + 1);
    for (index, from) in (0..pages).step_by(BETWEEN_STAKES).enumerate() {
        area.part(from, pages.min(from + BETWEEN_STAKES)).write();
        stakes.part(index, index + 1).write();
    }
    area.give_back(libc::MADV_DONTNEED);
    area
}
