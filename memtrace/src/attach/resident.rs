//! Counts the resident pages of address spaces by kmem:rss_stat: attached only while someone asks.

use std::io::Read as _;
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd};

use anyhow::{Context as _, anyhow, bail};
use aya::maps::{Array, HashMap, MapData, PerCpuHashMap};
use aya::programs::tp_btf::BtfTracePointLinkId;
use aya::programs::{BtfTracePoint, Iter};
use aya::{Btf, Ebpf};
use memtrace_ebpf::{CPU_SLICE, MmCpu, MmShared, mm_slot};

use super::{give_back_freed_memory, programs};
use crate::kernel::btf::Btf as KernelTypes;
use crate::pod::Wire;

/// A count of an address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MmId {
    /// Where its mm_struct is in the kernel: a name, never looked into.
    address: u64,
    /// Which of the counts of that address, since it may become another's.
    generation: u64,
}

/// What was counted of one address space so far, in pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Anonymous pages that reclaim took, those that went to swap included.
    pub taken_pages: u64,
    pub swapped_pages: u64,
    /// Pages that others added; counted with exact bytes only.
    pub added_pages: u64,
}

/// The program that counts, and its tracepoint.
const COUNTER: &str = "rss_stat";
/// The program that looks an address space up.
const FINDER: &str = "count_mm";

/// Offsets in kernel structures that counting needs, beside those of
/// [`identity`](super::identity).
#[derive(Clone, Copy, Debug, Default)]
pub struct Offsets {
    pub mm_rss_stat: u32,
    pub counter_count: u32,
    pub counter_counters: u32,
    pub array_pptrs: u32,
}

impl Offsets {
    /// Reads them from the kernel's BTF.
    ///
    /// # Errors
    /// One sentence on why this kernel's pages can't be counted.
    pub fn of(types: &KernelTypes) -> Result<Self, String> {
        let found = types.member_offsets(&[
            ("task_struct", "mm"),
            ("task_struct", "flags"),
            ("mm_struct", "mm_users"),
            ("mm_struct", "rss_stat"),
            ("percpu_counter", "count"),
            ("percpu_counter", "counters"),
            ("bpf_array", "pptrs"),
            // Up to 6.1 the counters are of another kind, cached in each task.
            ("mm_rss_stat", "count"),
        ]);
        let [
            task_mm,
            task_flags,
            mm_users,
            rss_stat,
            count,
            counters,
            pptrs,
            old,
        ] = found[..]
        else {
            return Err("the kernel's BTF could not be read".to_owned());
        };
        if old.is_some() {
            return Err("Linux before 6.2 does not tell which pages reclaim takes".to_owned());
        }
        let all = || {
            let _ = (task_mm?, task_flags?, mm_users?);
            Some(Self {
                mm_rss_stat: rss_stat?,
                counter_count: count?,
                counter_counters: counters?,
                array_pptrs: pptrs?,
            })
        };
        all().ok_or_else(|| "the kernel's BTF does not say where it counts pages".to_owned())
    }
}

/// The counting of resident pages.
pub struct Resident {
    mms: PerCpuHashMap<MapData, u64, Wire<MmCpu>>,
    shared: HashMap<MapData, u64, Wire<MmShared>>,
    slots: Array<MapData, u64>,
    counted: Vec<MmId>,
    /// How many counts were begun.
    generations: u64,
    cpus: u32,
    loaded: bool,
    /// While attached.
    link: Option<BtfTracePointLinkId>,
    /// Why it can't be, where it can't.
    unsupported: Option<String>,
}

impl Resident {
    /// Takes its maps; attaches nothing yet.
    pub fn new(ebpf: &mut Ebpf, cpus: u32, unsupported: Option<String>) -> anyhow::Result<Self> {
        let mut take = |name: &str| {
            ebpf.take_map(name)
                .with_context(|| format!("the eBPF object has no map {name}"))
        };
        Ok(Self {
            mms: PerCpuHashMap::try_from(take("MMS")?)?,
            shared: HashMap::try_from(take("MMS_SHARED")?)?,
            slots: Array::try_from(take("MM_SLOTS")?)?,
            counted: Vec::new(),
            generations: 0,
            cpus,
            loaded: false,
            link: None,
            unsupported,
        })
    }

