//! A stretch of pages that a workload maps, touches, gives back and looks at.

use std::io;
use std::ptr;

use crate::scene::{fail, must};

/// Pages that pagemap is asked about at a time.
const PAGEMAP_CHUNK: usize = 512;

/// The size of a base page.
pub fn page_bytes() -> usize {
    // SAFETY: sysconf only reads a constant.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

/// Some pages at an address. A plain description: it does not unmap, for what becomes of the
/// pages is what the workloads are about.
#[derive(Clone, Copy, Debug)]
pub struct Area {
    pub start: usize,
    pub pages: usize,
}

/// What pagemap says of an area's pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Residence {
    pub present: usize,
    pub swapped: usize,
}

impl Area {
    /// Private anonymous memory, not populated.
    pub fn map(pages: usize) -> Self {
        Self::map_with(
            pages,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
        )
    }

    /// Memory wherever the kernel likes.
    pub fn map_with(pages: usize, prot: i32, flags: i32, file: i32) -> Self {
        Self::map_at(0, pages, prot, flags, file)
    }

    /// Memory at an address, which is a hint unless the flags say more.
    pub fn map_at(start: usize, pages: usize, prot: i32, flags: i32, file: i32) -> Self {
        let len = pages * page_bytes();
        // SAFETY: the callers that pass MAP_FIXED do so over areas of their own.
        let at = unsafe { libc::mmap(start as *mut _, len, prot, flags, file, 0) };
        if at == libc::MAP_FAILED {
            fail("mmap");
        }
        Self {
            start: at as usize,
            pages,
        }
    }

    /// Private anonymous memory at exactly this area's address, where nothing is mapped.
    pub fn map_again(self) -> Self {
        let again = Self::map_at(
            self.start,
            self.pages,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE,
            -1,
        );
        if again.start != self.start {
            fail("the address was not free");
        }
        again
    }

    /// Private anonymous memory whose start is aligned, cut out of a larger mapping.
    pub fn map_aligned(pages: usize, align_bytes: usize) -> Self {
        let wide = Self::map(pages + align_bytes / page_bytes());
        Self {
            start: wide.start.next_multiple_of(align_bytes),
            pages,
        }
    }

    /// Some of the pages, by index.
    pub fn part(self, from: usize, to: usize) -> Self {
        assert!(from <= to && to <= self.pages, "the part is inside");
        Self {
            start: self.start + from * page_bytes(),
            pages: to - from,
        }
    }

    pub fn bytes(self) -> usize {
        self.pages * page_bytes()
    }

    /// Writes a byte to each page.
    pub fn write(self) {
        self.write_every(1);
    }

    /// Writes a byte to the first page of each group of `step` pages.
    pub fn write_every(self, step: usize) {
        for page in (0..self.pages).step_by(step) {
            // SAFETY: the area is mapped and writable wherever a workload writes to it, and
            // nothing of Rust's lives in it.
            unsafe { ptr::write_volatile((self.start + page * page_bytes()) as *mut u8, 1) };
        }
    }

    /// Reads a byte of each page.
    pub fn read(self) {
        for page in 0..self.pages {
            // SAFETY: as in write_every.
            unsafe { ptr::read_volatile((self.start + page * page_bytes()) as *const u8) };
        }
    }

    /// madvise over all of it: the kernel's answer, a negative errno on failure.
    pub fn advise(self, advice: i32) -> i64 {
        advise(self.start, self.bytes(), advice)
    }

    /// madvise that must not fail.
    pub fn give_back(self, advice: i32) {
        if self.advise(advice) != 0 {
            fail("madvise");
        }
    }

    /// As [`Area::give_back`]: how many bytes were in memory before and are not any more.
    pub fn released_by(self, advice: i32) -> usize {
        let before = self.residence().present;
        self.give_back(advice);
        (before - self.residence().present) * page_bytes()
    }

    pub fn unmap(self) {
        // SAFETY: the area is the workload's own, and nothing of Rust's lives in it.
        must(
            unsafe { libc::munmap(self.start as *mut _, self.bytes()) },
            "munmap",
        );
    }

    /// mremap: where the pages are afterwards.
    pub fn remap(self, new_pages: usize, flags: i32, new_start: usize) -> Self {
        let moved = self.try_remap(new_pages, flags, new_start);
        moved.unwrap_or_else(|| fail("mremap"))
    }

