//! Loads the eBPF object with what it must know of this kernel and of whom to trace.

use anyhow::{Context as _, anyhow};
use aya::{Ebpf, EbpfLoader, include_bytes_aligned};

use super::{Options, identity, resident};
use crate::kernel::btf::Btf as KernelTypes;
use crate::kernel::explain::explain_load_error;
use crate::kernel::format::read_format;
use crate::proc::namespace;

/// The committed object: `cargo xtask build-ebpf` makes it.
static OBJECT: &[u8] =
    include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/bpf/memtrace.bpf.o"));

/// The process that is compared with a constant: the only one; 0 for none.
pub fn constant(pids: &[u32]) -> u32 {
    match pids {
        [pid] => *pid,
        _ => 0,
    }
}

/// What was loaded, and what it can do on this kernel.
pub struct Loaded {
    pub ebpf: Ebpf,
    /// It can tell the last thread of a process.
    pub sees_ends: bool,
    /// It can follow a pidfd, and tell address spaces apart.
    pub identifies: bool,
    /// Why it can't count resident pages, where it can't.
    pub uncounted: Option<String>,
}

/// Loads the object with its globals set.
pub fn load(options: &Options) -> anyhow::Result<Loaded> {
    let newtask = read_format("task", "task_newtask")
        .context("cannot read the format of the tracepoint task:task_newtask")?;
    let offset = |name: &str| {
        newtask
            .field(name)
            .map(|field| field.offset)
            .with_context(|| format!("this kernel's task:task_newtask has no field {name}"))
    };
    let (newtask_pid, newtask_flags) = (offset("pid")?, offset("clone_flags")?);
    let members = [
        ("task_struct", "signal"),
        ("signal_struct", "live"),
        ("task_struct", "exit_code"),
        ("task_struct", "pagefault_disabled"),
    ];
    let types = KernelTypes::of_kernel();
    // Without BTF the kernel side can't tell a process's last thread, and says so.
    let offsets = types.as_ref().map_or_else(
        |_| vec![None; members.len()],
        |types| types.member_offsets(&members),
    );
    let identity = types
        .as_ref()
        .map_or_else(|_| identity::Offsets::default(), identity::Offsets::of);
    let (resident, uncounted) = match types
        .map_err(|error| format!("the kernel's BTF can't be read: {error}"))
        .and_then(|types| resident::Offsets::of(&types))
    {
        Ok(offsets) => (offsets, None),
        Err(why) => (resident::Offsets::default(), Some(why)),
    };
    let cpus = possible_cpus()?;
    let exact_bytes = u32::from(options.exact_bytes);
    let [
        task_signal,
        signal_live,
        task_exit_code,
        task_pagefault_disabled,
    ] = std::array::from_fn(|i| offsets.get(i).copied().flatten().unwrap_or(0));
    let namespace = namespace::own().context("cannot tell this process's pid namespace")?;
    let (dev, ino) = if namespace.initial {
        (0, 0)
    } else {
        (namespace.dev, namespace.ino)
    };
    let target = constant(&options.pids);
    let follow = u32::from(options.follow_forks);
    let mut loader = EbpfLoader::new();
    loader
        .map_max_entries("RING", options.ringbuf_bytes)
        .map_max_entries("CPU", cpus)
        .override_global("TARGET", &target, true)
        .override_global("FOLLOW_FORKS", &follow, true)
        .override_global("PID_NS_DEV", &dev, true)
        .override_global("PID_NS_INO", &ino, true)
        .override_global("NEWTASK_PID", &newtask_pid, true)
        .override_global("NEWTASK_FLAGS", &newtask_flags, true)
        .override_global("TASK_SIGNAL", &task_signal, true)
        .override_global("SIGNAL_LIVE", &signal_live, true)
        .override_global("TASK_EXIT_CODE", &task_exit_code, true)
        .override_global("TASK_PAGEFAULT_DISABLED", &task_pagefault_disabled, true)
        .override_global("MM_RSS_STAT", &resident.mm_rss_stat, true)
        .override_global("COUNTER_COUNT", &resident.counter_count, true)
        .override_global("COUNTER_COUNTERS", &resident.counter_counters, true)
        .override_global("ARRAY_PPTRS", &resident.array_pptrs, true)
        .override_global("CPUS", &cpus, true)
        .override_global("EXACT_BYTES", &exact_bytes, true)
        .override_global("AYA_LOG_LEVEL", &options.log_level, true);
    identity.set(&mut loader);
    let ebpf = loader
        .load(OBJECT)
        .map_err(|error| anyhow!(explain_load_error("cannot load the eBPF object", &error)))?;
    Ok(Loaded {
        ebpf,
        sees_ends: [task_signal, signal_live, task_exit_code]
            .iter()
            .all(|offset| *offset != 0),
        identifies: identity.known(),
        uncounted,
    })
}

/// How many CPUs there may ever be: one more than the highest number.
pub fn possible_cpus() -> anyhow::Result<u32> {
    const POSSIBLE: &str = "/sys/devices/system/cpu/possible";
    let list = std::fs::read_to_string(POSSIBLE)
        .with_context(|| format!("cannot read {POSSIBLE}, which tells how many CPUs there are"))?;
    highest(&list)
        .and_then(|highest| highest.checked_add(1))
        .with_context(|| format!("{POSSIBLE} is no list of CPUs: {list:?}"))
}

/// The highest number of a list like `0-3,8-11`, whose parts come in order.
fn highest(list: &str) -> Option<u32> {
    let last = list.trim_end().rsplit([',', '-']).next()?;
    last.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::highest;

    #[test]
    fn the_highest_cpu_is_the_last_of_the_list() {
        assert_eq!(highest("0-3\n"), Some(3));
        assert_eq!(highest("0\n"), Some(0));
        assert_eq!(highest("0-3,8-11\n"), Some(11));
        assert_eq!(highest("0,2\n"), Some(2));
        assert_eq!(highest("\n"), None);
    }
}
