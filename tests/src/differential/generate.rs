//! Chooses the next step: mostly one that does something where the pages now are.

use super::mode::Mix;
use super::model::Process;
use super::places::{ARENA_PAGES, HEAP_PAGES, HUGE_PAGES, PAGE};
use super::protocol::{DATA_AT, FD_CODE, FD_FILE, FD_MEMFD, FILE_PAGES, How};
use super::random::Random;
use super::settings::Sizes;
use super::snapshot::{Kind, Mapped};
use super::step::{Lock, MAP_DROPPABLE, OWN_PIDFD, Step};

pub struct Generator {
    random: Random,
    mix: Mix,
    /// What must come next.
    due: Option<Step>,
}

const READ: i32 = libc::PROT_READ;
const READ_WRITE: i32 = libc::PROT_READ | libc::PROT_WRITE;

impl Generator {
    pub fn new(seed: u64, mix: &Mix) -> Self {
        Self {
            random: Random::new(seed),
            mix: *mix,
            due: None,
        }
    }

    /// The next step of the process, which is so deep in a tree of forks.
    pub fn next(&mut self, process: &Process, depth: usize) -> Step {
        if let Some(due) = self.due.take() {
            return due;
        }
        let mix = self.mix;
        let when = |does: bool, weight: u64| if does { weight } else { 0 };
        let weights = [
            14,                              // mmap
            8,                               // munmap
            when(mix.moves, 8),              // mremap
            32,                              // madvise
            when(mix.advice.len() > 5, 6),   // process_madvise
            40,                              // touch
            when(mix.heap, 8),               // brk
            when(mix.locks, 6),              // mlock
            when(mix.protects, 6),           // mprotect
            when(mix.forks && depth < 3, 5), // fork
            when(depth > 0, 6),              // exit
            when(mix.forks, 3),              // hold
            when(mix.threads, 8),            // threads
            when(mix.garbage, 12),           // garbage
        ];
        match self.random.weighted(&weights) {
            0 => self.mmap(),
            1 => {
                let (page, pages) = self.range(process);
                Step::Munmap { page, pages }
            }
            2 => self.mremap(process),
            3 => self.madvise(process),
            4 => self.process_madvise(process),
            5 => self.touch(process),
            6 => self.brk(process),
            7 => {
                let (page, pages) = self.range(process);
                let pages = pages.min(128);
                let on = if mix.remote { Lock::Now } else { Lock::OnFault };
                let lock = if self.random.one_in(3) { Lock::Off } else { on };
                Step::Mlock { page, pages, lock }
            }
            8 => {
                let (page, pages) = self.range(process);
                let prot = self
                    .random
                    .pick(&[READ, READ_WRITE, READ_WRITE, libc::PROT_NONE]);
                Step::Mprotect { page, pages, prot }
            }
            9 => Step::Fork,
            10 => Step::Exit,
            11 => Step::Hold,
            12 => self.threads(),
            _ => self.garbage(process),
        }
    }

    fn huge(&self) -> bool {
        matches!(self.mix.sizes, Sizes::Huge | Sizes::HugeAlways)
    }

    /// How many pages: mostly few.
    fn length(&mut self) -> u64 {
        let most = match self.random.below(20) {
            0..9 => 8,
            9..17 => 64,
            _ => 600,
        };
        1 + self.random.below(most)
    }

    /// Anywhere.
    fn anywhere(&mut self) -> (u64, u64) {
        let mut page = self.random.below(self.mix.pages);
        let mut pages = self.length();
        if self.huge() && !self.random.one_in(3) {
            page &= !(HUGE_PAGES - 1);
            pages = pages.next_multiple_of(HUGE_PAGES);
        }
        (page, pages.min(self.mix.pages - page))
    }

    /// Mostly a part of what is mapped, sometimes anywhere.
    fn range(&mut self, process: &Process) -> (u64, u64) {
        let mapped = self.mapped(process, |_| true);
        match mapped {
            Some((first, end)) if !self.random.one_in(5) => {
                if self.random.one_in(3) {
                    return (first, end - first);
                }
                let page = first + self.random.below(end - first);
                // It may reach beyond.
                let pages = self.length();
                let limit = match page {
                    ..ARENA_PAGES => self.mix.pages.max(page + 1),
                    _ => ARENA_PAGES + HEAP_PAGES,
                };
                (page, pages.min(limit - page))
            }
            _ => self.anywhere(),
        }
    }

    /// The whole of a mapping that fits.
    fn mapped(&mut self, process: &Process, fits: impl Fn(&Mapped) -> bool) -> Option<(u64, u64)> {
        let pages = &process.now.pages;
        let mut runs: Vec<(u64, u64)> = Vec::new();
        let mut last = None;
        for (index, page) in pages.iter().enumerate() {
            let line = page.mapped.filter(&fits).map(|mapped| mapped.line);
            let index = index as u64;
            match (line, last) {
                (Some(one), Some(other)) if one == other => {
                    runs.last_mut().expect("one has begun").1 = index + 1;
                }
                (Some(_), _) => runs.push((index, index + 1)),
                _ => {}
            }
            last = line;
        }
        (!runs.is_empty()).then(|| self.random.pick(&runs))
    }

