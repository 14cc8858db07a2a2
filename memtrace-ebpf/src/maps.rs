//! Every map and every global of the kernel side, once.

use aya_ebpf::{
    Global,
    bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC},
    macros::map,
    maps::{Array, HashMap, PerCpuArray, PerCpuHashMap, RingBuf},
};
use memtrace_ebpf::{
    Control, JOIN_ENTRIES, MM_ENTRIES, MmCpu, MmShared, Pending, PerCpu, TARGET_ENTRIES, mm_slot,
};

/// The stream to userspace; the loader sets its size.
#[map]
pub static RING: RingBuf = RingBuf::with_byte_size(8 << 20, 0);

/// Calls that have entered and not exited, by tid.
#[map]
pub static PENDING: HashMap<u32, Pending> = HashMap::with_max_entries(JOIN_ENTRIES, 0);

/// Processes traced beside the constant target, by pid; the value is one of `followed`.
#[map]
pub static TARGETS: HashMap<u32, u32> = HashMap::with_max_entries(TARGET_ENTRIES, 0);

/// Counters and batch of every CPU; the loader sets how many there are. Userspace has it mapped:
/// looking costs it no system call, and the CPUs nothing.
#[map]
pub static CPU: Array<PerCpu> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Mapped by userspace too, which adds to the epoch.
#[map]
pub static CONTROL: Array<Control> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Address spaces whose resident pages are counted, by the address of their mm_struct. They take
/// memory as they come: a thousand of them on every CPU would be much for what is mostly one.
#[map]
pub static MMS: PerCpuHashMap<u64, MmCpu> =
    PerCpuHashMap::with_max_entries(MM_ENTRIES, BPF_F_NO_PREALLOC);

#[map]
pub static MMS_SHARED: HashMap<u64, MmShared> = HashMap::with_max_entries(MM_ENTRIES, 0);

/// Where this map's own element lies tells where each CPU's memory lies; it holds that, once known.
#[map]
pub static ANCHOR: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Which address space is counted, and which was found: see `mm_slot`.
#[map]
pub static MM_SLOTS: Array<u64> = Array::with_max_entries(mm_slot::ALL, 0);

/// The only target, or 0 where there are several: then they are all in `TARGETS`.
#[unsafe(no_mangle)]
pub static TARGET: Global<u32> = Global::new(0);

/// Non-zero: children are traced too.
#[unsafe(no_mangle)]
pub static FOLLOW_FORKS: Global<u32> = Global::new(0);

/// Device and inode of the pid namespace that pids are counted in; an inode of 0 means the initial one.
#[unsafe(no_mangle)]
pub static PID_NS_DEV: Global<u64> = Global::new(0);
#[unsafe(no_mangle)]
pub static PID_NS_INO: Global<u64> = Global::new(0);

/// Offsets of fields in the records of tracepoints, read from their `format` files.
#[unsafe(no_mangle)]
pub static NEWTASK_PID: Global<u32> = Global::new(8);
#[unsafe(no_mangle)]
pub static NEWTASK_FLAGS: Global<u32> = Global::new(32);

/// Offsets in kernel structures, read from the kernel's BTF; 0 where there is none.
#[unsafe(no_mangle)]
pub static TASK_SIGNAL: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub static SIGNAL_LIVE: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub static TASK_EXIT_CODE: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub static TASK_PAGEFAULT_DISABLED: Global<u32> = Global::new(0);

/// Non-zero where all of the next are known: what takes a descriptor to its process, and a process
/// to its address space.
#[unsafe(no_mangle)]
pub static IDENTIFIES: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub static TASK_FILES: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub static FILES_FDT: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub static FDTABLE_MAX_FDS: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub static FDTABLE_FD: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub static FILE_INODE: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub static FILE_PRIVATE_DATA: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub static INODE_SB: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub static INODE_PRIVATE: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub static SB_MAGIC: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub static PID_LEVEL: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub static PID_NUMBERS: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub static PID_NS_INUM: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub static TASK_GROUP_LEADER: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub static TASK_THREAD_PID: Global<u32> = Global::new(0);

/// What counting resident pages takes (Linux 6.2 and newer). The first three serve both.
#[unsafe(no_mangle)]
pub static TASK_MM: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub static TASK_FLAGS: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub static MM_USERS: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub static MM_RSS_STAT: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub static COUNTER_COUNT: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub static COUNTER_COUNTERS: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub static ARRAY_PPTRS: Global<u32> = Global::new(0);

/// How many CPUs there may ever be.
#[unsafe(no_mangle)]
pub static CPUS: Global<u32> = Global::new(0);

/// Non-zero: what every call releases and every fault populates is counted too.
#[unsafe(no_mangle)]
pub static EXACT_BYTES: Global<u32> = Global::new(0);
