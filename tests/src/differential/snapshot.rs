//! What the kernel says of a process's pages: pagemap, maps and smaps, read from outside.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd as _;

use super::places::{PAGE, PAGES, Places};
use super::protocol::{
    PAGE_IS_FILE, PAGE_IS_HUGE, PAGE_IS_PFNZERO, PAGE_IS_PRESENT, PAGEMAP_SCAN, Scan, ScanRegion,
};

/// What a page is mapped as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Anonymous,
    PrivateFile,
    Shared,
}

/// What a page's mapping allows, and what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapped {
    pub kind: Kind,
    pub read: bool,
    pub write: bool,
    pub exec: bool,
    /// mlocked, where smaps was read.
    pub locked: bool,
    /// Empty in a child, likewise.
    pub wiped: bool,
    /// Which line of maps it was in.
    pub line: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PageTruth {
    pub mapped: Option<Mapped>,
    pub present: bool,
    pub zero: bool,
    pub file: bool,
    pub huge: bool,
}

impl PageTruth {
    /// There, and not the zero page: what RSS counts.
    pub fn counts(self) -> bool {
        self.present && !self.zero
    }
}

/// All pages at one time.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub pages: Vec<PageTruth>,
}

impl Snapshot {
    pub fn empty() -> Self {
        Self {
            pages: vec![PageTruth::default(); PAGES as usize],
        }
    }

    /// Reads maps (smaps, where flags matter) and pagemap of a process that stands still.
    pub fn take(pid: u32, places: Places, with_flags: bool) -> io::Result<Self> {
        let mut taken = Self::empty();
        let name = if with_flags { "smaps" } else { "maps" };
        let maps = fs::read(format!("/proc/{pid}/{name}"))?;
        taken.read_maps(&String::from_utf8_lossy(&maps), places);
        let pagemap = File::open(format!("/proc/{pid}/pagemap"))?;
        for (start, end) in places.stretches() {
            taken.scan(&pagemap, start, end, places)?;
        }
        Ok(taken)
    }

    fn read_maps(&mut self, maps: &str, places: Places) {
        let mut last: Vec<u64> = Vec::new();
        for (number, line) in maps.lines().enumerate() {
            if let Some(flags) = line.strip_prefix("VmFlags:") {
                let has = |wanted: &str| flags.split(' ').any(|flag| flag == wanted);
                let (locked, wiped) = (has("lo"), has("wf"));
                for &page in &last {
                    if let Some(mapped) = &mut self.pages[page as usize].mapped {
                        mapped.locked = locked;
                        mapped.wiped = wiped;
                    }
                }
                continue;
            }
            let Some((start, end, mapped)) = parse_mapping(line, number as u32) else {
                continue;
            };
            last.clear();
            for (from, to) in places.stretches() {
                let (mut at, end) = (start.max(from), end.min(to));
                while at < end {
                    if let Some(page) = places.page(at) {
                        self.pages[page as usize].mapped = Some(mapped);
                        last.push(page);
                    }
                    at += PAGE;
                }
            }
        }
    }

    fn scan(&mut self, pagemap: &File, start: u64, end: u64, places: Places) -> io::Result<()> {
        let mut regions = vec![ScanRegion::default(); PAGES as usize];
        let vec = regions.as_mut_ptr() as u64;
        let mut scan = Scan::present(start, end, vec, regions.len() as u64);
        // SAFETY: the kernel writes at most as many regions as it is told there are.
        let found = unsafe { libc::ioctl(pagemap.as_raw_fd(), PAGEMAP_SCAN, &raw mut scan) };
        if found < 0 {
            return Err(io::Error::last_os_error());
        }
        for region in &regions[..found as usize] {
            let mut at = region.start;
            while at < region.end {
                if let Some(page) = places.page(at) {
                    let page = &mut self.pages[page as usize];
                    page.present = region.categories & PAGE_IS_PRESENT != 0;
                    page.zero = region.categories & PAGE_IS_PFNZERO != 0;
                    page.file = region.categories & PAGE_IS_FILE != 0;
                    page.huge = region.categories & PAGE_IS_HUGE != 0;
                }
                at += PAGE;
            }
        }
        Ok(())
    }
}

/// A line of maps: `start-end perms offset dev inode name`.
fn parse_mapping(line: &str, number: u32) -> Option<(u64, u64, Mapped)> {
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let perms = words.next()?.as_bytes();
    let inode: u64 = words.nth(2)?.parse().ok()?;
    let has = |at: usize, what: u8| perms.get(at) == Some(&what);
    let kind = match (has(3, b's'), inode) {
        (true, _) => Kind::Shared,
        (false, 0) => Kind::Anonymous,
        (false, _) => Kind::PrivateFile,
    };
    let mapped = Mapped {
        kind,
        read: has(0, b'r'),
        write: has(1, b'w'),
        exec: has(2, b'x'),
        locked: false,
        wiped: false,
        line: number,
    };
    let start = u64::from_str_radix(start, 16).ok()?;
    let end = u64::from_str_radix(end, 16).ok()?;
    Some((start, end, mapped))
}

/// LazyFree and Rss of a process, in bytes.
pub fn rollup(pid: u32) -> Option<(u64, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let of = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key))?;
        let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
        Some(kib * 1024)
    };
    Some((of("LazyFree:")?, of("Rss:")?))
}
