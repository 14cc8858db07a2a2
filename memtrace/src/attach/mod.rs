//! Loads the eBPF object, attaches its programs and takes them off again: all that knows aya's programs.

mod control;
mod counters;
mod cpus;
mod identity;
mod load;
mod mapped;
mod programs;
mod resident;
mod sharing;
mod trial;

use std::fmt;
use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail};
use aya::maps::{HashMap, MapData, RingBuf};
use aya::{Btf, Ebpf};
use memtrace_ebpf::{Pending, followed};

use crate::kernel::caps::Caps;
use crate::kernel::explain;
use crate::kernel::tracefs::with_tracefs;
use crate::kernel::{Kernel, Lockdown, Version, lockdown, memlock};
use crate::pod::Wire;
use crate::proc::namespace;
use control::Control;
pub use counters::Counts;
pub use cpus::Cpus;
use load::{Loaded, constant, load, possible_cpus};
pub use resident::{MmId, Tally};
use sharing::Finder;
pub use sharing::Sharing;
pub use trial::{Tried, try_all};

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
    /// They run already: others may share their memory.
    pub running: bool,
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
    /// Who shared the memory of the targets when tracing began.
    pub sharing: Sharing,
    control: Control,
    /// The process of the constant, 0 for none; and the others.
    target: u32,
    targets: HashMap<MapData, u32, u32>,
    /// The kernel side takes them out by itself when they end.
    sees_ends: bool,
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
    if !namespace::in_initial_user_namespace() {
        bail!("{}", explain::NESTED_USERS);
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
    if lockdown() == Lockdown::Confidentiality {
        bail!("{}", explain::LOCKED_DOWN);
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
    let Loaded {
        mut ebpf,
        sees_ends,
        identifies,
        uncounted,
    } = load(options)?;
    let mut take = |name: &str| {
        ebpf.take_map(name)
            .with_context(|| format!("the eBPF object has no map {name}"))
    };
    let ring = RingBuf::try_from(take("RING")?)?;
    let pending = HashMap::try_from(take("PENDING")?)?;
    let control = Control::new(take("CONTROL")?)?;
    let mut targets = HashMap::try_from(take("TARGETS")?)?;
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

    let btf = Btf::from_sys_fs().ok();
    let mut finder = options
        .running
        .then(|| Finder::new(&mut ebpf, btf.as_ref(), identifies, &options.pids));
    if let Some(finder) = &mut finder {
        finder.before(&mut ebpf, &mut targets, &control);
    }
    programs::attach_lifecycle(&mut ebpf)?;
    let (fault_source, passed_over) =
        attach_faults(&mut ebpf, options.fault_source, kernel, btf.as_ref())?;
    programs::attach_calls(&mut ebpf)?;
    let sharing = finder.map_or_else(Sharing::default, |finder| {
        finder.after(&mut ebpf, &mut targets, &control)
    });
    if let Some(btf) = btf.filter(|_| options.counts_pages) {
        resident.prepare(&mut ebpf, &btf);
    }
    let attached = Attached {
        ebpf,
        fault_source,
        passed_over,
        sharing,
        control,
        target: constant(&options.pids),
        targets,
        sees_ends,
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

    /// A process has ended. The kernel side must know, since the pid may become another's, and sees
    /// it by itself only with the kernel's BTF.
    pub fn ended(&mut self, pid: u32) {
        if !self.sees_ends {
            self.leave(pid);
        }
    }

    /// Traces a process no more.
    pub fn leave(&mut self, pid: u32) {
        if pid == self.target {
            self.control.target_gone();
        } else if self.targets.remove(&pid).is_ok() {
            self.control.unfollow();
        }
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
