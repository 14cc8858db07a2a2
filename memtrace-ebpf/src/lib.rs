//! The wire: every record, kind and counter that the kernel side sends and userspace reads.
//!
//! Records are little fixed-size structs behind a common [`Head`], padded by hand so that no byte
//! is uninitialised. There are no enums, bools or options on the wire: a reader matches integers
//! and treats what it does not know as an error.
#![cfg_attr(target_arch = "bpf", no_std)]

use core::mem::{align_of, offset_of, size_of};

/// What follows a [`Head`].
pub mod kind {
    /// A [`FaultHead`](crate::FaultHead) and then `count` entries of 8 bytes.
    pub const FAULTS: u16 = 1;
    /// A [`CallRecord`](crate::CallRecord).
    pub const CALL: u16 = 2;
    /// A [`LifeRecord`](crate::LifeRecord).
    pub const LIFE: u16 = 3;
    /// A [`PopulatedRecord`](crate::PopulatedRecord).
    pub const POPULATED: u16 = 4;
}

/// The system call of a [`CallRecord`], in `head.detail`; what its `args` hold.
pub mod call {
    /// `madvise(start, len, behavior)`.
    pub const MADVISE: u16 = 1;
    /// `process_madvise`, one record a range: pidfd | the process that it is (or one of
    /// [`pidfd`](crate::pidfd)) << 32, start, len, behavior, index of the range | number of
    /// ranges << 32, bytes in the ranges before it.
    pub const PROCESS_MADVISE: u16 = 2;
    /// `mmap(addr, len, prot, flags, fd, offset)`; `ret` is the address.
    pub const MMAP: u16 = 3;
    /// `munmap(addr, len)`.
    pub const MUNMAP: u16 = 4;
    /// `mremap(addr, old_len, new_len, flags, new_addr)`; `ret` is the address.
    pub const MREMAP: u16 = 5;
    /// `brk(addr)`; `ret` is the break afterwards.
    pub const BRK: u16 = 6;
}

/// Bits of `head.count` in a [`CallRecord`].
pub mod call_flag {
    /// The call was already running when tracing began (or the join map was full): no arguments, no enter stamp.
    pub const NO_ENTER: u32 = 1;
    /// The thread died inside the call: no result, no exit stamp.
    pub const NO_EXIT: u32 = 2;
    /// The iovec of a `process_madvise` could not be read: no range.
    pub const NO_RANGE: u32 = 4;
}

/// In the place of the process that a `process_madvise` names.
pub mod pidfd {
    /// The kernel side can't tell.
    pub const NOT_LOOKED_AT: u32 = 0;
    /// Nobody that has a pid in our namespace.
    pub const NOBODY: u32 = u32::MAX;
    /// The call has flags, for which the kernel refuses it before it looks at anything.
    pub const REFUSED: u32 = u32::MAX - 1;
}

/// The event of a [`LifeRecord`], in `head.detail`.
pub mod life {
    /// A new process (not a thread): `a` is its pid, `b` the clone flags.
    pub const FORK: u16 = 1;
    /// A successful exec: `comm` is the new name; `a` is 0 where the process is traced no longer.
    pub const EXEC: u16 = 2;
    /// A thread's end: `a` is its exit code as wait(2) gives it, `b` one of [`group`](crate::group).
    pub const EXIT: u16 = 3;
    /// An exec that can't fail back any more: from here on the thread works on the new address
    /// space, whose first faults come before [`EXEC`].
    pub const PREPARE: u16 = 4;
}

/// Whether the thread of a [`life::EXIT`] was its process's last.
pub mod group {
    /// Other threads live on.
    pub const ALIVE: u64 = 0;
    /// It was the last one.
    pub const DEAD: u64 = 1;
    /// The kernel's BTF was not available to tell.
    pub const UNKNOWN: u64 = 2;
}

/// Where a thread was when its address space grew, in `head.detail` of a [`PopulatedRecord`].
pub mod populated {
    /// In a fault from user mode.
    pub const IN_USER_FAULT: u16 = 1;
    /// In a system call: by a fault of the kernel's own there, or by no fault at all.
    pub const IN_SYSCALL: u16 = 2;
}

/// Begins every record.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// One of [`kind`].
    pub kind: u16,
    /// One of [`call`] or [`life`]; 0 for faults.
    pub detail: u16,
    /// Faults: the number of entries. Calls: bits of [`call_flag`].
    pub count: u32,
    /// The process (thread group) in the namespace the filter works in.
    pub pid: u32,
    /// The thread.
    pub tid: u32,
}

