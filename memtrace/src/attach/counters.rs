//! Reads the kernel side's per-CPU totals, against which every run checks itself.

use std::os::fd::{AsFd as _, AsRawFd as _};

use anyhow::Context as _;
use aya::Ebpf;
use aya::maps::{Map, MapData, PerCpuArray};
use aya::programs::Program;
use memtrace_ebpf::Counters as PerCpu;

use crate::pod::Wire;

/// What the kernel side saw and what it could not deliver, by class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub faults_seen: u64,
    pub faults_lost: u64,
    pub calls_seen: u64,
    pub calls_lost: u64,
    pub lives_seen: u64,
    pub lives_lost: u64,
    pub populated_seen: u64,
    pub populated_lost: u64,
    /// Calls whose arguments are lost because too many threads were in calls at once.
    pub join_overflow: u64,
    /// Calls whose exit was not seen.
    pub calls_missed: u64,
    /// Children that are not traced because there were too many.
    pub targets_overflow: u64,
    /// Times that the kernel did not run a program because another ran on that CPU; of which
    /// class is not known, and kernels before 5.12 do not tell.
    pub missed: u64,
}

pub struct Counters(PerCpuArray<MapData, Wire<PerCpu>>);

impl Counters {
    pub fn new(map: Map) -> anyhow::Result<Self> {
        Ok(Self(PerCpuArray::try_from(map)?))
    }

    /// The sum over the CPUs.
    ///
    /// # Errors
    /// When the kernel does not let the map be read.
    pub fn read(&self, ebpf: &Ebpf) -> anyhow::Result<Counts> {
        let per_cpu = self
            .0
            .get(&0, 0)
            .context("cannot read the kernel side's counters")?;
        let mut sum = Counts {
            missed: missed(ebpf),
            ..Counts::default()
        };
        for Wire(cpu) in per_cpu.iter() {
            sum.faults_seen += cpu.faults_seen;
            sum.faults_lost += cpu.faults_lost;
            sum.calls_seen += cpu.calls_seen;
            sum.calls_lost += cpu.calls_lost;
            sum.lives_seen += cpu.lives_seen;
            sum.lives_lost += cpu.lives_lost;
            sum.populated_seen += cpu.populated_seen;
            sum.populated_lost += cpu.populated_lost;
            sum.join_overflow += cpu.join_overflow;
            sum.calls_missed += cpu.calls_missed;
            sum.targets_overflow += cpu.targets_overflow;
        }
        Ok(sum)
    }
}

/// The programs' recursion_misses: the kernel skips a program while another of its kind runs on
/// the same CPU (kernel/trace/bpf_trace.c:trace_call_bpf, kernel/bpf/trampoline.c).
fn missed(ebpf: &Ebpf) -> u64 {
    ebpf.programs()
        .filter_map(|(_, program)| recursion_misses(program))
        .sum()
}

/// None where the kernel is too old to count them, or the program is not loaded.
fn recursion_misses(program: &Program) -> Option<u64> {
    // struct bpf_prog_info as of 5.12 (include/uapi/linux/bpf.h); the kernel fills in as much as it
    // knows and tells how much that is.
    const RECURSION_MISSES: usize = 208;
    const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
    #[repr(C)]
    struct Attr {
        fd: u32,
        len: u32,
        info: u64,
    }
    let mut info = [0u8; RECURSION_MISSES + 8];
    let mut attr = Attr {
        fd: u32::try_from(program.fd().ok()?.as_fd().as_raw_fd()).ok()?,
        len: info.len() as u32,
        info: info.as_mut_ptr() as u64,
    };
    // SAFETY: `attr` is of the shape that this command reads, and names a buffer of `len` bytes
    // that outlives the call.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_OBJ_GET_INFO_BY_FD,
            &mut attr,
            size_of::<Attr>(),
        )
    };
    if ret != 0 || (attr.len as usize) < info.len() {
        return None;
    }
    info.last_chunk().copied().map(u64::from_ne_bytes)
}
