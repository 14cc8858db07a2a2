//! Go's own books beside the kernel's: one table whose rows sum to the RSS.
//!
//! Where memory is resident, /proc/PID/smaps tells; what it is good for, MemStats does. What the
//! two leave over, on either side, is a row of its own.

use super::memstats::MemStats;
use crate::proc::shares::Shares;
use crate::units::Bytes;

/// Go maps its heap in steps of this (runtime/malloc.go:heapArenaBytes): it may have grown by one
/// between the two looks.
const ARENA_BYTES: u64 = 64 << 20;

/// What a row stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Row {
    /// HeapInuse.
    HeapInUse,
    /// HeapIdle without HeapReleased.
    HeapIdle,
    /// Lazily free in Go's heap: given back, and not taken by the kernel yet.
    HeapLazilyFree,
    /// StackInuse: goroutines' stacks.
    Stacks,
    /// Of the runtime itself.
    Metadata,
    /// malloc of C by brk.
    CHeap,
    /// Other private anonymous memory: malloc of C by mmap, memory the program has mapped itself.
    OtherAnon,
    Files,
    Shared,
    /// The first thread's stack, vdso.
    Rest,
    /// The RSS without all the others: negative where the books claim more than is resident.
    Unexplained,
}

impl Row {
    /// The word in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::HeapInUse => "heap_in_use",
            Self::HeapIdle => "heap_idle",
            Self::HeapLazilyFree => "heap_lazily_free",
            Self::Stacks => "stacks",
            Self::Metadata => "metadata",
            Self::CHeap => "c_heap",
            Self::OtherAnon => "other_anonymous",
            Self::Files => "files",
            Self::Shared => "shared",
            Self::Rest => "rest",
            Self::Unexplained => "unexplained",
        }
    }

    /// Nothing of Go's.
    pub fn is_not_go(self) -> bool {
        matches!(
            self,
            Self::CHeap | Self::OtherAnon | Self::Files | Self::Shared | Self::Rest
        )
    }
}

/// Where a figure comes from, and so how far it can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// Resident, by smaps.
    Smaps,
    /// By MemStats: address space, which may not all be resident.
    MemStats,
    /// MemStats' figure, or what smaps leaves room for if that is less: no more than this.
    AtMost,
    /// What is left of smaps' figure after that: no less than this.
    AtLeast,
    /// The difference.
    Difference,
}

impl Source {
    /// The word in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Smaps => "smaps",
            Self::MemStats => "memstats",
            Self::AtMost => "at_most",
            Self::AtLeast => "at_least",
            Self::Difference => "difference",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    pub row: Row,
    pub bytes: i64,
    pub source: Source,
}

/// The table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Books {
    /// The sum of the smaps that was read.
    pub rss_bytes: u64,
    /// Every row once, in the order in which they are shown; they sum to the RSS.
    pub lines: Vec<Line>,
    pub shares: Shares,
    pub stats: MemStats,
}