/// Faults of one thread, in order: all within one epoch, so that no call and no lifecycle event
/// of any traced process lies between them, and all within one tick of the kernel's timer.
///
/// `count` entries of 8 bytes follow: the page's address, with the low bits of the
/// x86 error code in the place of the page offset ([`fault_bits`]).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultHead {
    pub head: Head,
    /// [`Control::epoch`] at the first of these faults.
    pub epoch: u64,
    /// CLOCK_MONOTONIC at the first fault.
    pub time_ns: u64,
    /// The CPU whose batch it is; [`NO_BATCH`] for a fault that was sent alone.
    pub cpu: u32,
    /// Which of that CPU's batches; wraps.
    pub serial: u32,
}

/// In [`FaultHead::cpu`]: not from a batch.
pub const NO_BATCH: u32 = u32::MAX;

/// A fault that was sent alone, with a stamp of its own.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OneFault {
    pub fault: FaultHead,
    pub entry: u64,
}

/// The error-code bits in a fault entry (x86: arch/x86/include/asm/trap_pf.h).
pub mod fault_bits {
    /// The page was mapped: a protection fault.
    pub const PRESENT: u64 = 1;
    pub const WRITE: u64 = 2;
    /// User mode; clear when the kernel touched the user's address itself.
    pub const USER: u64 = 4;
    pub const INSTRUCTION: u64 = 16;
    /// All the bits of an entry that are not address.
    pub const MASK: u64 = 0xfff;
}

/// Entries of a batch.
pub const BATCH: usize = 128;

/// What one CPU gathers before it is sent. Only that CPU writes it; userspace reads it as well,
/// and takes what is in it before it is sent.
///
/// Within one `fault.serial` entries are only added, `fault.head.count` last. It is 0 from before
/// `serial` changes until the first new entry is in place: whoever reads the same serial before
/// and after has read what belongs together.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Faults that went through here.
    pub seen: u64,
    /// Of these, the ones whose batch the ring had no room for.
    pub lost: u64,
    /// Non-zero while a program writes here: one that interrupts it sends its fault alone.
    pub busy: u64,
    /// The kernel's jiffies at the first fault.
    pub jiffies: u64,
    pub fault: FaultHead,
    pub entries: [u64; BATCH],
}

/// Everything of one CPU, in memory that userspace has mapped.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PerCpu {
    pub counters: Counters,
    /// So that what each fault writes begins a cache line, and each CPU does too.
    pub pad: [u64; 5],
    pub batch: Batch,
    pub end_pad: [u64; 7],
}

/// One call, or one range of a `process_madvise`, joined from its enter and its exit.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallRecord {
    pub head: Head,
    /// CLOCK_MONOTONIC at entry; with [`call_flag::NO_ENTER`], at exit.
    pub enter_ns: u64,
    /// CLOCK_MONOTONIC at exit; with [`call_flag::NO_EXIT`], at the thread's end.
    pub exit_ns: u64,
    /// [`Control::epoch`] at exit.
    pub epoch: u64,
    /// What the call returned; a negative errno on failure.
    pub ret: i64,
    pub args: [u64; 6],
    /// Resident pages that went while the thread was in the call; [`NOT_MEASURED`] where nobody counted.
    pub released_pages: u64,
}

/// In [`CallRecord::released_pages`]: not counted.
pub const NOT_MEASURED: u64 = u64::MAX;

/// The resident memory of a traced address space grew by the doing of one of its own threads.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PopulatedRecord {
    pub head: Head,
    pub time_ns: u64,
    pub pages: u64,
}

/// A process begins, changes its image or ends.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LifeRecord {
    pub head: Head,
    pub time_ns: u64,
    pub a: u64,
    pub b: u64,
    pub comm: [u8; 16],
}

/// A call that has entered and not exited, as kept in the join map under its tid.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pending {
    pub enter_ns: u64,
    /// One of [`call`].
    pub call: u32,
    pub pid: u32,
    pub args: [u64; 6],
    /// As in [`CallRecord`], so far.
    pub released_pages: u64,
}

/// The kinds of resident page that the kernel counts (include/linux/mm_types_task.h).
pub mod member {
    pub const FILE: usize = 0;
    pub const ANON: usize = 1;
    pub const SWAP: usize = 2;
    pub const SHMEM: usize = 3;
    pub const ALL: usize = 4;
}

/// What one CPU knows of an address space whose resident pages are counted.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MmCpu {
    /// The kernel's own counters of this CPU, by [`member`], as they were at the last event.
    pub last: [i32; member::ALL],
    /// Non-zero once `last` is true: before, there is nothing to compare with.
    pub ready: u64,
    /// Anonymous pages that reclaim took, those that went to swap included.
    pub taken_pages: u64,
    /// Of these, the ones that went to swap.
    pub swapped_pages: u64,
    /// Pages that others added: khugepaged, or whoever resolves its userfaults.
    pub added_pages: u64,
}

/// What all CPUs know of it together.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MmShared {
    /// The kernel's shared counters at the last event.
    pub counts: [i64; member::ALL],
    /// Non-zero once it is being torn down: its address may become another's.
    pub ended: u64,
    /// Which count this is: addresses come again.
    pub generation: u64,
}

