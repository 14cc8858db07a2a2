//! What live released intervals take of memory: `cargo bench --bench memory`.

#[allow(dead_code, reason = "what the two benchmarks share, each uses in part")]
mod common;

use common::*;

/// A layout: pages from one interval to the next, the advice, and whether what lies between is populated.
const LAYOUTS: [(u64, u64, bool); 7] = [
    (2, DONTNEED, true),
    (8, DONTNEED, true),
    (11, DONTNEED, true),
    (64, DONTNEED, true),
    (64, FREE, true),
    (512, DONTNEED, true),
    (4096, DONTNEED, false),
];

fn main() {
    for intervals in [1_000, 10_000, 100_000, 1_000_000] {
        for layout in LAYOUTS {
            in_a_child(|| measure(intervals, layout));
        }
    }
}

/// So that no layout finds what another left behind.
fn in_a_child(work: impl FnOnce()) {
    // SAFETY: there is one thread, so that the child may do whatever its parent may.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        work();
        std::process::exit(0);
    }
    // SAFETY: the pid is of our own child, and waitpid takes no status where none is asked for.
    unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
}

fn measure(intervals: u64, (apart, advice, populated): (u64, u64, bool)) {
    let mut run = Run::new(false);
    let mut records = Records::new();
    records.mmap(0, intervals * apart);
    if populated {
        records.madvise(PID, POPULATE_WRITE, 0, intervals * apart);
    }
    run.take_all(&records.chunks());
    let before = resident_kib();
    // Small pieces: what is measured is what stays.
    for first in (0..intervals).step_by(1000) {
        let mut records = Records::new();
        for n in first..first + 1000 {
            records.faults(PID, [n * apart], 1);
            records.madvise(PID, advice, n * apart, 1);
        }
        run.take_all(&records.chunks());
    }
    let after = resident_kib();
    println!(
        "{intervals:>9} intervals, one page in {apart:>4}, advice {advice}, {}: {:>6.1} MB in all, {:>6.1} bytes each",
        if populated {
            "populated between"
        } else {
            "nothing between  "
        },
        after as f64 * 1024.0 / 1e6,
        (after - before) as f64 * 1024.0 / intervals as f64,
    );
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("procfs is mounted");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .expect("every process has one");
    let kib = line.trim().trim_end_matches("kB").trim();
    kib.parse().expect("a number")
}