    fn mmap(&mut self) -> Step {
        let (page, pages) = self.anywhere();
        let mut flags = match self.random.below(4) {
            0 => libc::MAP_FIXED_NOREPLACE,
            _ => libc::MAP_FIXED,
        };
        let mut prot = READ_WRITE;
        let (mut fd, mut offset) = (-1, 0);
        let kinds = [
            6,
            if self.mix.files { 5 } else { 0 },
            if self.mix.shared { 5 } else { 0 },
        ];
        match self.random.weighted(&kinds) {
            1 => {
                fd = self.random.pick(&[FD_FILE, FD_MEMFD, FD_CODE, FD_CODE]);
                flags |= libc::MAP_PRIVATE;
                prot = match fd {
                    FD_CODE => READ | libc::PROT_EXEC,
                    _ => self.random.pick(&[READ, READ_WRITE, READ_WRITE]),
                };
            }
            2 => {
                fd = self.random.pick(&[-1, FD_FILE, FD_MEMFD, FD_MEMFD]);
                flags |= libc::MAP_SHARED;
                prot = self.random.pick(&[READ, READ_WRITE, READ_WRITE]);
            }
            _ => flags |= libc::MAP_PRIVATE,
        }
        if fd >= 0 {
            offset = self.random.below(FILE_PAGES - pages.min(FILE_PAGES - 1));
        } else {
            flags |= libc::MAP_ANONYMOUS;
        }
        let advanced = self.mix.advice.len() > 8;
        if advanced && self.random.one_in(8) {
            flags |= libc::MAP_POPULATE;
        }
        if advanced && self.random.one_in(10) {
            flags |= libc::MAP_NORESERVE;
        }
        if advanced && fd < 0 && flags & libc::MAP_PRIVATE != 0 {
            match self.random.below(16) {
                0 => flags |= libc::MAP_GROWSDOWN,
                // It takes the place of MAP_PRIVATE.
                1 => flags = flags & !libc::MAP_PRIVATE | MAP_DROPPABLE,
                _ => {}
            }
        }
        let pages = pages.min(FILE_PAGES);
        if self.mix.sizes.most_pages() > 1 && self.random.one_in(2) {
            self.due = Some(Step::Madvise {
                page,
                pages,
                advice: libc::MADV_HUGEPAGE,
                skew: 0,
                short: 0,
            });
        }
        Step::Mmap {
            page,
            pages,
            prot,
            flags,
            fd,
            offset,
        }
    }

    fn mremap(&mut self, process: &Process) -> Step {
        let (page, pages) = match self.mapped(process, |_| true) {
            Some((first, end)) if !self.mix.gaps => {
                let page = first + self.random.below(end - first);
                (page, self.length().min(end - page))
            }
            _ => self.range(process),
        };
        let new = match self.random.below(4) {
            0 => pages,
            1 => 1 + self.random.below(pages),
            _ => self.length(),
        };
        // Growth in place must not leave the arena, nor the heap.
        let end = if page < ARENA_PAGES {
            ARENA_PAGES
        } else {
            ARENA_PAGES + HEAP_PAGES
        };
        let new = new.min(end - page);
        let mut to = self.random.below(self.mix.pages);
        let overlaps = |to: u64| to < page + pages && page < to + new.max(pages);
        for _ in 0..16 {
            if self.mix.gaps || !overlaps(to) {
                break;
            }
            to = self.random.below(self.mix.pages);
        }
        let maymove = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
        let (new, flags) = match self.random.below(8) {
            0..2 => (new, 0),
            2 => (pages, maymove | libc::MREMAP_DONTUNMAP),
            _ => (new, maymove),
        };
        Step::Mremap {
            page,
            old: pages,
            new: new.min(ARENA_PAGES - to),
            flags,
            to,
        }
    }

    fn madvise(&mut self, process: &Process) -> Step {
        let advice = self.random.pick(self.mix.advice);
        let (page, mut pages) = match self.mapped(process, |mapped| mapped.kind == Kind::Shared) {
            Some((first, end)) if advice == libc::MADV_REMOVE && !self.mix.garbage => {
                let page = first + self.random.below(end - first);
                (page, self.length().min(end - page))
            }
            _ => self.range(process),
        };
        let odd = self.mix.advice.len() > 8;
        let skew = if odd && self.random.one_in(40) {
            1 + self.random.below(4095)
        } else {
            0
        };
        let short = if odd && self.random.one_in(20) {
            self.random.below(4096)
        } else {
            0
        };
        if odd && self.random.one_in(40) {
            pages = 0;
        }
        Step::Madvise {
            page,
            pages,
            advice,
            skew,
            short,
        }
    }

    fn process_madvise(&mut self, process: &Process) -> Step {
        let count = 1 + self.random.below(4);
        let ranges = (0..count).map(|_| self.range(process)).collect();
        let fd = if self.mix.garbage && self.random.one_in(12) {
            999
        } else {
            OWN_PIDFD
        };
        Step::ProcessMadvise {
            ranges,
            advice: self.random.pick(self.mix.advice),
            fd,
        }
    }

