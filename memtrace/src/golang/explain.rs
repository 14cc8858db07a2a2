//! Why pprof, HeapReleased and top disagree: in sentences, with this process's figures.

use super::books::{Books, Row};
use super::profile::InUse;
use crate::units::{Bytes, Percent, signed_bytes};

/// Less than this is not worth a sentence.
const LITTLE: u64 = 64 << 20;
/// The runtime's own comings and goings are less.
const MIB: u64 = 1 << 20;
/// Shares of the RSS from which on something explains it.
const TENTH: f64 = 0.1;
const QUARTER: f64 = 0.25;

/// What is known beside the table.
#[derive(Clone, Copy, Debug, Default)]
pub struct Beside {
    pub in_use: Option<InUse>,
    /// HeapReleased when the trace began.
    pub released_at_start: Option<u64>,
    /// The most HeapInuse that was read.
    pub peak_in_use: Option<u64>,
    /// Then what follows is not all.
    pub calls_lost: bool,
    /// By the kernel side, since the trace began: requested by advice, and faulted in again.
    pub freed_bytes: u64,
    pub dontneeded_bytes: u64,
    pub refaulted_bytes: u64,
}

/// The sentences that fit, most telling first.
pub fn explain(books: &Books, beside: &Beside) -> Vec<String> {
    [
        lazily_free(books, beside),
        not_go(books),
        idle(books, beside),
        pprof(books, beside),
        released(books, beside),
        unexplained(books),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// "HeapReleased rises, RSS does not fall".
fn lazily_free(books: &Books, beside: &Beside) -> Option<String> {
    let lazy = at_least_0(books.bytes(Row::HeapLazilyFree));
    let released = books.stats.heap_released;
    (lazy >= LITTLE && share(lazy, books) >= TENTH).then(|| {
        let rose = match beside.released_at_start {
            Some(before) if released > before => {
                format!(" (it was {} when the trace began)", Bytes(before))
            }
            _ => String::new(),
        };
        format!(
            "HeapReleased is {}{rose}, and {} of it still counts in RSS: it was given back with MADV_FREE, and the \
             kernel takes it when it needs memory; without it the RSS is {}",
            Bytes(released),
            Bytes(lazy),
            Bytes(books.rss_bytes.saturating_sub(lazy)),
        )
    })
}

/// "cgo allocates what pprof can't see".
fn not_go(books: &Books) -> Option<String> {
    let memory =
        at_least_0(books.bytes(Row::CHeap)).saturating_add(at_least_0(books.bytes(Row::OtherAnon)));
    if memory < LITTLE || share(memory, books) < TENTH {
        return None;
    }
    let named: Vec<String> = books
        .shares
        .largest_anon
        .iter()
        .take(2)
        .filter(|one| one.rss_bytes >= LITTLE)
        .map(|one| format!("{} of it in {}", Bytes(one.rss_bytes), one.name))
        .collect();
    let named = match named[..] {
        [] => String::new(),
        _ => format!(" ({})", named.join(", ")),
    };
    Some(format!(
        "{} ({}) of the RSS is memory that Go did not allocate{named}: C code behind cgo, or mapped by the program \
         itself; pprof and MemStats can't see it, and the collector does not count it",
        Bytes(memory),
        Percent(share(memory, books)),
    ))
}

/// "A peak has passed and the idle heap stays".
fn idle(books: &Books, beside: &Beside) -> Option<String> {
    let idle = at_least_0(books.bytes(Row::HeapIdle));
    if idle < LITTLE || share(idle, books) < TENTH {
        return None;
    }
    let peak = beside
        .peak_in_use
        .filter(|peak| *peak >= books.stats.heap_inuse.saturating_add(LITTLE))
        .map(|peak| format!(", after a peak of {} in this trace", Bytes(peak)))
        .unwrap_or_default();
    // With GOGC=off and no limit the goal is as far as can be.
    let goal = match books.stats.next_gc {
        goal if goal < 1 << 48 => format!(" ({})", Bytes(goal)),
        _ => ", and there is none while GOGC is off".to_owned(),
    };
    Some(format!(
        "{} of idle heap is not given back{peak}: {} is in use now. The scavenger gives idle memory back slowly, down \
         to a tenth above the next goal{goal}; debug.FreeOSMemory() does at once, and GOMEMLIMIT makes it hurry near \
         the limit",
        Bytes(idle),
        Bytes(books.stats.heap_inuse),
    ))
}

/// "pprof says 6 GB, top says 15".
fn pprof(books: &Books, beside: &Beside) -> Option<String> {
    let in_use = beside.in_use?;
    let gap = books.rss_bytes.saturating_sub(in_use.bytes);
    if gap < LITTLE || share(gap, books) < QUARTER {
        return None;
    }
    let stats = &books.stats;
    let mut parts = vec![format!(
        "{} between pprof's figure and HeapInuse ({}: sampled once in {}, live at the last cycle only; garbage, and \
         gaps in spans)",
        signed(stats.heap_inuse, in_use.bytes),
        Bytes(stats.heap_inuse),
        Bytes(in_use.rate_bytes),
    )];
    let rows = [
        (Row::HeapIdle, "idle and not given back"),
        (Row::HeapLazilyFree, "given back and still resident"),
        (Row::Stacks, "stacks"),
        (Row::Metadata, "the runtime's own"),
    ];
    for (row, name) in rows {
        let bytes = at_least_0(books.bytes(row));
        if bytes > 0 {
            parts.push(format!("{} {name}", Bytes(bytes)));
        }
    }
    parts.push(format!(
        "{} not Go's",
        Bytes(at_least_0(books.not_go_bytes()))
    ));
    let unexplained = books.bytes(Row::Unexplained);
    if unexplained != 0 {
        parts.push(format!("{} unexplained", signed_bytes(unexplained)));
    }
    Some(format!(
        "pprof says {}, top says {}: the difference is {}",
        Bytes(in_use.bytes),
        Bytes(books.rss_bytes),
        parts.join("; "),
    ))
}

/// HeapReleased against what the kernel saw.
fn released(books: &Books, beside: &Beside) -> Option<String> {
    let before = beside.released_at_start.filter(|_| !beside.calls_lost)?;
    let seen = beside.freed_bytes.saturating_add(beside.dontneeded_bytes);
    let change = signed(books.stats.heap_released, before);
    (seen.max(books.stats.heap_released.abs_diff(before)) >= MIB).then(|| {
        format!(
            "HeapReleased changed by {change} since the trace began; in that time the kernel was given {} with \
             MADV_FREE and {} with MADV_DONTNEED, and {} was faulted in again (Go takes off what it uses again, \
             with or without a fault)",
            Bytes(beside.freed_bytes),
            Bytes(beside.dontneeded_bytes),
            Bytes(beside.refaulted_bytes),
        )
    })
}

fn unexplained(books: &Books) -> Option<String> {
    let bytes = books.bytes(Row::Unexplained);
    let size = bytes.unsigned_abs();
    if size < LITTLE || share(size, books) < TENTH / 2.0 {
        return None;
    }
    Some(if bytes < 0 {
        format!(
            "{} that Go counts as in use or idle is not resident: fresh spans that nothing has been written to, or \
             swapped out",
            Bytes(size)
        )
    } else {
        format!(
            "{} more of Go's heap is resident than its books say: given back and filled again by huge pages, or what \
             the collector holds there for itself",
            Bytes(size)
        )
    })
}

fn share(bytes: u64, books: &Books) -> f64 {
    bytes as f64 / books.rss_bytes.max(1) as f64
}

fn at_least_0(bytes: i64) -> u64 {
    u64::try_from(bytes).unwrap_or(0)
}

/// `a` less `b`, with its sign.
fn signed(a: u64, b: u64) -> String {
    match a.checked_sub(b) {
        Some(more) => signed_bytes(i64::try_from(more).unwrap_or(i64::MAX)),
        None => signed_bytes(-i64::try_from(b - a).unwrap_or(i64::MAX)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::books::tests::{share, stats};
    use super::*;
    use crate::proc::shares::{Named, Shares};

    fn books(inuse: u64, idle: u64, released: u64, lazy: u64, heap_rss: u64, c: u64) -> Books {
        let shares = Shares {
            go_heap: share(1 << 20, heap_rss, lazy),
            anon: share(1 << 20, c, 0),
            largest_anon: vec![Named {
                name: "7f00-7f01".to_owned(),
                rss_bytes: c * MIB,
            }],
            file: share(10, 5, 0),
            ..Shares::default()
        };
        Books::of(&stats(inuse, idle, released, 1, 0), &shares).unwrap()
    }

    fn all(books: &Books, beside: Beside) -> String {
        explain(books, &beside).join("\n")
    }

    #[test]
    fn released_memory_that_stays_in_rss_is_explained() {
        let books = books(1000, 7000, 7000, 6800, 7801, 0);
        let text = all(
            &books,
            Beside {
                released_at_start: Some(100 * MIB),
                freed_bytes: 7000 * MIB,
                ..Beside::default()
            },
        );
        assert!(
            text.contains("HeapReleased is 6.84G (it was 100M when the trace began), and 6.64G of it still counts"),
            "{text}"
        );
        assert!(text.contains("without it the RSS is 1006M"), "{text}");
        assert!(
            text.contains("changed by +6.74G")
                && text.contains("given 6.84G with MADV_FREE and 0B"),
            "{text}"
        );
        assert!(!text.contains("idle heap"), "{text}");
        let lossy = Beside {
            released_at_start: Some(100 * MIB),
            freed_bytes: 7000 * MIB,
            calls_lost: true,
            ..Beside::default()
        };
        assert!(!all(&books, lossy).contains("changed by"));
    }

    #[test]
    fn memory_of_c_is_explained() {
        let text = all(&books(100, 0, 0, 0, 101, 200), Beside::default());
        assert!(
            text.contains("200M (65.4%) of the RSS is memory that Go did not allocate (200M of it in 7f00-7f01)"),
            "{text}"
        );
        // As little as any program has.
        let text = all(&books(100, 0, 0, 0, 101, 63), Beside::default());
        assert!(!text.contains("did not allocate"), "{text}");
    }

    #[test]
    fn an_idle_heap_after_a_peak_is_explained() {
        let books = books(100, 900, 0, 0, 1001, 0);
        let beside = Beside {
            peak_in_use: Some(1000 * MIB),
            ..Beside::default()
        };
        let text = all(&books, beside);
        assert!(
            text.contains("900M of idle heap is not given back, after a peak of 1000M in this trace: 100M is in use now"),
            "{text}"
        );
    }

    #[test]
    fn pprofs_figure_is_led_to_the_rss_part_by_part() {
        let books = books(6500, 8000, 7000, 6000, 13_600, 500);
        let in_use = Some(InUse {
            bytes: 6000 * MIB,
            rate_bytes: 512 * 1024,
        });
        let text = all(
            &books,
            Beside {
                in_use,
                ..Beside::default()
            },
        );
        assert!(
            text.contains("pprof says 5.86G, top says 13.8G: the difference is +500M between"),
            "{text}"
        );
        for part in [
            "1000M idle",
            "5.86G given back and still resident",
            "1.00M stacks",
            "505M not Go's",
            "+99.0M unexplained",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn what_is_left_over_is_told_on_either_side() {
        let text = all(&books(1000, 0, 0, 0, 600, 0), Beside::default());
        assert!(
            text.contains("401M that Go counts as in use or idle is not resident"),
            "{text}"
        );
        let text = all(&books(100, 900, 900, 0, 600, 0), Beside::default());
        assert!(
            text.contains("499M more of Go's heap is resident"),
            "{text}"
        );
    }

    #[test]
    fn a_small_process_needs_no_explaining() {
        assert_eq!(
            explain(&books(10, 20, 0, 0, 31, 3), &Beside::default()),
            Vec::<String>::new()
        );
    }
}
