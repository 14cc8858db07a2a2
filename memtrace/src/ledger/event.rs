//! Everything the ledger can be told: calls, faults, lifecycle, mappings and samples, each with its time.

use std::sync::Arc;

pub use super::mapping::{HugeAdvice, Mapping, MappingKind, ReadAhead, VmFlags};

use super::advice::Advice;
pub use super::faults::FaultBatch;

/// One thing that happened. All times are CLOCK_MONOTONIC in nanoseconds.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A process comes under trace.
    Begin(Begin),
    /// What a process has mapped at this moment.
    Mappings(Mappings),
    /// What a process runs.
    Executable(Executable),
    /// What mappings that were known already ask for.
    Flags(MappingFlags),
    /// Which folio sizes the kernel may use.
    Folios(Folios),
    Fork(Fork),
    Exec(Exec),
    Exit(Exit),
    /// The moment a call entered the kernel; the call is known whole.
    Enter(Arc<Call>),
    /// The moment it came back.
    Leave(Arc<Call>),
    Faults(FaultBatch),
    Populated(Populated),
    Measuring(Measuring),
    Taken(Taken),
    Sample(Box<Sample>),
    /// Running totals of what could not be delivered.
    Lost(Lost),
    /// Some of it would have come here.
    Gap(Gap),
}

// Events are held and moved about by the thousand.
const _: () = assert!(size_of::<Event>() <= 64);

impl Event {
    /// The process that was recorded doing it; None for what is not a record.
    pub fn recorded_of(&self) -> Option<u32> {
        match self {
            Self::Fork(e) => Some(e.parent_pid),
            Self::Exec(e) => Some(e.pid),
            Self::Exit(e) => Some(e.pid),
            Self::Enter(call) | Self::Leave(call) => Some(call.pid),
            Self::Faults(e) => Some(e.pid),
            Self::Populated(e) => Some(e.pid),
            _ => None,
        }
    }

    /// Where the event stands in time.
    pub fn at_ns(&self) -> u64 {
        match self {
            Self::Begin(e) => e.at_ns,
            Self::Mappings(e) => e.at_ns,
            Self::Executable(e) => e.at_ns,
            Self::Flags(e) => e.at_ns,
            Self::Folios(e) => e.at_ns,
            Self::Fork(e) => e.at_ns,
            Self::Exec(e) => e.at_ns,
            Self::Exit(e) => e.at_ns,
            Self::Enter(call) => call.enter_ns,
            Self::Leave(call) => call.exit_ns,
            Self::Faults(e) => e.at_ns,
            Self::Populated(e) => e.at_ns,
            Self::Measuring(e) => e.at_ns,
            Self::Taken(e) => e.at_ns,
            Self::Sample(e) => e.at_ns,
            Self::Lost(e) => e.at_ns,
            Self::Gap(e) => e.at_ns,
        }
    }
}

/// A process comes under trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begin {
    /// What happened before counts as nothing: nobody knows on which mappings.
    pub at_ns: u64,
    pub pid: u32,
    pub comm: String,
    /// True for a process that we launch: what it does before its first exec is ours, not its own.
    pub before_exec: bool,
}

/// What a process has mapped, as /proc/PID/maps showed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mappings {
    /// When the read began: what happens while it goes on is applied on top of it.
    pub at_ns: u64,
    /// When it ended. The list is no snapshot: what was unmapped in between may be missing.
    pub until_ns: u64,
    pub pid: u32,
    /// True right after an exec: nothing of it was populated by anyone before.
    pub fresh: bool,
    /// The program break, where known (the end of `[heap]`).
    pub heap_end: Option<u64>,
    /// Nothing else was mapped then.
    pub whole: bool,
    /// In ascending order.
    pub list: Vec<(std::ops::Range<u64>, Mapping)>,
}

/// The executable of a process, from its last exec on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Executable {
    pub at_ns: u64,
    pub pid: u32,
    /// Not escaped.
    pub path: Arc<str>,
}

/// The VmFlags of a process's mappings, as /proc/PID/smaps showed them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappingFlags {
    /// When the read began.
    pub at_ns: u64,
    pub pid: u32,
    /// In ascending order; what is not in it has none that matter.
    pub list: Vec<(std::ops::Range<u64>, VmFlags)>,
}

/// Sizes of folios in bytes, each a power of two, all in one word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FolioSizes(u64);

impl FolioSizes {
    /// Base pages only.
    pub const NONE: Self = Self(0);

    /// Just this size; sizes up to a base page add nothing.
    pub fn one(bytes: u64) -> Self {
        Self(if bytes > super::space::PAGE { bytes } else { 0 })
    }

    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub fn is_none(self) -> bool {
        self.0 == 0
    }

    /// The largest of them, or a base page, in bytes.
    pub fn largest(self) -> u64 {
        match self.0.checked_ilog2() {
            Some(bit) => 1 << bit,
            None => super::space::PAGE,
        }
    }

