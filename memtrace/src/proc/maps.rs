//! /proc/PID/maps: what a process has mapped, row by row (fs/proc/task_mmu.c:show_map_vma).

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::ops::Range;
use std::sync::Arc;

use super::{bounded_name, for_each_line, vmflags};
use crate::clock;
use crate::ledger::event::{Mapping, MappingKind, Mappings, VmFlags};

/// Rows that are kept; a process with more is shown without the rest. The kernel's own default limit is 65,530.
const MAX_ROWS: usize = 1 << 20;
/// All names together that are kept, in bytes: a target can invent a name of 4096 bytes for every row.
const MAX_NAMES: usize = 64 << 20;
/// Addresses from here on are the kernel's: `[vsyscall]` is there, and no fault of the program's own.
const KERNEL_HALF: u64 = 1 << 63;

/// The mappings of a process in ascending order, none over another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Maps {
    pub list: Vec<(Range<u64>, Mapping)>,
    /// The end of `[heap]`: the program break, rounded up to a page.
    pub heap_end: Option<u64>,
    /// Rows that made no sense, or did not fit, and are left out.
    pub skipped: usize,
}

impl Maps {
    /// As the ledger takes it: `at_ns` is when the read began, now is when it has ended. `fresh`: right
    /// after an exec, when nothing was populated by anyone before.
    pub fn into_event(self, pid: u32, at_ns: u64, fresh: bool) -> Mappings {
        Mappings {
            at_ns,
            until_ns: clock::now_ns().max(at_ns),
            pid,
            fresh,
            heap_end: self.heap_end,
            whole: self.skipped == 0,
            list: self.list,
        }
    }

    /// Adds what smaps showed, to each mapping that a range of `flags` (in ascending order) touches.
    pub fn mark(&mut self, flags: &vmflags::Flags) {
        for (range, mapping) in &mut self.list {
            let first = flags.partition_point(|(flagged, _)| flagged.end <= range.start);
            if let Some((flagged, flags)) = flags.get(first)
                && flagged.start < range.end
            {
                mapping.flags = *flags;
            }
        }
    }
}

/// Reads the mappings of a process.
///
/// The kernel answers in pieces: while the process maps and unmaps, the list is no snapshot, but
/// each piece is true for its moment and addresses only ascend. It is empty for a process that
/// is ending.
///
/// # Errors
/// Those of open(2) and read(2): EACCES without CAP_SYS_PTRACE for another user's process.
pub fn read(pid: u32) -> io::Result<Maps> {
    let file = File::open(format!("/proc/{pid}/maps"))?;
    from_reader(BufReader::with_capacity(64 * 1024, file))
}

/// The mappings in the text of a maps file.
pub fn parse(text: &[u8]) -> Maps {
    // Reading from memory cannot fail.
    from_reader(text).unwrap_or_default()
}

fn from_reader(reader: impl BufRead) -> io::Result<Maps> {
    let mut rows = Rows::default();
    for_each_line(reader, |line| {
        rows.add(line);
        true
    })?;
    Ok(rows.maps)
}

#[derive(Default)]
struct Rows {
    maps: Maps,
    /// Each name once, since a library's path comes with every one of its segments.
    names: HashSet<Arc<str>>,
    name_bytes: usize,
    end: u64,
}

impl Rows {
    fn add(&mut self, line: &[u8]) {
        let Some(row) = Row::parse(line) else {
            self.maps.skipped += usize::from(!line.is_empty());
            return;
        };
        if row.range.start >= KERNEL_HALF {
            return;
        }
        // A mapping that grew between two pieces of the answer can come twice.
        let range = row.range.start.max(self.end)..row.range.end.min(KERNEL_HALF);
        if range.is_empty() || self.maps.list.len() >= MAX_ROWS {
            self.maps.skipped += 1;
            return;
        }
        self.end = range.end;
        let (kind, name) = row.kind();
        if kind == MappingKind::Heap {
            self.maps.heap_end = Some(range.end);
        }
        let mapping = Mapping {
            kind,
            shared: row.shared,
            flags: VmFlags::default(),
            name: name.and_then(|name| self.intern(name)),
        };
        self.maps.list.push((range, mapping));
    }

    fn intern(&mut self, bytes: &[u8]) -> Option<Arc<str>> {
        let name = unescape(bytes);
        if let Some(known) = self.names.get(name.as_str()) {
            return Some(Arc::clone(known));
        }
        if self.name_bytes + name.len() > MAX_NAMES {
            return None;
        }
        self.name_bytes += name.len();
        let name: Arc<str> = name.into();
        self.names.insert(Arc::clone(&name));
        Some(name)
    }
}

