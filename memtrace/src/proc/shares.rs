//! /proc/PID/smaps, for one question: how much of the RSS is Go's heap, and what is the rest.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};

use super::maps::{self, unescape};
use super::{for_each_line, kib_value};
use crate::ledger::event::MappingKind;

/// Files whose sums are kept; those of a process that maps more are summed up without names.
const MAX_FILES: usize = 2048;
/// The largest of them, and of the anonymous mappings, that are shown.
const MAX_SHOWN: usize = 5;
/// On 64-bit machines Go's heap begins at 0x00c0 << 32, or at that within another 1 << 40 where
/// something is in the way (runtime/malloc.go:mallocinit), and grows from there without a gap.
const HEAP_HINT: u64 = 0xc0 << 32;
const HINT_STEP: u64 = 1 << 40;

/// Sums over mappings of one kind, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    pub mapped_bytes: u64,
    pub rss_bytes: u64,
    pub lazyfree_bytes: u64,
}

/// A file, or an anonymous mapping by its address or its name. Not escaped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    pub name: String,
    pub rss_bytes: u64,
}

/// Every mapping of a process is in one of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shares {
    /// Go's heap: in use, idle and given back, and goroutine stacks.
    pub go_heap: Share,
    /// What else Go has named as its own (Go 1.25 and newer, where the kernel keeps such names).
    pub go_named: Share,
    /// `[heap]`, which malloc of the C library grows with brk. Go does not use it.
    pub brk: Share,
    /// All other private anonymous mappings: the runtime's books, and C's malloc.
    pub anon: Share,
    pub file: Share,
    /// Shared anonymous memory, tmpfs, System V.
    pub shared: Share,
    /// The first thread's stack.
    pub stack: Share,
    /// vdso and the like.
    pub special: Share,
    /// The largest files, and the largest of `anon`; largest first.
    pub largest_files: Vec<Named>,
    pub largest_anon: Vec<Named>,
}

impl Shares {
    pub fn rss_bytes(&self) -> u64 {
        [
            self.go_heap,
            self.go_named,
            self.brk,
            self.anon,
            self.file,
            self.shared,
            self.stack,
            self.special,
        ]
        .iter()
        .fold(0, |sum, share| sum.saturating_add(share.rss_bytes))
    }
}

/// Reads them; none of it where the process has no memory any more. The walk costs about 9 ms for
/// each resident GiB of 4 KiB pages, and the process's own mmap and munmap calls may wait for parts of it.
///
/// # Errors
/// Those of open(2) and read(2): EACCES without CAP_SYS_PTRACE for another user's process.
pub fn read(pid: u32) -> io::Result<Shares> {
    let file = File::open(format!("/proc/{pid}/smaps"))?;
    from_reader(BufReader::with_capacity(64 << 10, file))
}