impl Books {
    /// Sets the two side by side.
    ///
    /// # Errors
    /// Why the MemStats can't be this process's.
    pub fn of(stats: &MemStats, shares: &Shares) -> Result<Self, String> {
        if let Some(why) = stats.contradiction() {
            return Err(format!("its MemStats contradict themselves: {why}"));
        }
        let heap = shares.go_heap;
        if heap.mapped_bytes == 0 {
            return Err("this process has nothing mapped where Go's heap lies: it is no Go program, or the URL leads to another one".to_owned());
        }
        let claimed = stats.heap_sys.saturating_add(stats.stack_inuse);
        if claimed > heap.mapped_bytes.saturating_add(ARENA_BYTES) {
            return Err(format!(
                "its MemStats speak of {} of heap and stacks, and this process has {} mapped for them: \
                 the URL leads to another process",
                Bytes(claimed),
                Bytes(heap.mapped_bytes)
            ));
        }
        let mut lines = vec![
            line(Row::HeapInUse, stats.heap_inuse, Source::MemStats),
            line(Row::HeapIdle, stats.idle_kept(), Source::MemStats),
            line(Row::HeapLazilyFree, heap.lazyfree_bytes, Source::Smaps),
            line(Row::Stacks, stats.stack_inuse, Source::MemStats),
        ];
        let anon = shares.anon.rss_bytes;
        if shares.go_named.mapped_bytes > 0 {
            // Go names all that it maps.
            lines.push(line(
                Row::Metadata,
                shares.go_named.rss_bytes,
                Source::Smaps,
            ));
            lines.push(line(Row::CHeap, shares.brk.rss_bytes, Source::Smaps));
            lines.push(line(Row::OtherAnon, anon, Source::Smaps));
        } else {
            let metadata = stats.metadata().min(anon);
            lines.push(line(Row::Metadata, metadata, Source::AtMost));
            lines.push(line(Row::CHeap, shares.brk.rss_bytes, Source::Smaps));
            lines.push(line(Row::OtherAnon, anon - metadata, Source::AtLeast));
        }
        lines.extend([
            line(Row::Files, shares.file.rss_bytes, Source::Smaps),
            line(Row::Shared, shares.shared.rss_bytes, Source::Smaps),
            line(
                Row::Rest,
                shares
                    .stack
                    .rss_bytes
                    .saturating_add(shares.special.rss_bytes),
                Source::Smaps,
            ),
        ]);
        let rss_bytes = shares.rss_bytes();
        let explained = lines
            .iter()
            .fold(0i64, |sum, line| sum.saturating_add(line.bytes));
        lines.push(Line {
            row: Row::Unexplained,
            bytes: signed(rss_bytes).saturating_sub(explained),
            source: Source::Difference,
        });
        Ok(Self {
            rss_bytes,
            lines,
            shares: shares.clone(),
            stats: *stats,
        })
    }

    pub fn bytes(&self, row: Row) -> i64 {
        self.lines
            .iter()
            .find(|line| line.row == row)
            .map_or(0, |line| line.bytes)
    }

    /// All rows that are nothing of Go's.
    pub fn not_go_bytes(&self) -> i64 {
        self.lines
            .iter()
            .filter(|line| line.row.is_not_go())
            .fold(0, |sum, line| sum.saturating_add(line.bytes))
    }
}