    /// Why nothing can be counted here; None where it can, as far as is known.
    pub fn unsupported(&self) -> Option<&str> {
        self.unsupported.as_deref()
    }

    /// Begins to count the pages of a process's address space, and says which that is; counting
    /// has begun on return. Counts go on where they were, if it was counted already.
    ///
    /// # Errors
    /// When the kernel does not offer it, or the process has no address space (any more).
    pub fn count(&mut self, ebpf: &mut Ebpf, pid: u32) -> anyhow::Result<MmId> {
        if let Some(why) = &self.unsupported {
            bail!("{why}");
        }
        // The program first; then what the counters are, and from there every change counts.
        if let Err(error) = self.attach(ebpf) {
            self.unsupported = Some(format!("{error:#}"));
            return Err(error);
        }
        self.set(mm_slot::COUNTED, mm_slot::MANY)?;
        let found = self.find(ebpf, pid);
        if let Ok(mm) = found
            && !self.counted.contains(&mm)
        {
            self.counted.push(mm);
        }
        self.tell()?;
        if self.counted.is_empty() {
            self.detach(ebpf)?;
        }
        found
    }

    /// What was counted so far; None for one that is not counted.
    pub fn tally(&self, mm: MmId) -> Option<Tally> {
        if self.shared.get(&mm.address, 0).ok()?.0.generation != mm.generation {
            return None;
        }
        let per_cpu = self.mms.get(&mm.address, 0).ok()?;
        let mut sum = Tally::default();
        for Wire(cpu) in per_cpu.iter() {
            sum.taken_pages += cpu.taken_pages;
            sum.swapped_pages += cpu.swapped_pages;
            sum.added_pages += cpu.added_pages;
        }
        Some(sum)
    }

    /// Counts this one no longer, and takes the programs off if it was the last.
    ///
    /// # Errors
    /// When the kernel does not let the maps be written.
    pub fn forget(&mut self, ebpf: &mut Ebpf, mm: MmId) -> anyhow::Result<()> {
        self.counted.retain(|one| *one != mm);
        self.tell()?;
        // The address may be another's by now.
        if self.tally(mm).is_some() {
            let _ = self.mms.remove(&mm.address);
            let _ = self.shared.remove(&mm.address);
        }
        if self.counted.is_empty() {
            self.detach(ebpf)?;
        }
        Ok(())
    }

    /// Tells the programs which address spaces count.
    fn tell(&mut self) -> anyhow::Result<()> {
        let counted = match self.counted[..] {
            [] => 0,
            [one] => one.address,
            _ => mm_slot::MANY,
        };
        self.set(mm_slot::COUNTED, counted)
    }

    fn set(&mut self, slot: u32, value: u64) -> anyhow::Result<()> {
        self.slots
            .set(slot, value, 0)
            .context("the map of address spaces")
    }

    /// Loads the programs, so that counting can begin without delay. Where they can't be, no
    /// count will be had, and each says why.
    pub fn prepare(&mut self, ebpf: &mut Ebpf, btf: &Btf) {
        if self.unsupported.is_none()
            && let Err(error) = self.load(ebpf, btf)
        {
            self.unsupported = Some(format!("{error:#}"));
        }
    }

    fn load(&mut self, ebpf: &mut Ebpf, btf: &Btf) -> anyhow::Result<()> {
        let counter: &mut BtfTracePoint = programs::program(ebpf, COUNTER)?;
        programs::attached("kmem:rss_stat", counter.load(COUNTER, btf))?;
        let finder: &mut Iter = programs::program(ebpf, FINDER)?;
        programs::attached("the iterator over tasks", finder.load("task", btf))?;
        self.loaded = true;
        Ok(())
    }

    fn attach(&mut self, ebpf: &mut Ebpf) -> anyhow::Result<()> {
        if self.link.is_some() {
            return Ok(());
        }
        if !self.loaded {
            let btf = Btf::from_sys_fs().map_err(|_| anyhow!("this kernel has no BTF"))?;
            self.load(ebpf, &btf)?;
            give_back_freed_memory();
        }
        let counter: &mut BtfTracePoint = programs::program(ebpf, COUNTER)?;
        self.link = Some(programs::attached("kmem:rss_stat", counter.attach())?);
        Ok(())
    }