    /// mremap that may fail, and what it did until then is done.
    pub fn try_remap(self, new_pages: usize, flags: i32, new_start: usize) -> Option<Self> {
        // SAFETY: as in unmap; the workloads choose destinations where nothing of Rust's lives.
        let at = unsafe {
            libc::mremap(
                self.start as *mut _,
                self.bytes(),
                new_pages * page_bytes(),
                flags,
                new_start as *mut libc::c_void,
            )
        };
        (at != libc::MAP_FAILED).then_some(Self {
            start: at as usize,
            pages: new_pages,
        })
    }

    /// How many of the pages are in memory, and how many in swap.
    pub fn residence(self) -> Residence {
        let mut found = Residence::default();
        let mut entries = [0u64; PAGEMAP_CHUNK];
        // SAFETY: the path is a C string; pread is told no more than the buffer's length.
        unsafe {
            let file = libc::open(c"/proc/self/pagemap".as_ptr(), libc::O_RDONLY);
            must(file, "open(/proc/self/pagemap)");
            let mut page = 0;
            while page < self.pages {
                let count = PAGEMAP_CHUNK.min(self.pages - page);
                let index = self.start / page_bytes() + page;
                let read = libc::pread(
                    file,
                    entries.as_mut_ptr().cast(),
                    count * 8,
                    index as i64 * 8,
                );
                if read != count as isize * 8 {
                    fail("pread(/proc/self/pagemap)");
                }
                // Bit 63: present. Bit 62: swapped (Documentation/admin-guide/mm/pagemap.rst).
                found.present += entries[..count].iter().filter(|&e| e >> 63 == 1).count();
                found.swapped += entries[..count].iter().filter(|&e| e >> 62 == 1).count();
                page += count;
            }
            libc::close(file);
        }
        found
    }
}

/// madvise on any address and length, sensible or not: the kernel's answer.
pub fn advise(start: usize, len: usize, advice: i32) -> i64 {
    // SAFETY: the workloads only name memory of their own, or none at all.
    let answer = unsafe { libc::madvise(start as *mut _, len, advice) };
    if answer < 0 { -last_errno() } else { 0 }
}

/// errno as a number.
pub fn last_errno() -> i64 {
    i64::from(io::Error::last_os_error().raw_os_error().unwrap_or(0))
}

/// This process's own pidfd, for process_madvise.
pub struct OwnPidfd(i32);

impl OwnPidfd {
    pub fn open() -> Self {
        // SAFETY: both calls take and return plain integers.
        let file = unsafe { libc::syscall(libc::SYS_pidfd_open, libc::getpid(), 0) };
        if file < 0 {
            fail("pidfd_open");
        }
        Self(file as i32)
    }

    /// process_madvise(MADV_PAGEOUT): makes the kernel reclaim what it can of the areas now.
    pub fn page_out(&self, areas: &[Area]) -> i64 {
        let mut ranges = [libc::iovec {
            iov_base: ptr::null_mut(),
            iov_len: 0,
        }; 8];
        for (range, area) in ranges.iter_mut().zip(areas) {
            range.iov_base = area.start as *mut _;
            range.iov_len = area.bytes();
        }
        // SAFETY: the ranges are initialised; paging out changes no content that is still wanted.
        let answer = unsafe {
            libc::syscall(
                libc::SYS_process_madvise,
                self.0,
                ranges.as_ptr(),
                areas.len(),
                libc::MADV_PAGEOUT,
                0,
            )
        };
        if answer < 0 { -last_errno() } else { answer }
    }
}

/// Keeps this thread on the CPU it is on. The kernel queues lazily freed pages per CPU and drains
/// only the caller's queue, so that pages freed elsewhere may survive a PAGEOUT.
pub fn stay_on_this_cpu() {
    // SAFETY: the set is plain data, as large as the call is told.
    unsafe {
        let cpu = libc::sched_getcpu();
        must(cpu, "sched_getcpu");
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu as usize, &mut set);
        must(
            libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set),
            "sched_setaffinity",
        );
    }
}

/// CLOCK_MONOTONIC in nanoseconds.
pub fn now_ns() -> i64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the struct is ours to be written.
    must(
        unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) },
        "clock_gettime",
    );
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}
