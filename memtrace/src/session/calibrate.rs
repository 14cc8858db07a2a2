//! What a page fault costs on this machine, measured on memtrace itself.

use std::ptr;

use crate::clock;

/// Enough that the clock's own cost does not show, and too little to be felt: 4 MiB.
const PAGES: usize = 1024;

/// The mean cost of a first touch in nanoseconds of CPU time, entry to exit; the traced program pays
/// a little more, for being traced. None where memory can't be mapped.
pub fn fault_ns() -> Option<u64> {
    let page = usize::try_from(crate::proc::page_bytes()).ok()?;
    let len = PAGES * page;
    // SAFETY: a new private mapping at an address of the kernel's choice.
    let at = unsafe {
        libc::mmap(
            ptr::null_mut(),
            len,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if at == libc::MAP_FAILED {
        return None;
    }
    // A fault of its own for every page. Where it is refused there are no huge pages to refuse.
    // SAFETY: the range is the mapping above.
    unsafe { libc::madvise(at, len, libc::MADV_NOHUGEPAGE) };
    let before = clock::thread_cpu_ns();
    for i in 0..PAGES {
        // SAFETY: within the mapping above, which nobody else knows.
        unsafe { at.cast::<u8>().add(i * page).write_volatile(1) };
    }
    let spent = clock::thread_cpu_ns().saturating_sub(before);
    // SAFETY: the mapping above, which nothing refers to.
    unsafe { libc::munmap(at, len) };
    Some(spent / PAGES as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_costs_something_between_a_cache_miss_and_a_disk() {
        let ns = fault_ns().expect("memory can be mapped");
        assert!((20..10_000_000).contains(&ns), "{ns}");
    }
}
