//! Threads that write to pages and give them back, each on its own range or all on one.

use memtrace_tests::differential::protocol::{Entry, SCRATCH_AT};

use crate::calls::{call, exit, own_faults, thread};

const PAGE: u64 = 4096;
const MOST: u64 = 8;
const STACK_BYTES: u64 = 16 << 10;
/// Stacks, below which each thread's orders lie.
pub const STACKS_AT: u64 = 0x3100_0000_0000;
pub const STACKS_BYTES: u64 = MOST * STACK_BYTES;
const DONE_AT: u64 = SCRATCH_AT + 8192;

#[derive(Clone, Copy)]
#[repr(C)]
struct Order {
    start: u64,
    pages: u64,
    rounds: u64,
    advice: u64,
    faults: u64,
    usage: [u64; 24],
}

extern "C" fn run(at: u64) -> ! {
    let order = at as *mut Order;
    // SAFETY: the order is this thread's own, and the pages are the arena's.
    unsafe {
        let usage = (&raw mut (*order).usage) as u64;
        let before = own_faults(usage);
        for _ in 0..(*order).rounds {
            for page in 0..(*order).pages {
                (((*order).start + page * PAGE) as *mut u8).write_volatile(1);
            }
            let (start, len) = ((*order).start, (*order).pages * PAGE);
            call(libc::SYS_madvise, [start, len, (*order).advice, 0, 0, 0]);
        }
        (*order).faults = own_faults(usage) - before;
    }
    exit(libc::SYS_exit)
}

/// Runs them all to their end: each one's faults.
pub fn run_all(args: &[u64; 8], entries: &mut [Entry]) -> usize {
    let [start, pages, threads, rounds, advice, apart, ..] = *args;
    let threads = threads.min(MOST);
    let order_at = |index: u64| STACKS_AT + index * STACK_BYTES;
    for index in 0..threads {
        // SAFETY: stacks, orders and words lie in areas of their own.
        unsafe {
            (order_at(index) as *mut Order).write_volatile(Order {
                start: start + index * apart * PAGE,
                pages,
                rounds,
                advice,
                faults: 0,
                usage: [0; 24],
            });
            let done = DONE_AT + index * 8;
            (done as *mut u32).write_volatile(1);
            let top = order_at(index) + STACK_BYTES - 64;
            if thread(top, run, order_at(index), done) < 0 {
                exit(libc::SYS_exit_group);
            }
        }
    }
    for index in 0..threads {
        let done = DONE_AT + index * 8;
        // SAFETY: the kernel clears the word and wakes when the thread has ended.
        unsafe {
            while (done as *const u32).read_volatile() != 0 {
                call(libc::SYS_futex, [done, 0, 1, 0, 0, 0]);
            }
            entries[index as usize] = Entry {
                faults: (*(order_at(index) as *const Order)).faults as u16,
                refused: 0,
                came: 0,
            };
        }
    }
    threads as usize
}
