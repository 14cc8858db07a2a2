//! Loads the eBPF object, attaches its programs and takes them off again: all that knows aya's programs.

mod control;
mod counters;
mod cpus;
mod mapped;
mod programs;
mod resident;

use std::fmt;
use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail};
use aya::maps::{HashMap, MapData, RingBuf};
use aya::{Btf, Ebpf, EbpfLoader, include_bytes_aligned};
use memtrace_ebpf::{Pending, followed};

use crate::kernel::btf::Btf as KernelTypes;
use crate::kernel::caps::Caps;
use crate::kernel::explain::explain_load_error;
use crate::kernel::format::read_format;
use crate::kernel::tracefs::with_tracefs;
use crate::kernel::{Kernel, Version, memlock};
use crate::pod::Wire;
use crate::proc::namespace;
use control::Control;
pub use counters::Counts;
pub use cpus::Cpus;
pub use resident::{MmId, Tally};

/// The committed object: `cargo xtask build-ebpf` makes it.
static OBJECT: &[u8] =
    include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/bpf/memtrace.bpf.o"));

/// Where page faults are taken from, from the cheapest to the dearest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultSource {
    /// A BTF-typed raw tracepoint: wants the kernel's BTF.
    TpBtf,
    /// A raw tracepoint: wants neither BTF nor tracefs.
    RawTp,
    /// The classic tracepoint.
    Tracepoint,
}

impl FaultSource {
    pub const ALL: [Self; 3] = [Self::TpBtf, Self::RawTp, Self::Tracepoint];

    /// All of them, in the order in which they are tried.
    pub fn ladder(kernel: &Kernel) -> [Self; 3] {
        // A classic tracepoint costs more, but misses nothing where the others do.
        if kernel.preempts_raw_tracepoints() {
            [Self::Tracepoint, Self::TpBtf, Self::RawTp]
        } else {
            Self::ALL
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::TpBtf => "tp_btf",
            Self::RawTp => "raw_tp",
            Self::Tracepoint => "tracepoint",
        }
    }
}

impl fmt::Display for FaultSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What to attach to.
#[derive(Clone, Debug)]
pub struct Options {
    /// Pids in this process's own pid namespace.
    pub pids: Vec<u32>,
    pub follow_forks: bool,
    /// None: the first rung of the ladder that works.
    pub fault_source: Option<FaultSource>,
    /// A power of two, and at least a page.
    pub ringbuf_bytes: u32,
    /// How much the kernel side says of rare events: 0 for nothing, 5 for all (aya_log's levels).
    pub log_level: u8,
    /// Be ready to count resident pages.
    pub counts_pages: bool,
    /// Count what every call releases and every fault populates.
    pub exact_bytes: bool,
}

/// Programs that are attached, until this is dropped or told to [`stop`](Attached::stop).
pub struct Attached {
    ebpf: Ebpf,
    pub fault_source: FaultSource,
    /// Rungs that were tried before it, and why each failed.
    pub passed_over: Vec<(FaultSource, String)>,
    control: Control,
    cpus: Arc<Cpus>,
    resident: resident::Resident,
    stopped: bool,
}

/// The ends of the maps that the ring's reader works on.
pub struct RingEnds {
    pub ring: RingBuf<MapData>,
    pub cpus: Arc<Cpus>,
    pub pending: HashMap<MapData, u32, Wire<Pending>>,
}

/// Loads and attaches everything: lifecycle, then faults, then calls. A mapping is taken for one
/// whose every fault was seen if its call was: so faults come before calls.
///
/// # Errors
/// One sentence that says what could not be loaded or attached, why, and what to do.
pub fn attach(options: &Options) -> anyhow::Result<(Attached, RingEnds)> {
    let kernel = Kernel::running().context("uname")?;
    preflight(&kernel)?;
    if let Some(pid) = options
        .pids
        .iter()
        .find(|pid| !namespace::can_be_told(**pid))
    {
        bail!(
            "process {pid} is in a pid namespace below memtrace's own, which is not the machine's first: \
             run memtrace on the host, or in that process's container"
        );
    }
    let result = in_sight_of_tracefs(|| attach_here(options, &kernel));
    give_back_freed_memory();
    result
}

