//! /proc/PID/smaps, for one question: which mappings of a process hold lazily freed memory.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::ops::Range;

use super::{for_each_line, kib_value, maps};
use crate::ledger::event::MappingKind;

/// Mappings that are kept; the kernel's default limit for a process is 65,530.
const MAX_MAPPINGS: usize = 1 << 18;
/// What is kept of a mapping's name, in bytes: enough to recognise it by.
const NAME_BYTES: usize = 64;

/// A mapping with lazily freed pages in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LazyMapping {
    pub range: Range<u64>,
    /// What is resident of it, lazily freed pages included.
    pub rss_bytes: u64,
    pub lazyfree_bytes: u64,
    /// `[heap]`, `[stack]`, or what the program called it. Not escaped.
    pub name: Option<Box<str>>,
}

/// What lazily freed memory a process holds, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LazyMappings {
    /// Private anonymous ones in ascending order, none over another.
    pub list: Vec<LazyMapping>,
    /// LazyFree of mappings that are locked in memory: the kernel takes nothing of those.
    pub locked_bytes: u64,
    /// LazyFree of mappings of any other kind.
    pub other_bytes: u64,
    /// Mappings beyond those that are kept.
    pub skipped: u64,
}

impl LazyMappings {
    /// What of it the kernel can be asked to take.
    pub fn lazyfree_bytes(&self) -> u64 {
        self.list
            .iter()
            .fold(0, |sum, one| sum.saturating_add(one.lazyfree_bytes))
    }
}

/// Reads them. The walk costs about 9 ms for each resident GiB of 4 KiB pages, and the target's own
/// mmap and munmap calls may wait for parts of it.
///
/// # Errors
/// Those of open(2) and read(2): EACCES without CAP_SYS_PTRACE for another user's process.
pub fn read(pid: u32) -> io::Result<LazyMappings> {
    let file = File::open(format!("/proc/{pid}/smaps"))?;
    from_reader(BufReader::with_capacity(64 * 1024, file))
}

/// Those in the text of a smaps file.
pub fn parse(text: &[u8]) -> LazyMappings {
    // Reading from memory cannot fail.
    from_reader(text).unwrap_or_default()
}

fn from_reader(reader: impl BufRead) -> io::Result<LazyMappings> {
    let mut rows = Rows::default();
    for_each_line(reader, |line| {
        rows.add(line);
        true
    })?;
    rows.close();
    Ok(rows.found)
}

#[derive(Default)]
struct Rows {
    found: LazyMappings,
    current: Option<Current>,
    end: u64,
}

/// The mapping whose lines are being read.
struct Current {
    mapping: LazyMapping,
    private_anon: bool,
    locked: bool,
}

impl Rows {
    fn add(&mut self, line: &[u8]) {
        // A row's addresses have no colon before a blank, and every key ends in one.
        if let Some(row) = maps::Row::parse(line) {
            self.close();
            self.current = Some(Current::of(&row));
            return;
        }
        let Some(current) = &mut self.current else {
            return;
        };
        if let Some(bytes) = kib_value(line, "Rss:") {
            current.mapping.rss_bytes = bytes;
        } else if let Some(bytes) = kib_value(line, "LazyFree:") {
            current.mapping.lazyfree_bytes = bytes;
        } else if let Some(flags) = line.strip_prefix(b"VmFlags:") {
            current.flags(flags);
        }
    }

    /// The mapping's lines are over.
    fn close(&mut self) {
        let Some(current) = self.current.take() else {
            return;
        };
        let mapping = current.mapping;
        let lazy = mapping.lazyfree_bytes;
        if lazy == 0 {
            return;
        }
        if current.locked {
            self.found.locked_bytes = self.found.locked_bytes.saturating_add(lazy);
        } else if !current.private_anon {
            self.found.other_bytes = self.found.other_bytes.saturating_add(lazy);
        } else if self.found.list.len() >= MAX_MAPPINGS || mapping.range.start < self.end {
            // Or one that grew between two pieces of the kernel's answer, and came twice.
            self.found.skipped += 1;
        } else {
            self.end = mapping.range.end;
            self.found.list.push(mapping);
        }
    }
}

impl Current {
    fn of(row: &maps::Row<'_>) -> Self {
        let (kind, name) = row.kind();
        let name = match kind {
            MappingKind::Heap => Some("[heap]".into()),
            MappingKind::Stack => Some("[stack]".into()),
            _ => name.map(|name| {
                let name = &name[..name.len().min(NAME_BYTES)];
                String::from_utf8_lossy(name).into()
            }),
        };
        let anon = matches!(
            kind,
            MappingKind::Anon | MappingKind::Heap | MappingKind::Stack
        );
        Self {
            mapping: LazyMapping {
                range: row.range.clone(),
                rss_bytes: 0,
                lazyfree_bytes: 0,
                name,
            },
            private_anon: anon && !row.shared,
            locked: false,
        }
    }

    /// Two letters each (fs/proc/task_mmu.c:show_smap_vma_flags).
    fn flags(&mut self, flags: &[u8]) {
        for flag in flags.split(|&b| b == b' ') {
            match flag {
                b"lo" => self.locked = true,
                // Shared memory, huge pages of hugetlbfs, and what has no pages of its own.
                b"sh" | b"ht" | b"pf" | b"io" => self.private_anon = false,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
#[path = "lazy_tests.rs"]
mod tests;