    fn touch(&mut self, process: &Process) -> Step {
        let mut how = match self.random.below(10) {
            0..3 => How::Read,
            _ => How::Write,
        };
        if self.mix.kernel && self.random.one_in(4) {
            how = self.random.pick(&[How::KernelWrite, How::KernelRead]);
        } else if self.mix.remote && self.random.one_in(4) {
            how = self.random.pick(&[How::RemoteWrite, How::RemoteRead]);
        } else if self.mix.files && self.random.one_in(6) {
            how = How::Exec;
        }
        let fits = |mapped: &Mapped| match how {
            How::Exec => mapped.exec && mapped.kind == Kind::PrivateFile && !mapped.write,
            _ if how.writes() => mapped.write,
            _ => mapped.read,
        };
        let Some((first, end)) = self.mapped(process, fits) else {
            return self.mmap();
        };
        let page = first + self.random.below(end - first);
        let guarded = |page: &u64| process.pages[*page as usize].guarded;
        let end = match (page..end).find(guarded) {
            Some(guard) if !self.mix.garbage => guard,
            _ => end,
        };
        if end == page {
            return self.mmap();
        }
        let step = match self.random.below(6) {
            0 => 1 + self.random.below(16),
            1 if self.huge() => 1 + self.random.below(300),
            _ => 1,
        };
        let most = (end - page).div_ceil(step).min(160);
        Step::Touch {
            page,
            pages: (1 + self.random.below(most)).min(self.length()).max(1),
            step,
            how,
        }
    }

    fn brk(&mut self, process: &Process) -> Step {
        let bytes = match self.random.below(6) {
            0 => process.brk + 1 + self.random.below(4 * PAGE),
            1 => process.brk.saturating_sub(self.random.below(4 * PAGE)),
            _ => self.random.below(HEAP_PAGES) * PAGE,
        };
        Step::Brk {
            bytes: bytes.min((HEAP_PAGES - 1) * PAGE),
        }
    }

    /// On memory of their own, which nobody has touched: the step before it maps it.
    fn threads(&mut self) -> Step {
        let pages = 1 + self.random.below(16);
        let apart = if self.random.one_in(4) { 0 } else { pages };
        let page = self.random.below(self.mix.pages - 160);
        self.due = Some(Step::Threads {
            page,
            pages,
            threads: 2 + self.random.below(4),
            rounds: 1 + self.random.below(8),
            advice: libc::MADV_DONTNEED,
            apart,
        });
        Step::Mmap {
            page,
            pages: 160,
            prot: READ_WRITE,
            flags: libc::MAP_FIXED | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            fd: -1,
            offset: 0,
        }
    }

    /// Calls that the kernel refuses before they do anything.
    fn garbage(&mut self, process: &Process) -> Step {
        let (page, _) = self.range(process);
        let at = process.places.address(page);
        let odd = at + 1 + self.random.below(4095);
        let far = 1u64 << (48 + self.random.below(15));
        let (number, args) = self.random.pick(&[
            (libc::SYS_munmap, [odd, 4096, 0, 0, 0, 0]),
            (libc::SYS_munmap, [at, 0, 0, 0, 0, 0]),
            (libc::SYS_munmap, [far, 4096, 0, 0, 0, 0]),
            (libc::SYS_mremap, [odd, 4096, 8192, 1, 0, 0]),
            (libc::SYS_mremap, [at, 4096, 0, 1, 0, 0]),
            (libc::SYS_mremap, [at, 4096, 4096, 0xff, at, 0]),
            (libc::SYS_mremap, [at, 4096, 4096, 2, at, 0]),
            (libc::SYS_mmap, [at, 0, 3, 0x22, u64::MAX, 0]),
            (libc::SYS_mmap, [odd, 4096, 3, 0x32, u64::MAX, 0]),
            (libc::SYS_mmap, [at, 4096, 3, 0x12, 999, 0]),
            (libc::SYS_madvise, [odd, 4096, 4, 0, 0, 0]),
            (libc::SYS_madvise, [at, u64::MAX, 4, 0, 0, 0]),
            (libc::SYS_madvise, [at, 4096, 0xdead, 0, 0, 0]),
            (libc::SYS_madvise, [far, 4096, 8, 0, 0, 0]),
            (libc::SYS_brk, [1, 0, 0, 0, 0, 0]),
            (libc::SYS_brk, [far, 0, 0, 0, 0, 0]),
            (libc::SYS_process_madvise, [999, DATA_AT, 1, 4, 0, 0]),
            (
                libc::SYS_process_madvise,
                [(-10001i64) as u64, 8, 1, 4, 0, 0],
            ),
            (
                libc::SYS_process_madvise,
                [(-10001i64) as u64, DATA_AT, 1 << 20, 4, 0, 0],
            ),
            (
                libc::SYS_process_madvise,
                [(-10001i64) as u64, DATA_AT, 0, 4, 9, 0],
            ),
        ]);
        Step::Garbage { number, args }
    }
}