/// Reading the kernel's BTF takes some twenty megabytes, for a moment.
fn give_back_freed_memory() {
    // Other C libraries give back by themselves.
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim takes an integer, and may be called at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// What would otherwise fail later, and less clearly.
fn preflight(kernel: &Kernel) -> anyhow::Result<()> {
    if kernel.version < Version::MINIMUM {
        bail!(
            "Linux {} is too old: memtrace needs {} or newer",
            kernel.release,
            Version::MINIMUM
        );
    }
    if kernel.machine != "x86_64" {
        // riscv64 has the tracepoints, but passes another kind of error code; arm64 has none.
        bail!(
            "page faults on {} are not supported yet: memtrace runs on x86_64",
            kernel.machine
        );
    }
    let missing = Caps::effective()
        .context("cannot read this process's capabilities")?
        .missing_to_trace();
    if !missing.is_empty() {
        bail!(
            "tracing needs {}, which this user does not have: run memtrace with sudo \
             (`memtrace doctor` shows the ways without root)",
            missing.join(" and ")
        );
    }
    // It matters before Linux 5.11 only, and where it fails there, loading says so.
    let _ = memlock::lift();
    Ok(())
}

fn in_sight_of_tracefs<T: Send>(f: impl FnOnce() -> anyhow::Result<T> + Send) -> anyhow::Result<T> {
    with_tracefs(f).map_err(|error| anyhow!("{error}; {}", error.advice()))?
}

fn attach_here(options: &Options, kernel: &Kernel) -> anyhow::Result<(Attached, RingEnds)> {
    programs::check_formats()?;
    let (mut ebpf, uncounted) = load(options)?;
    let mut take = |name: &str| {
        ebpf.take_map(name)
            .with_context(|| format!("the eBPF object has no map {name}"))
    };
    let ring = RingBuf::try_from(take("RING")?)?;
    let pending = HashMap::try_from(take("PENDING")?)?;
    let control = Control::new(take("CONTROL")?)?;
    let mut targets: HashMap<_, u32, u32> = HashMap::try_from(take("TARGETS")?)?;
    let cpus = Arc::new(Cpus::new(take("CPU")?, possible_cpus()? as usize)?);
    let mut resident = resident::Resident::new(&mut ebpf, possible_cpus()?, uncounted)?;

    if options.pids.len() > 1 {
        for pid in &options.pids {
            targets
                .insert(pid, followed::OWN, 0)
                .with_context(|| format!("cannot trace pid {pid}: the map of targets"))?;
        }
        control.follow(options.pids.len() as u64);
    }

    programs::attach_lifecycle(&mut ebpf)?;
    let btf = Btf::from_sys_fs().ok();
    let (fault_source, passed_over) =
        attach_faults(&mut ebpf, options.fault_source, kernel, btf.as_ref())?;
    programs::attach_calls(&mut ebpf)?;
    if let Some(btf) = btf.filter(|_| options.counts_pages) {
        resident.prepare(&mut ebpf, &btf);
    }
    // TARGETS stays alive through the programs that use it.
    let attached = Attached {
        ebpf,
        fault_source,
        passed_over,
        control,
        cpus: Arc::clone(&cpus),
        resident,
        stopped: false,
    };
    let ends = RingEnds {
        ring,
        cpus,
        pending,
    };
    Ok((attached, ends))
}

impl Attached {
    /// The kernel side's own log, for -v.
    pub fn ebpf_mut(&mut self) -> &mut Ebpf {
        &mut self.ebpf
    }

    /// Totals of what the kernel side saw and lost so far.
    pub fn counts(&self) -> Counts {
        Counts::read(&self.cpus, &self.ebpf)
    }

    /// Faults from here on are told apart from those before, and come after any stamp that was
    /// taken before.
    pub fn end_epoch(&self) {
        self.control.end_epoch();
    }

    /// Begins to count the resident pages of a process's address space.
    ///
    /// # Errors
    /// One sentence on why they can't be counted here.
    pub fn count_pages(&mut self, pid: u32) -> anyhow::Result<MmId> {
        if self.stopped {
            bail!("recording has stopped");
        }
        self.resident.count(&mut self.ebpf, pid)
    }

    /// What was counted of it so far.
    pub fn tally(&self, mm: MmId) -> Option<Tally> {
        self.resident.tally(mm)
    }

    /// Counts it no longer; its programs are taken off after the last.
    ///
    /// # Errors
    /// When the kernel does not let the maps be written.
    pub fn forget_pages(&mut self, mm: MmId) -> anyhow::Result<()> {
        self.resident.forget(&mut self.ebpf, mm)
    }

    /// Why pages can't be counted here; None where they can, as far as is known.
    pub fn uncountable(&self) -> Option<&str> {
        self.resident.unsupported()
    }

    /// Stops recording. On return no program records any more, so that what the ring and the
    /// counters hold is final. The programs are taken off when the result is dropped.
    pub fn stop(mut self) -> Stopped {
        // All stop at once by the flag: detaching takes milliseconds, one after the other.
        self.control.stop();
        self.stopped = true;
        grace_period();
        Stopped(self)
    }
}

/// Programs that are still attached and record nothing.
pub struct Stopped(Attached);

impl Stopped {
    /// The final totals.
    pub fn counts(&self) -> Counts {
        self.0.counts()
    }

    /// What was counted can still be read.
    pub fn kernel(&mut self) -> &mut Attached {
        &mut self.0
    }
}

/// How many CPUs there may ever be: one more than the highest number.
fn possible_cpus() -> anyhow::Result<u32> {
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

/// Waits until every program that runs at this moment has ended.
fn grace_period() {
    // MEMBARRIER_CMD_GLOBAL is synchronize_rcu() (kernel/sched/membarrier.c), which programs run under.
    // SAFETY: the call takes two integers and touches no memory of ours.
    let ret = unsafe { libc::syscall(libc::SYS_membarrier, 1, 0, 0) };
    if ret != 0 {
        // A kernel with nohz_full CPUs refuses it; no program runs for as long as this.
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// Loads the object with its globals set.
///
/// Beside it, why resident pages can't be counted here, where they can't.
fn load(options: &Options) -> anyhow::Result<(Ebpf, Option<String>)> {
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
    let target = match options.pids[..] {
        [pid] => pid,
        _ => 0,
    };
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
        .override_global("TASK_MM", &resident.task_mm, true)
        .override_global("TASK_FLAGS", &resident.task_flags, true)
        .override_global("MM_USERS", &resident.mm_users, true)
        .override_global("MM_RSS_STAT", &resident.mm_rss_stat, true)
        .override_global("COUNTER_COUNT", &resident.counter_count, true)
        .override_global("COUNTER_COUNTERS", &resident.counter_counters, true)
        .override_global("ARRAY_PPTRS", &resident.array_pptrs, true)
        .override_global("CPUS", &cpus, true)
        .override_global("EXACT_BYTES", &exact_bytes, true)
        .override_global("AYA_LOG_LEVEL", &options.log_level, true);
    let ebpf = loader
        .load(OBJECT)
        .map_err(|error| anyhow!(explain_load_error("cannot load the eBPF object", &error)))?;
    Ok((ebpf, uncounted))
}

/// Attaches to page faults by the first rung that works, or by the one that is asked for.
fn attach_faults(
    ebpf: &mut Ebpf,
    wanted: Option<FaultSource>,
    kernel: &Kernel,
    btf: Option<&Btf>,
) -> anyhow::Result<(FaultSource, Vec<(FaultSource, String)>)> {
    let ladder = match &wanted {
        Some(one) => std::slice::from_ref(one),
        None => &FaultSource::ladder(kernel)[..],
    };
    let mut failures = Vec::new();
    for &source in ladder {
        match programs::attach_fault_source(ebpf, source, btf) {
            Ok(()) => return Ok((source, failures)),
            Err(error) => failures.push((source, format!("{error:#}"))),
        }
    }
    let mut reasons: Vec<_> = failures
        .iter()
        .map(|(source, why)| format!("{source}: {why}"))
        .collect();
    reasons.dedup();
    bail!("cannot attach to page faults: {}", reasons.join("; "))
}

/// What works when it is really loaded, attached and taken off again.
pub struct Tried {
    /// Every rung of the ladder.
    pub fault_sources: Vec<(&'static str, Result<(), String>)>,
    /// Counting what the kernel takes.
    pub counting: Result<(), String>,
}

/// Tries everything, for `doctor`.
pub fn try_all() -> Tried {
    let options = Options {
        // A pid that no process has: the programs run and find nothing to record.
        pids: vec![u32::MAX],
        follow_forks: false,
        fault_source: None,
        ringbuf_bytes: 64 * 1024,
        log_level: 0,
        counts_pages: false,
        exact_bytes: false,
    };
    let explain = |error: anyhow::Error| format!("{error:#}");
    // With everything else, once: without the calls and the lifecycle no source is of use.
    let whole = attach(&options).map_err(explain);
    let (whole, counting) = match whole {
        // Its own pages are as good as any.
        Ok((mut attached, _)) => {
            let counting = attached.count_pages(std::process::id());
            (Ok(()), counting.map(drop).map_err(explain))
        }
        Err(error) => (Err(error.clone()), Err(error)),
    };
    let kernel = Kernel::running().unwrap_or_default();
    let fault_sources = FaultSource::ladder(&kernel)
        .into_iter()
        .map(|source| {
            let alone = || {
                let (mut ebpf, _) = load(&options)?;
                let btf = Btf::from_sys_fs().ok();
                attach_faults(&mut ebpf, Some(source), &kernel, btf.as_ref()).map(drop)
            };
            let result = whole
                .clone()
                .and_then(|()| in_sight_of_tracefs(alone).map_err(explain));
            (source.name(), result)
        })
        .collect();
    Tried {
        fault_sources,
        counting,
    }
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