    /// From the largest down.
    pub fn descending(self) -> impl Iterator<Item = u64> {
        (0..u64::BITS)
            .rev()
            .map(|bit| 1 << bit)
            .filter(move |bytes| self.0 & bytes != 0)
    }
}

/// Which folios larger than a page the kernel may give memory of one process
/// (mm/huge_memory.c: /sys/kernel/mm/transparent_hugepage, and prctl PR_SET_THP_DISABLE).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Folios {
    pub at_ns: u64,
    pub pid: u32,
    /// What any anonymous mapping may get.
    pub any: FolioSizes,
    /// What an anonymous mapping may get under MADV_HUGEPAGE.
    pub advised: FolioSizes,
    /// The page cache may hold huge pages of files (FileHugePages in /proc/meminfo), each of which one
    /// fault maps whole.
    pub huge_files: bool,
    /// Shared memory may have folios larger than a page (shmem_enabled), which one fault maps whole.
    pub large_shmem: bool,
    /// A read of memory that may get a huge page maps the huge zero page (use_zero_page), and
    /// populates nothing.
    pub zero_page: bool,
}

impl Folios {
    /// Until told otherwise, the largest there are: so that no figure is called exact by mistake.
    pub fn largest(at_ns: u64, pid: u32) -> Self {
        let sizes = FolioSizes::one(2 << 20);
        Self {
            at_ns,
            pid,
            any: sizes,
            advised: sizes,
            huge_files: true,
            large_shmem: true,
            zero_page: false,
        }
    }

    /// Base pages only, of files too.
    pub fn base_pages(at_ns: u64, pid: u32) -> Self {
        Self {
            at_ns,
            pid,
            any: FolioSizes::NONE,
            advised: FolioSizes::NONE,
            huge_files: false,
            large_shmem: false,
            zero_page: true,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fork {
    pub at_ns: u64,
    pub parent_pid: u32,
    pub pid: u32,
    /// CLONE_VM: one address space for both.
    pub shares_vm: bool,
    /// False where the child is not followed.
    pub followed: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exec {
    pub at_ns: u64,
    pub pid: u32,
    pub comm: String,
    /// False where the process is not followed past this exec (a CLONE_VM child without -f).
    pub followed: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    pub at_ns: u64,
    pub pid: u32,
    /// As wait(2) gives it, where known.
    pub status: Option<i32>,
}

/// A call that changes the address space. `addr` and lengths are as the program passed them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    pub pid: u32,
    pub tid: u32,
    pub enter_ns: u64,
    pub exit_ns: u64,
    /// A negative errno on failure; None where the thread died inside the call.
    pub ret: Option<i64>,
    pub op: Op,
    /// What the kernel counted as gone from the address space by this call, where it was asked to.
    pub released_bytes: Option<u64>,
}

impl Call {
    /// True where whose memory it was about can't be told any more: as a rule not the caller's. A call
    /// that came to no range, and was refused, was about nobody's.
    pub fn is_untargeted(&self) -> bool {
        let refused = self.ret.is_some_and(|ret| ret < 0);
        matches!(
            self.op,
            Op::ProcessMadvise { target_pid: None, range, .. } if !refused || range.is_some()
        )
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    Madvise {
        advice: Advice,
        addr: u64,
        len: u64,
    },
    /// One range of a process_madvise.
    ProcessMadvise {
        /// Whose memory; None where the pidfd could not be resolved any more, or the kernel refused
        /// the call before it came to anybody's.
        target_pid: Option<u32>,
        advice: Advice,
        /// Address and length; None where the iovec could not be read, or for such a refusal.
        range: Option<(u64, u64)>,
        index: u32,
        ranges: u32,
        /// Bytes in the ranges before this one.
        before_bytes: u64,
    },
    Mmap {
        addr: u64,
        len: u64,
        prot: u32,
        flags: u32,
        fd: i32,
        /// The file's name, if it could still be read.
        name: Option<Arc<str>>,
    },
    Munmap {
        addr: u64,
        len: u64,
    },
    Mremap {
        addr: u64,
        old_len: u64,
        new_len: u64,
        flags: u32,
        new_addr: u64,
    },
    Brk {
        addr: u64,
    },
    /// The call was under way when tracing began: which syscall, and nothing more.
    Unseen {
        syscall: &'static str,
    },
}

impl Op {
    /// True where the call can take memory away, or populate it without a fault, so that its enter
    /// matters and not only its exit.
    pub fn enter_matters(&self) -> bool {
        const MAP_FIXED: u32 = 0x10;
        const MAP_LOCKED: u32 = 0x2000;
        const MAP_POPULATE: u32 = 0x8000;
        match self {
            Self::Madvise { advice, .. } | Self::ProcessMadvise { advice, .. } => {
                advice.give_back().is_some() || advice.populates()
            }
            Self::Mmap { flags, .. } => flags & (MAP_FIXED | MAP_LOCKED | MAP_POPULATE) != 0,
            Self::Munmap { .. } | Self::Mremap { .. } | Self::Brk { .. } => true,
            Self::Unseen { .. } => false,
        }
    }

    /// The address that the call names, where it is known.
    pub fn addr(&self) -> Option<u64> {
        match *self {
            Self::Madvise { addr, .. }
            | Self::Mmap { addr, .. }
            | Self::Munmap { addr, .. }
            | Self::Mremap { addr, .. }
            | Self::Brk { addr } => Some(addr),
            Self::ProcessMadvise { range, .. } => range.map(|(addr, _)| addr),
            Self::Unseen { .. } => None,
        }
    }
}

/// True where mmap's flags make a shared mapping: MAP_SHARED and MAP_SHARED_VALIDATE have this bit,
/// MAP_PRIVATE and MAP_DROPPABLE do not.
pub fn maps_shared(flags: u32) -> bool {
    const MAP_SHARED: u32 = 0x01;
    flags & MAP_SHARED != 0
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Access {
    Read,
    Write,
    Exec,
}

impl Access {
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Exec => "exec",
        }
    }
}

/// One page fault at a user address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    pub at_ns: u64,
    pub pid: u32,
    pub tid: u32,
    /// The page's address.
    pub addr: u64,
    /// The page was mapped; the access was not allowed.
    pub present: bool,
    pub access: Access,
    /// The kernel touched the user's address itself (read(2) into it, say).
    pub by_kernel: bool,
}

/// Memory that came by a thread's own doing, as the kernel counted it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Populated {
    pub at_ns: u64,
    pub pid: u32,
    pub tid: u32,
    pub bytes: u64,
    /// In a fault from user mode; otherwise somewhere in a system call.
    pub in_user_fault: bool,
}

/// From here on the kernel's own count says what calls release and faults populate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measuring {
    pub at_ns: u64,
    pub pid: u32,
}

