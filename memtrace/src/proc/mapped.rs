//! The files that a process runs code from: its program and its libraries, each once.

use std::collections::HashSet;
use std::io::{self, BufRead};
use std::ops::Range;

use super::for_each_line;
use super::maps::{Row, unescape};

/// A program has some hundred libraries at most.
const MAX_FILES: usize = 2048;

/// A file that is mapped executable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappedFile {
    /// The first executable mapping of it, as /proc/PID/map_files names it.
    pub range: Range<u64>,
    /// Major and minor number. On btrfs and overlayfs not always those that stat(2) gives.
    pub device: (u32, u32),
    pub inode: u64,
    /// As the process's own root has it, with ` (deleted)` where it was. Not escaped.
    pub path: String,
}

impl MappedFile {
    /// The path without the kernel's remark that it leads nowhere any more.
    pub fn plain_path(&self) -> &str {
        self.path.strip_suffix(" (deleted)").unwrap_or(&self.path)
    }
}

/// The files in the text of a maps file, in the order of their first executable mapping, and
/// whether these are all. `take` is told the bytes of each line and says whether to look at it.
///
/// # Errors
/// Those of the reader.
pub fn from_reader(
    reader: impl BufRead,
    take: impl Fn(usize) -> bool,
) -> io::Result<(Vec<MappedFile>, bool)> {
    let mut files = Vec::new();
    let mut seen = HashSet::new();
    let mut whole = true;
    for_each_line(reader, |line| {
        whole = take(line.len());
        if whole
            && let Some(row) = Row::parse(line)
            && row.executable
            && row.is_file()
            && seen.insert((row.device, row.inode))
        {
            whole = files.len() < MAX_FILES;
            if !whole {
                return false;
            }
            files.push(MappedFile {
                device: row.device,
                inode: row.inode,
                path: unescape(row.name),
                range: row.range,
            });
        }
        whole
    })?;
    Ok((files, whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_comes_once_with_its_executable_mapping() {
        let text = b"\
            55d0c0000000-55d0c0001000 r--p 00000000 fe:00 7  /bin/x\n\
            55d0c0001000-55d0c0002000 r-xp 00001000 fe:00 7  /bin/x\n\
            55d0c0003000-55d0c0004000 r-xp 00001000 fe:00 7  /bin/x\n\
            7f0000000000-7f0000001000 r-xp 00000000 00:00 0 \n\
            7f0000001000-7f0000002000 r-xp 00000000 00:00 0  [vdso]\n\
            7f0000003000-7f0000004000 r-xp 00000000 fe:00 8  /lib/a b.so (deleted)\n\
            7f0000005000-7f0000006000 rw-p 00000000 fe:00 9  /lib/data\n";
        let (files, whole) = from_reader(&text[..], |_| true).unwrap();
        assert!(whole);
        let found: Vec<_> = files
            .iter()
            .map(|file| (file.range.start, file.inode, file.plain_path()))
            .collect();
        assert_eq!(
            found,
            [
                (0x55d0_c000_1000, 7, "/bin/x"),
                (0x7f00_0000_3000, 8, "/lib/a b.so")
            ]
        );
        assert_eq!(files[0].device, (0xfe, 0));
    }

    #[test]
    fn what_is_not_read_to_its_end_is_said_to_be() {
        let line = |at: usize| {
            let end = at + 1;
            format!("{at:x}000-{end:x}000 r-xp 00000000 fe:00 {at}  /lib/{at}\n")
        };
        let text: String = (1..=MAX_FILES).map(line).collect();
        let (files, whole) = from_reader(text.as_bytes(), |_| true).unwrap();
        assert_eq!((files.len(), whole), (MAX_FILES, true));
        let more = text + &line(MAX_FILES + 1);
        let (files, whole) = from_reader(more.as_bytes(), |_| true).unwrap();
        assert_eq!((files.len(), whole), (MAX_FILES, false));
        let left = std::cell::Cell::new(100usize);
        let take = |bytes: usize| left.replace(left.get().saturating_sub(bytes)) >= bytes;
        let (files, whole) = from_reader(more.as_bytes(), take).unwrap();
        assert_eq!(
            (files.len(), whole),
            (100 / line(1).trim_end().len(), false)
        );
    }
}
