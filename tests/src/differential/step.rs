//! One thing that the random program does, with all that is random in it already chosen.

use std::fmt;

use super::places::{PAGE, Places};
use super::protocol::{DATA_AT, DATA_WORDS, How, Op, Request};

/// A step names pages by number, so that it means the same in another run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Mmap {
        page: u64,
        pages: u64,
        prot: i32,
        flags: i32,
        fd: i32,
        offset: u64,
    },
    Munmap {
        page: u64,
        pages: u64,
    },
    Mremap {
        page: u64,
        old: u64,
        new: u64,
        flags: i32,
        to: u64,
    },
    /// To so many bytes from the heap's first page.
    Brk {
        bytes: u64,
    },
    Madvise {
        page: u64,
        pages: u64,
        advice: i32,
        /// Bytes that the address is off by, and that the length lacks.
        skew: u64,
        short: u64,
    },
    ProcessMadvise {
        ranges: Vec<(u64, u64)>,
        advice: i32,
        /// A pidfd, or one of the kernel's numbers for oneself.
        fd: i32,
    },
    Mlock {
        page: u64,
        pages: u64,
        lock: Lock,
    },
    Mprotect {
        page: u64,
        pages: u64,
        prot: i32,
    },
    Touch {
        page: u64,
        pages: u64,
        step: u64,
        how: How,
    },
    Fork,
    Exit,
    /// A child that shares the pages and does nothing begins, or ends.
    Hold,
    Threads {
        page: u64,
        pages: u64,
        threads: u64,
        rounds: u64,
        advice: i32,
        apart: u64,
    },
    /// memtrace attaches: what comes before is not traced.
    Attach,
    /// A call with arguments that make no sense, and must change nothing.
    Garbage {
        number: i64,
        args: [u64; 6],
    },
}

/// What mlock2 or munlock is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lock {
    /// Populates, without a fault.
    Now,
    /// Populates nothing.
    OnFault,
    Off,
}

/// A pidfd of oneself: its number in include/uapi/linux/pidfd.h: PIDFD_SELF_THREAD_GROUP.
pub const OWN_PIDFD: i32 = -10_001;

impl Step {
    pub fn request(&self, places: Places) -> Request {
        let at = |page: u64| places.address(page);
        let call = |number: i64, args: &[u64]| {
            let mut all = vec![number as u64];
            all.extend(args);
            Request::new(Op::Call, &all)
        };
        match self {
            Self::Mmap {
                page,
                pages,
                prot,
                flags,
                fd,
                offset,
            } => call(
                libc::SYS_mmap,
                &[
                    at(*page),
                    pages * PAGE,
                    *prot as u64,
                    *flags as u64,
                    *fd as u64,
                    offset * PAGE,
                ],
            ),
            Self::Munmap { page, pages } => call(libc::SYS_munmap, &[at(*page), pages * PAGE]),
            Self::Mremap {
                page,
                old,
                new,
                flags,
                to,
            } => call(
                libc::SYS_mremap,
                &[at(*page), old * PAGE, new * PAGE, *flags as u64, at(*to)],
            ),
            Self::Brk { bytes } => call(libc::SYS_brk, &[places.heap + bytes]),
            Self::Madvise {
                page,
                pages,
                advice,
                skew,
                short,
            } => call(
                libc::SYS_madvise,
                &[
                    at(*page) + skew,
                    (pages * PAGE).saturating_sub(*short),
                    *advice as u64,
                ],
            ),
            Self::ProcessMadvise { ranges, advice, fd } => {
                let count = ranges.len().min(DATA_WORDS / 2);
                let mut request = call(
                    libc::SYS_process_madvise,
                    &[*fd as u64, DATA_AT, count as u64, *advice as u64, 0],
                );
                for (index, (page, pages)) in ranges.iter().take(count).enumerate() {
                    request.data[index * 2] = at(*page);
                    request.data[index * 2 + 1] = pages * PAGE;
                }
                request
            }
            Self::Mlock { page, pages, lock } => {
                let (number, flags) = match lock {
                    Lock::Now => (libc::SYS_mlock2, 0),
                    Lock::OnFault => (libc::SYS_mlock2, libc::MLOCK_ONFAULT),
                    Lock::Off => (libc::SYS_munlock, 0),
                };
                call(number, &[at(*page), pages * PAGE, u64::from(flags)])
            }
            Self::Mprotect { page, pages, prot } => {
                call(libc::SYS_mprotect, &[at(*page), pages * PAGE, *prot as u64])
            }
            Self::Touch {
                page,
                pages,
                step,
                how,
            } => Request::new(Op::Touch, &[at(*page), *pages, *step, *how as u64, 1]),
            Self::Fork => Request::new(Op::Fork, &[]),
            Self::Exit => Request::new(Op::Exit, &[]),
            Self::Hold => Request::new(Op::Hold, &[]),
            Self::Threads {
                page,
                pages,
                threads,
                rounds,
                advice,
                apart,
            } => Request::new(
                Op::Threads,
                &[at(*page), *pages, *threads, *rounds, *advice as u64, *apart],
            ),
            Self::Garbage { number, args } => call(*number, args),
            Self::Attach => call(libc::SYS_getpid, &[]),
        }
    }
}