/// Per-CPU totals, kept apart from the stream: for each class, seen must equal delivered + lost.
/// Of faults these are the ones that were sent alone; the others are in [`Batch`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub faults_seen: u64,
    pub faults_lost: u64,
    pub calls_seen: u64,
    pub calls_lost: u64,
    pub lives_seen: u64,
    pub lives_lost: u64,
    pub populated_seen: u64,
    pub populated_lost: u64,
    /// Calls whose arguments are lost because the join map was full.
    pub join_overflow: u64,
    /// Calls whose exit the kernel side never saw: their threads have entered another since.
    pub calls_missed: u64,
    /// Children that are not traced because the map of targets was full.
    pub targets_overflow: u64,
}

/// What userspace changes while the programs run.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Control {
    /// Non-zero: no program records anything more.
    pub stopped: u32,
    /// Non-zero once the process of the constant has ended, so that its pid can be reused.
    pub target_gone: u32,
    /// How many processes are in the map of targets beside the constant one.
    pub followed: u64,
    /// What is above is read at each fault of whoever faults on this machine, and hardly ever
    /// changes; what is below changes with each call of a target. Not on one cache line.
    pub pad: [u64; 6],
    /// Goes up when a call of a traced process enters and when it leaves, at each of its lifecycle
    /// events, and when userspace looks at its mappings: each time after the event's own stamp was
    /// taken. So all faults of one epoch lie on the same side of every such event.
    pub epoch: u64,
    pub end_pad: [u64; 7],
}

/// That a process has an address space; told by an iterator, once for each of its threads.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MmUser {
    /// Where its mm_struct is in the kernel: a name, never looked into.
    pub mm: u64,
    /// In our own pid namespace.
    pub pid: u32,
    /// How many threads have it, and whoever else looks at it just now (mm_struct.mm_users).
    pub users: u32,
}

/// The elements of the little map by which userspace and kernel side talk of address spaces.
pub mod mm_slot {
    /// The one whose resident pages are counted: 0 for none, [`MANY`] for several.
    pub const COUNTED: u32 = 0;
    /// The one that the last look-up found.
    pub const FOUND: u32 = 1;
    /// The CPU that a look-up begins with; 0 begins an address space.
    pub const FROM_CPU: u32 = 2;
    /// What an address space is known by beside its address, which may become another's.
    pub const GENERATION: u32 = 3;
    pub const ALL: u32 = 4;
    /// They are in the map of address spaces.
    pub const MANY: u64 = u64::MAX;
}

/// How a process came to be in the map of targets.
pub mod followed {
    /// Named by the user, or a child under `-f`: stays through exec.
    pub const OWN: u32 = 1;
    /// Shares a target's mm (vfork, CLONE_VM), by birth or since before tracing; dropped at its exec.
    pub const BORROWED_MM: u32 = 2;
}

/// Threads that may be inside a traced call at once before a call is counted as lost.
pub const JOIN_ENTRIES: u32 = 16 * 1024;
/// Processes that may be traced at once.
pub const TARGET_ENTRIES: u32 = 16 * 1024;
/// Address spaces whose resident pages may be counted at once.
pub const MM_ENTRIES: u32 = 1024;
/// CPUs whose counters one look-up begins with.
pub const CPU_SLICE: u32 = 64;
/// Ranges of one `process_madvise` that are read (the kernel's own bound: UIO_MAXIOV).
pub const MAX_RANGES: u32 = 1024;

const _: () = {
    assert!(size_of::<Head>() == 16);
    assert!(size_of::<FaultHead>() == 40);
    assert!(size_of::<OneFault>() == 48);
    // The entries lie right behind the head, as they do in a record.
    assert!(offset_of!(Batch, entries) == offset_of!(Batch, fault) + size_of::<FaultHead>());
    assert!(offset_of!(PerCpu, batch) == 128 && size_of::<PerCpu>() == 1280);
    assert!(size_of::<CallRecord>() == 104);
    assert!(size_of::<PopulatedRecord>() == 32);
    assert!(size_of::<LifeRecord>() == 56);
    assert!(size_of::<Pending>() == 72);
    assert!(size_of::<MmUser>() == 16);
    assert!(size_of::<MmCpu>() == 48);
    assert!(size_of::<MmShared>() == 48);
    assert!(size_of::<Counters>() == 88);
    assert!(offset_of!(Control, epoch) == 64 && size_of::<Control>() == 128);
    // The ring buffer aligns records to 8 bytes; nothing may need more.
    assert!(align_of::<CallRecord>() == 8 && align_of::<OneFault>() == 8);
    assert!(align_of::<LifeRecord>() == 8 && align_of::<PopulatedRecord>() == 8);
};