fn line(row: Row, bytes: u64, source: Source) -> Line {
    Line {
        row,
        bytes: signed(bytes),
        source,
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
pub mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::proc::shares::Share;

    pub const MIB: u64 = 1 << 20;

    pub fn share(mapped: u64, rss: u64, lazy: u64) -> Share {
        Share {
            mapped_bytes: mapped * MIB,
            rss_bytes: rss * MIB,
            lazyfree_bytes: lazy * MIB,
        }
    }

    pub fn stats(inuse: u64, idle: u64, released: u64, stacks: u64, metadata: u64) -> MemStats {
        MemStats {
            heap_alloc: inuse * MIB * 9 / 10,
            heap_sys: (inuse + idle) * MIB,
            heap_idle: idle * MIB,
            heap_inuse: inuse * MIB,
            heap_released: released * MIB,
            stack_inuse: stacks * MIB,
            stack_sys: stacks * MIB,
            gc_sys: metadata * MIB,
            sys: (inuse + idle + stacks + metadata) * MIB,
            ..MemStats::default()
        }
    }

    fn row(books: &Books, row: Row) -> (i64, Source) {
        let line = books.lines.iter().find(|line| line.row == row).unwrap();
        (line.bytes / MIB as i64, line.source)
    }

    #[test]
    fn lazily_free_memory_and_cs_are_rows_of_their_own() {
        let shares = Shares {
            go_heap: share(1024, 900, 500),
            brk: share(40, 30, 0),
            anon: share(300, 215, 0),
            file: share(20, 9, 0),
            stack: share(1, 1, 0),
            ..Shares::default()
        };
        let books = Books::of(&stats(300, 700, 620, 4, 15), &shares).unwrap();
        assert_eq!(books.rss_bytes, 1155 * MIB);
        assert_eq!(row(&books, Row::HeapInUse), (300, Source::MemStats));
        assert_eq!(row(&books, Row::HeapIdle), (80, Source::MemStats));
        assert_eq!(row(&books, Row::HeapLazilyFree), (500, Source::Smaps));
        assert_eq!(row(&books, Row::Stacks), (4, Source::MemStats));
        assert_eq!(row(&books, Row::Metadata), (15, Source::AtMost));
        assert_eq!(row(&books, Row::OtherAnon), (200, Source::AtLeast));
        assert_eq!(row(&books, Row::CHeap), (30, Source::Smaps));
        // 900 resident in the heap: 884 are on the books.
        assert_eq!(row(&books, Row::Unexplained), (16, Source::Difference));
        assert_eq!(books.not_go_bytes(), 240 * MIB as i64);
    }

    #[test]
    fn books_that_claim_more_than_is_resident_leave_a_negative_row() {
        let shares = Shares {
            go_heap: share(1024, 200, 0),
            anon: share(30, 5, 0),
            ..Shares::default()
        };
        let books = Books::of(&stats(300, 0, 0, 0, 9), &shares).unwrap();
        assert_eq!(row(&books, Row::Unexplained), (-100, Source::Difference));
        assert_eq!(row(&books, Row::Metadata), (5, Source::AtMost));
        assert_eq!(row(&books, Row::OtherAnon), (0, Source::AtLeast));
    }

    #[test]
    fn named_mappings_need_no_guess() {
        let shares = Shares {
            go_heap: share(128, 100, 0),
            go_named: share(90, 7, 0),
            anon: share(300, 200, 0),
            ..Shares::default()
        };
        let books = Books::of(&stats(100, 0, 0, 0, 15), &shares).unwrap();
        assert_eq!(row(&books, Row::Metadata), (7, Source::Smaps));
        assert_eq!(row(&books, Row::OtherAnon), (200, Source::Smaps));
    }

    #[test]
    fn another_processs_figures_are_refused() {
        let none = Books::of(&stats(1, 0, 0, 0, 0), &Shares::default()).unwrap_err();
        assert!(none.contains("no Go program"), "{none}");
        let small = Shares {
            go_heap: share(64, 10, 0),
            ..Shares::default()
        };
        // One arena more may have come meanwhile.
        assert!(Books::of(&stats(127, 0, 0, 1, 0), &small).is_ok());
        let other = Books::of(&stats(128, 0, 0, 1, 0), &small).unwrap_err();
        assert!(
            other.contains("129M of heap and stacks") && other.contains("another process"),
            "{other}"
        );
        let lie = MemStats {
            heap_idle: 1,
            ..MemStats::default()
        };
        assert!(Books::of(&lie, &small).unwrap_err().contains("contradict"));
    }

    proptest! {
        #[test]
        fn the_rows_sum_to_the_rss(
            figures in proptest::array::uniform5(0u64..1 << 20),
            resident in proptest::array::uniform8(0u64..1 << 20),
            lazy in 0u64..1 << 20,
        ) {
            let [inuse, kept, released, stacks, metadata] = figures;
            let [heap, named, brk, anon, file, shared, stack, special] =
                resident.map(|rss_bytes| Share { mapped_bytes: rss_bytes, rss_bytes, lazyfree_bytes: 0 });
            let shares = Shares {
                go_heap: Share { mapped_bytes: 1 << 40, lazyfree_bytes: lazy, ..heap },
                go_named: named, brk, anon, file, shared, stack, special,
                ..Shares::default()
            };
            let stats = stats(inuse, kept + released, released, stacks, metadata);
            if let Ok(books) = Books::of(&stats, &shares) {
                let sum: i64 = books.lines.iter().map(|line| line.bytes).sum();
                prop_assert_eq!(sum, books.rss_bytes as i64);
                prop_assert_eq!(books.rss_bytes, resident.iter().sum::<u64>());
            }
        }
    }
}
