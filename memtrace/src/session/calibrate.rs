//! What a page fault costs on this machine, measured on memtrace itself.

use std::ptr;

use crate::clock;
use crate::view::what_if::FaultCost;

/// Too little to be felt: 4 MiB, in rounds of enough faults that the clock's own cost does not show.
const PAGES: usize = 64;
const ROUNDS: usize = 16;

/// The cost of a first touch in nanoseconds of CPU time, entry to exit; the traced program pays
/// a little more, for being traced. None where memory can't be mapped.
pub fn fault_cost() -> Option<FaultCost> {
    let page = usize::try_from(crate::proc::page_bytes()).ok()?;
    let len = ROUNDS * PAGES * page;
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
    let mut rounds = [0; ROUNDS];
    for (round, ns) in rounds.iter_mut().enumerate() {
        let before = clock::thread_cpu_ns();
        for i in round * PAGES..(round + 1) * PAGES {
            // SAFETY: within the mapping above, which nobody else knows.
            unsafe { at.cast::<u8>().add(i * page).write_volatile(1) };
        }
        *ns = clock::thread_cpu_ns().saturating_sub(before) / PAGES as u64;
    }
    // SAFETY: the mapping above, which nothing refers to.
    unsafe { libc::munmap(at, len) };
    let mean_ns = rounds.iter().sum::<u64>() / ROUNDS as u64;
    rounds.sort_unstable();
    Some(FaultCost {
        mean_ns,
        least_ns: rounds[0],
        // The slowest may have been interrupted.
        most_ns: rounds[ROUNDS - 2],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_costs_something_between_a_cache_miss_and_a_disk() {
        let cost = fault_cost().expect("memory can be mapped");
        assert!((20..10_000_000).contains(&cost.mean_ns), "{cost:?}");
        assert!(
            0 < cost.least_ns && cost.least_ns <= cost.most_ns,
            "{cost:?}"
        );
        assert!(cost.least_ns <= cost.mean_ns, "{cost:?}");
    }
}