    fn detach(&mut self, ebpf: &mut Ebpf) -> anyhow::Result<()> {
        if let Some(link) = self.link.take() {
            let counter: &mut BtfTracePoint = programs::program(ebpf, COUNTER)?;
            counter.detach(link).context("taking a program off")?;
        }
        Ok(())
    }

    /// Lets the kernel side look up the address space of a process and begin with it.
    fn find(&mut self, ebpf: &mut Ebpf, pid: u32) -> anyhow::Result<MmId> {
        self.generations += 1;
        self.set(mm_slot::GENERATION, self.generations)?;
        let address = self.look_up(ebpf, pid, 0)?;
        if let Some(known) = self.counted.iter().find(|one| one.address == address)
            && self.tally(*known).is_some()
        {
            return Ok(*known);
        }
        let mut from = CPU_SLICE;
        while from < self.cpus {
            if self.look_up(ebpf, pid, from)? != address {
                bail!("the process has just replaced its address space");
            }
            from += CPU_SLICE;
        }
        let mm = MmId {
            address,
            generation: self.generations,
        };
        if self.tally(mm).is_none() {
            let _ = self.shared.remove(&address);
            bail!("the kernel has no room to count one more address space");
        }
        Ok(mm)
    }

    /// One run of the look-up; the address that it found.
    fn look_up(&mut self, ebpf: &mut Ebpf, pid: u32, from_cpu: u32) -> anyhow::Result<u64> {
        self.set(mm_slot::FOUND, 0)?;
        self.set(mm_slot::FROM_CPU, from_cpu.into())?;
        let finder: &mut Iter = programs::program(ebpf, FINDER)?;
        let program = finder.fd()?.as_fd().as_raw_fd();
        run_over_threads(program, pid).context("cannot look up an address space")?;
        let found = self.slots.get(&mm_slot::FOUND, 0);
        match found.context("the map of address spaces")? {
            0 => bail!("the process has no address space any more"),
            address => Ok(address),
        }
    }
}

/// Runs an iterator over the threads of one process. aya makes iterators over all tasks only.
fn run_over_threads(program: i32, pid: u32) -> std::io::Result<()> {
    // include/uapi/linux/bpf.h: the attributes of these two commands, and union bpf_iter_link_info.
    const BPF_LINK_CREATE: libc::c_int = 28;
    const BPF_ITER_CREATE: libc::c_int = 33;
    const BPF_TRACE_ITER: u32 = 28;
    #[repr(C)]
    struct LinkCreate {
        program: u32,
        target: u32,
        attach_type: u32,
        flags: u32,
        info: u64,
        info_len: u32,
        padding: u32,
    }
    #[repr(C)]
    struct LinkInfo {
        tid: u32,
        pid: u32,
        pid_fd: u32,
        padding: u32,
    }
    #[repr(C)]
    struct IterCreate {
        link: u32,
        flags: u32,
    }
    let info = LinkInfo {
        tid: 0,
        pid,
        pid_fd: 0,
        padding: 0,
    };
    let link = LinkCreate {
        program: program as u32,
        target: 0,
        attach_type: BPF_TRACE_ITER,
        flags: 0,
        info: (&raw const info) as u64,
        info_len: size_of::<LinkInfo>() as u32,
        padding: 0,
    };
    let link = bpf(BPF_LINK_CREATE, &link)?;
    let iterator = IterCreate {
        link: link.as_raw_fd() as u32,
        flags: 0,
    };
    let mut iterator = std::fs::File::from(bpf(BPF_ITER_CREATE, &iterator)?);
    // Reading makes it run. It prints nothing.
    let mut nothing = Vec::new();
    iterator.read_to_end(&mut nothing).map(drop)
}

/// A bpf(2) command that makes a descriptor.
fn bpf<T>(command: libc::c_int, attributes: &T) -> std::io::Result<OwnedFd> {
    // SAFETY: `attributes` is of the shape that the command reads, and of the size that it is told.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_ref(attributes),
            size_of::<T>(),
        )
    };
    if fd < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}
