//! Every map and every global of the kernel side, once.

use aya_ebpf::{
    Global,
    macros::map,
    maps::{Array, HashMap, PerCpuArray, RingBuf},
};
use memtrace_ebpf::{Control, Counters, JOIN_ENTRIES, Pending, TARGET_ENTRIES};

/// The stream to userspace; the loader sets its size.
#[map]
pub static RING: RingBuf = RingBuf::with_byte_size(8 << 20, 0);

/// Calls that have entered and not exited, by tid.
#[map]
pub static PENDING: HashMap<u32, Pending> = HashMap::with_max_entries(JOIN_ENTRIES, 0);

/// Processes traced beside the constant target, by pid; the value is one of `followed`.
#[map]
pub static TARGETS: HashMap<u32, u32> = HashMap::with_max_entries(TARGET_ENTRIES, 0);

#[map]
pub static COUNTERS: PerCpuArray<Counters> = PerCpuArray::with_max_entries(1, 0);

#[map]
pub static CONTROL: Array<Control> = Array::with_max_entries(1, 0);

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