/// An advice by its name, as the summary has it.
pub fn advice_name(advice: i32) -> String {
    let name = match advice {
        libc::MADV_NORMAL => "NORMAL",
        libc::MADV_RANDOM => "RANDOM",
        libc::MADV_SEQUENTIAL => "SEQUENTIAL",
        libc::MADV_WILLNEED => "WILLNEED",
        libc::MADV_DONTNEED => "DONTNEED",
        libc::MADV_FREE => "FREE",
        libc::MADV_REMOVE => "REMOVE",
        libc::MADV_DONTFORK => "DONTFORK",
        libc::MADV_DOFORK => "DOFORK",
        libc::MADV_MERGEABLE => "MERGEABLE",
        libc::MADV_UNMERGEABLE => "UNMERGEABLE",
        libc::MADV_HUGEPAGE => "HUGEPAGE",
        libc::MADV_NOHUGEPAGE => "NOHUGEPAGE",
        libc::MADV_DONTDUMP => "DONTDUMP",
        libc::MADV_DODUMP => "DODUMP",
        libc::MADV_WIPEONFORK => "WIPEONFORK",
        libc::MADV_KEEPONFORK => "KEEPONFORK",
        libc::MADV_COLD => "COLD",
        libc::MADV_PAGEOUT => "PAGEOUT",
        libc::MADV_POPULATE_READ => "POPULATE_READ",
        libc::MADV_POPULATE_WRITE => "POPULATE_WRITE",
        MADV_DONTNEED_LOCKED => "DONTNEED_LOCKED",
        MADV_COLLAPSE => "COLLAPSE",
        MADV_GUARD_INSTALL => "GUARD_INSTALL",
        MADV_GUARD_REMOVE => "GUARD_REMOVE",
        other => return format!("MADV_{other}"),
    };
    format!("MADV_{name}")
}

/// Advice that the C library's headers do not all have (include/uapi/asm-generic/mman-common.h).
pub const MADV_DONTNEED_LOCKED: i32 = 24;
pub const MADV_COLLAPSE: i32 = 25;
pub const MADV_GUARD_INSTALL: i32 = 102;
pub const MADV_GUARD_REMOVE: i32 = 103;
pub const MAP_DROPPABLE: i32 = 8;

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mmap {
                page,
                pages,
                prot,
                flags,
                fd,
                offset,
            } => write!(
                f,
                "mmap {page}+{pages} prot {prot:#x} flags {flags:#x} fd {fd} offset {offset}"
            ),
            Self::Munmap { page, pages } => write!(f, "munmap {page}+{pages}"),
            Self::Mremap {
                page,
                old,
                new,
                flags,
                to,
            } => write!(f, "mremap {page}+{old} to {to}+{new} flags {flags}"),
            Self::Brk { bytes } => write!(f, "brk {bytes:#x} bytes above the first break"),
            Self::Madvise {
                page,
                pages,
                advice,
                skew,
                short,
            } => {
                write!(f, "madvise {page}+{pages} {}", advice_name(*advice))?;
                if (*skew, *short) != (0, 0) {
                    write!(f, " address +{skew} bytes, length -{short} bytes")?;
                }
                Ok(())
            }
            Self::ProcessMadvise { ranges, advice, fd } => write!(
                f,
                "process_madvise fd {fd} {ranges:?} {}",
                advice_name(*advice)
            ),
            Self::Mlock { page, pages, lock } => {
                let name = match lock {
                    Lock::Now => "mlock",
                    Lock::OnFault => "mlock on fault",
                    Lock::Off => "munlock",
                };
                write!(f, "{name} {page}+{pages}")
            }
            Self::Mprotect { page, pages, prot } => {
                write!(f, "mprotect {page}+{pages} prot {prot:#x}")
            }
            Self::Touch {
                page,
                pages,
                step,
                how,
            } => write!(f, "touch {page}+{pages} every {step} {how:?}"),
            Self::Fork => f.write_str("fork, go on as the child"),
            Self::Exit => f.write_str("exit, go on as the parent"),
            Self::Hold => f.write_str("fork a child that only shares the pages, or end it"),
            Self::Threads {
                page,
                pages,
                threads,
                rounds,
                advice,
                apart,
            } => write!(
                f,
                "{threads} threads, {apart} pages apart from {page} on, {rounds} times: write {pages} pages, {}",
                advice_name(*advice)
            ),
            Self::Attach => f.write_str("memtrace attaches"),
            Self::Garbage { number, args } => write!(f, "system call {number} {args:x?}"),
        }
    }
}