/// What the kernel took of an address space by itself, so far: running totals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    pub at_ns: u64,
    pub pid: u32,
    /// When the counting of this address space began.
    pub begun_ns: u64,
    /// Anonymous memory that reclaim dropped and did not write to swap: what was lazily free.
    pub dropped_bytes: u64,
    /// Anonymous memory that went to swap.
    pub swapped_bytes: u64,
    /// Memory that others added to it (khugepaged, say); counted with `--exact-bytes` only.
    pub added_bytes: u64,
    /// The most that may have been taken before anyone counted: what the whole machine lost in
    /// that time. 0 says that `dropped_bytes` is all.
    pub uncounted_bytes: u64,
}

/// RSS as /proc showed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    pub at_ns: u64,
    pub pid: u32,
    pub rss_bytes: u64,
    pub virtual_bytes: Option<u64>,
    /// What smaps_rollup showed, where it was read.
    pub rollup: Option<Rollup>,
    pub cgroup: Option<Cgroup>,
}

/// One look at smaps_rollup (fs/proc/task_mmu.c:show_smaps_rollup), in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rollup {
    pub at_ns: u64,
    pub rss_bytes: u64,
    pub lazyfree_bytes: u64,
    pub pss_bytes: u64,
    pub swap_bytes: u64,
    pub anonymous_bytes: u64,
    pub anon_huge_bytes: u64,
    /// By how much `lazyfree_bytes` may be too small: what CPUs hold back before it counts.
    pub lazyfree_error_bytes: u64,
    /// What the look cost, in CPU time of ours.
    pub cost_ns: u64,
}

/// What the memory cgroup of a process says, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    /// 1 or 2.
    pub version: u8,
    /// As /proc/PID/cgroup shows it. Not escaped.
    pub path: String,
    pub usage_bytes: u64,
    /// Page cache, and lazily freed memory, that reclaim takes first.
    pub inactive_file_bytes: u64,
    /// None: no limit.
    pub limit_bytes: Option<u64>,
}

impl Cgroup {
    /// What Kubernetes and cAdvisor call the working set.
    pub fn working_set_bytes(&self) -> u64 {
        self.usage_bytes.saturating_sub(self.inactive_file_bytes)
    }
}

/// Running totals of records that did not reach userspace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    pub at_ns: u64,
    pub calls: u64,
    pub faults: u64,
    pub lifecycle: u64,
    /// Of [`Populated`].
    pub populated: u64,
}

/// Records were lost that would have come after `at_ns` and not after `until_ns`; nobody knows whose.
///
/// It may come late. What was classed by then stands, and from here on nothing is classed by what
/// the lost records may have changed. Mappings that are read again must be of `until_ns` or later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    pub at_ns: u64,
    pub until_ns: u64,
    pub faults: bool,
    /// Calls, or lifecycle events.
    pub calls: bool,
}

impl Gap {
    /// This one and another, in one.
    pub fn with(self, other: Self) -> Self {
        Self {
            at_ns: self.at_ns.min(other.at_ns),
            until_ns: self.until_ns.max(other.until_ns),
            faults: self.faults || other.faults,
            calls: self.calls || other.calls,
        }
    }
}
