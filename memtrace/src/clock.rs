//! The clock that the kernel side stamps with, and the one that tells what something costs us.

use std::fs;
use std::sync::OnceLock;

/// CLOCK_MONOTONIC in nanoseconds as the kernel itself has it, whatever time namespace this is:
/// what bpf_ktime_get_ns reads (kernel/time/timekeeping.c).
pub fn now_ns() -> u64 {
    static OFFSET_NS: OnceLock<i64> = OnceLock::new();
    let offset_ns = *OFFSET_NS.get_or_init(own_offset_ns);
    read(libc::CLOCK_MONOTONIC).saturating_add_signed(-offset_ns)
}

/// CPU time of the current thread in nanoseconds.
pub fn thread_cpu_ns() -> u64 {
    read(libc::CLOCK_THREAD_CPUTIME_ID)
}

fn read(clock: libc::clockid_t) -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer is to a timespec of ours; both clocks are always there, so the call can't fail.
    unsafe { libc::clock_gettime(clock, &mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// What this process's time namespace adds to the clock (time_namespaces(7)).
fn own_offset_ns() -> i64 {
    // The offsets are those of the namespace that children get.
    let ours = fs::read_link("/proc/self/ns/time");
    let childrens = fs::read_link("/proc/self/ns/time_for_children");
    match (ours, childrens) {
        (Ok(ours), Ok(childrens)) if ours == childrens => {
            fs::read_to_string("/proc/self/timens_offsets")
                .ok()
                .and_then(|text| offset_ns(&text))
                .unwrap_or(0)
        }
        _ => 0,
    }
}

/// Of `monotonic SECONDS NANOSECONDS`; before Linux 5.7 the first word is the clock's number.
fn offset_ns(text: &str) -> Option<i64> {
    text.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        matches!(words.next()?, "monotonic" | "1").then_some(())?;
        let (seconds, nanoseconds): (i64, i64) =
            (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        seconds.checked_mul(1_000_000_000)?.checked_add(nanoseconds)
    })
}

#[cfg(test)]
mod tests {
    use super::offset_ns;

    #[test]
    fn an_offset_is_of_the_monotonic_clock_and_may_be_negative() {
        let text = "monotonic     86400   5\nboottime   7   0\n";
        assert_eq!(offset_ns(text), Some(86_400_000_000_005));
        assert_eq!(
            offset_ns("boottime 7 0\n1 -1 500000000\n"),
            Some(-500_000_000)
        );
        assert_eq!(offset_ns("boottime 7 0\n"), None);
        assert_eq!(offset_ns("monotonic 99999999999999999 0\n"), None);
    }
}