fn from_reader(reader: impl BufRead) -> io::Result<Shares> {
    let mut sums = Sums::default();
    for_each_line(reader, |line| {
        if let Some(row) = maps::Row::parse(line) {
            sums.close();
            sums.open(&row);
        } else if let Some(bytes) = kib_value(line, "Rss:") {
            sums.current.share.rss_bytes = bytes;
        } else if let Some(bytes) = kib_value(line, "LazyFree:") {
            sums.current.share.lazyfree_bytes = bytes;
        }
        true
    })?;
    sums.close();
    Ok(sums.finish())
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Owner {
    #[default]
    None,
    GoHeap,
    GoNamed,
    Brk,
    Anon,
    File,
    Shared,
    Stack,
    Special,
}

#[derive(Default)]
struct Sums {
    shares: Shares,
    current: Current,
    /// Where the part of Go's heap ends that is read so far.
    go_end: Option<u64>,
    files: HashMap<String, u64>,
}

#[derive(Default)]
struct Current {
    owner: Owner,
    share: Share,
    name: String,
}

impl Sums {
    fn open(&mut self, row: &maps::Row<'_>) {
        let (kind, name) = row.kind();
        let owner = match kind {
            MappingKind::Heap => Owner::Brk,
            MappingKind::Stack => Owner::Stack,
            MappingKind::Special => Owner::Special,
            MappingKind::File if is_memory(row, name) => Owner::Shared,
            MappingKind::File => Owner::File,
            MappingKind::Anon if row.shared => Owner::Shared,
            MappingKind::Anon => match name.and_then(|name| name.strip_prefix(b" Go: ")) {
                Some(b"heap" | b"heap reservation") => Owner::GoHeap,
                Some(_) => Owner::GoNamed,
                None if self.goes_on(row.range.start) => Owner::GoHeap,
                None => Owner::Anon,
            },
        };
        if owner == Owner::GoHeap {
            self.go_end = Some(row.range.end);
        }
        self.current = Current {
            owner,
            share: Share {
                mapped_bytes: row.range.end - row.range.start,
                ..Share::default()
            },
            name: match (owner, name) {
                (Owner::File | Owner::Anon, Some(name)) => unescape(name),
                (Owner::Anon, None) => format!("{:x}-{:x}", row.range.start, row.range.end),
                _ => String::new(),
            },
        };
    }

    /// Whether a mapping that begins there is a part of Go's heap.
    fn goes_on(&self, start: u64) -> bool {
        start % HINT_STEP == HEAP_HINT || self.go_end == Some(start)
    }

    fn close(&mut self) {
        let Current { owner, share, name } = std::mem::take(&mut self.current);
        let shares = &mut self.shares;
        let sum = match owner {
            Owner::None => return,
            Owner::GoHeap => &mut shares.go_heap,
            Owner::GoNamed => &mut shares.go_named,
            Owner::Brk => &mut shares.brk,
            Owner::Anon => &mut shares.anon,
            Owner::File => &mut shares.file,
            Owner::Shared => &mut shares.shared,
            Owner::Stack => &mut shares.stack,
            Owner::Special => &mut shares.special,
        };
        sum.mapped_bytes = sum.mapped_bytes.saturating_add(share.mapped_bytes);
        sum.rss_bytes = sum.rss_bytes.saturating_add(share.rss_bytes);
        sum.lazyfree_bytes = sum.lazyfree_bytes.saturating_add(share.lazyfree_bytes);
        let rss_bytes = share.rss_bytes;
        match owner {
            Owner::Anon => largest(&mut shares.largest_anon, Named { name, rss_bytes }),
            Owner::File => {
                if let Some(sum) = self.files.get_mut(&name) {
                    *sum = sum.saturating_add(rss_bytes);
                } else if self.files.len() < MAX_FILES {
                    self.files.insert(name, rss_bytes);
                }
            }
            _ => {}
        }
    }

    fn finish(mut self) -> Shares {
        let mut files: Vec<_> = self.files.into_iter().collect();
        // Of equals the first by name, so that the same process always shows the same.
        files.sort_by(|(a, _), (b, _)| a.cmp(b));
        for (name, rss_bytes) in files {
            largest(&mut self.shares.largest_files, Named { name, rss_bytes });
        }
        self.shares
    }
}

/// Memory behind a file's name: shared memory of System V, memfd, tmpfs under /dev/shm.
fn is_memory(row: &maps::Row<'_>, name: Option<&[u8]>) -> bool {
    let name = name.unwrap_or_default();
    row.shared
        && [&b"/SYSV"[..], b"/memfd:", b"/dev/shm/", b"/dev/zero"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
}

fn largest(list: &mut Vec<Named>, one: Named) {
    if one.rss_bytes == 0 {
        return;
    }
    let at = list.partition_point(|known| known.rss_bytes >= one.rss_bytes);
    if at < MAX_SHOWN {
        list.insert(at, one);
        list.truncate(MAX_SHOWN);
    }
}

#[cfg(test)]
#[path = "shares_tests.rs"]
mod tests;
