//! Reads the kernel side's per-CPU totals, against which every run checks itself.

use std::os::fd::{AsFd as _, AsRawFd as _};

use aya::Ebpf;
use aya::programs::Program;

use super::cpus::Cpus;

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
    /// class is not known. Kernels before 5.12 do not tell, and of classic tracepoints, which those
    /// of calls are, none before 6.7 (kernel/trace/bpf_trace.c:trace_call_bpf).
    pub missed: u64,
}

impl Counts {
    /// The sum over the CPUs, and what the programs missed.
    pub fn read(cpus: &Cpus, ebpf: &Ebpf) -> Self {
        let mut sum = Self {
            missed: missed(ebpf),
            ..cpus.counts()
        };
        // What was taken from a batch before it was lost has come.
        sum.faults_lost = sum.faults_lost.saturating_sub(cpus.rescued());
        sum
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