/// One row: `start-end perms offset dev inode   name`.
pub(super) struct Row<'a> {
    pub(super) range: Range<u64>,
    pub(super) shared: bool,
    pub(super) executable: bool,
    /// Major and minor number, and the inode: all zero where no file is behind it.
    pub(super) device: (u32, u32),
    pub(super) inode: u64,
    pub(super) name: &'a [u8],
}

impl<'a> Row<'a> {
    pub(super) fn parse(line: &'a [u8]) -> Option<Self> {
        let mut rest = line;
        let mut next = || {
            let at = rest.iter().position(|&b| b == b' ').unwrap_or(rest.len());
            let (word, tail) = rest.split_at(at);
            rest = tail.get(1..).unwrap_or_default();
            std::str::from_utf8(word).ok()
        };
        let (addresses, perms, offset, dev, inode) = (next()?, next()?, next()?, next()?, next()?);
        let range = range(addresses)?;
        let &[b'r' | b'-', b'w' | b'-', execute @ (b'x' | b'-'), share] = perms.as_bytes() else {
            return None;
        };
        let shared = match share {
            b's' => true,
            b'p' => false,
            _ => return None,
        };
        u64::from_str_radix(offset, 16).ok()?;
        let (major, minor) = dev.split_once(':')?;
        let major = u32::from_str_radix(major, 16).ok()?;
        let minor = u32::from_str_radix(minor, 16).ok()?;
        let inode: u64 = inode.parse().ok()?;
        // The name is padded to a column; a file name cannot begin with a blank, since d_path's begins with `/` or a word.
        let padding = rest.iter().take_while(|&&b| b == b' ').count();
        Some(Self {
            range,
            shared,
            executable: execute == b'x',
            device: (major, minor),
            inode,
            name: &rest[padding..],
        })
    }

    /// There is a file behind it.
    pub(super) fn is_file(&self) -> bool {
        self.device != (0, 0) || self.inode != 0
    }

    /// What the row is, and the name that goes with it.
    pub(super) fn kind(&self) -> (MappingKind, Option<&'a [u8]>) {
        let name = (!self.name.is_empty()).then_some(self.name);
        if self.is_file() {
            if let Some(given) = bracketed(self.name, b"[anon_shmem:") {
                return (MappingKind::File, Some(given));
            }
            // A private mapping of /dev/zero is anonymous memory to the kernel (drivers/char/mem.c:mmap_zero).
            if self.name == b"/dev/zero" && !self.shared {
                return (MappingKind::Anon, name);
            }
            return (MappingKind::File, name);
        }
        // Without a file behind it, a name in brackets is the kernel's own word.
        if let Some(given) = bracketed(self.name, b"[anon:") {
            return (MappingKind::Anon, Some(given));
        }
        match self.name {
            b"" => (MappingKind::Anon, None),
            b"[heap]" => (MappingKind::Heap, None),
            b"[stack]" => (MappingKind::Stack, None),
            // Up to Linux 4.4 the stacks of threads were named too.
            stack if stack.starts_with(b"[stack:") => (MappingKind::Stack, None),
            special if special.starts_with(b"[") => (MappingKind::Special, name),
            _ => (MappingKind::File, name),
        }
    }
}

/// `start-end` in hexadecimal: not empty, and both whole pages.
pub(super) fn range(text: &str) -> Option<Range<u64>> {
    let (start, end) = text.split_once('-')?;
    // from_str_radix would take a sign.
    if start.starts_with('+') || end.starts_with('+') {
        return None;
    }
    let start = u64::from_str_radix(start, 16).ok()?;
    let end = u64::from_str_radix(end, 16).ok()?;
    (start < end && start % 4096 == 0 && end % 4096 == 0).then_some(start..end)
}

fn bracketed<'a>(name: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    name.strip_prefix(prefix)?.strip_suffix(b"]")
}

/// The name with `\012` turned back into a newline, the only byte that the kernel escapes here.
pub(super) fn unescape(name: &[u8]) -> String {
    let mut out = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((&byte, tail)) = rest.split_first() {
        if let Some(after) = rest.strip_prefix(b"\\012") {
            out.push(b'\n');
            rest = after;
        } else {
            out.push(byte);
            rest = tail;
        }
    }
    bounded_name(&out)
}

#[cfg(test)]
#[path = "maps_tests.rs"]
mod tests;
