//! The floor: a program of two instructions that does nothing, on the hooks that tracers use.
use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::path::Path;

use anyhow::{Context as _, Result};
use aya_obj::btf::{Btf, BtfKind};

/// Where an empty program can be put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// The tracepoint of user page faults, typed by the kernel's BTF.
    FaultTpBtf,
    /// The same tracepoint the classic way.
    FaultTracepoint,
    /// Both classic tracepoints of the system call madvise.
    MadviseTracepoints,
}

/// Gone from the hook when this is dropped.
pub struct Attached {
    _held: Vec<OwnedFd>,
}

/// `r0 = 0; exit` (include/uapi/linux/bpf.h: struct bpf_insn).
const DO_NOTHING: [u64; 2] = [0x0000_0000_0000_00b7, 0x0000_0000_0000_0095];
const LICENSE: &std::ffi::CStr = c"Dual MIT/GPL";

// Commands and numbers of bpf(2), from include/uapi/linux/bpf.h.
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_RAW_TRACEPOINT_OPEN: libc::c_long = 17;
const BPF_PROG_TYPE_TRACEPOINT: u32 = 5;
const BPF_PROG_TYPE_TRACING: u32 = 26;
const BPF_TRACE_RAW_TP: u32 = 23;

// Of perf_event_open(2), from include/uapi/linux/perf_event.h.
const PERF_TYPE_TRACEPOINT: u32 = 2;
const PERF_ATTR_SIZE_VER0: u32 = 64;
const PERF_FLAG_FD_CLOEXEC: libc::c_ulong = 8;
const PERF_EVENT_IOC_ENABLE: libc::c_ulong = 0x2400;
const PERF_EVENT_IOC_SET_BPF: libc::c_ulong = 0x4004_2408;

pub fn attach(hook: Hook) -> Result<Attached> {
    let held = match hook {
        Hook::FaultTpBtf => vec![tp_btf("page_fault_user")?],
        Hook::FaultTracepoint => vec![tracepoint("exceptions/page_fault_user")?],
        Hook::MadviseTracepoints => vec![
            tracepoint("syscalls/sys_enter_madvise")?,
            tracepoint("syscalls/sys_exit_madvise")?,
        ],
    };
    Ok(Attached { _held: held })
}

/// The beginning of union bpf_attr for BPF_PROG_LOAD; the kernel takes what is missing as 0.
#[repr(C)]
#[derive(Default)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
    prog_btf_fd: u32,
    func_info_rec_size: u32,
    func_info: u64,
    func_info_cnt: u32,
    line_info_rec_size: u32,
    line_info: u64,
    line_info_cnt: u32,
    attach_btf_id: u32,
}

/// The part of union bpf_attr for BPF_RAW_TRACEPOINT_OPEN.
#[repr(C)]
struct RawTracepointOpen {
    name: u64,
    prog_fd: u32,
    padding: u32,
}

/// The first version of struct perf_event_attr.
#[repr(C)]
#[derive(Default)]
struct PerfEvent {
    kind: u32,
    size: u32,
    config: u64,
    rest: [u64; 6],
}

fn tp_btf(tracepoint: &str) -> Result<OwnedFd> {
    let btf = Btf::from_sys_fs().context("the kernel's BTF")?;
    let name = format!("btf_trace_{tracepoint}");
    let id = btf
        .id_by_type_name_kind(&name, BtfKind::Typedef)
        .with_context(|| format!("the kernel's BTF does not know {name}"))?;
    let program = load(BPF_PROG_TYPE_TRACING, BPF_TRACE_RAW_TP, id)?;
    let attributes = RawTracepointOpen {
        // The kernel knows the tracepoint by the BTF id.
        name: 0,
        prog_fd: u32::try_from(program.as_raw_fd())?,
        padding: 0,
    };
    bpf(BPF_RAW_TRACEPOINT_OPEN, &attributes).context("cannot attach an empty program")
}

fn tracepoint(event: &str) -> Result<OwnedFd> {
    let program = load(BPF_PROG_TYPE_TRACEPOINT, 0, 0)?;
    let path = Path::new("/sys/kernel/tracing/events")
        .join(event)
        .join("id");
    let id =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let attributes = PerfEvent {
        kind: PERF_TYPE_TRACEPOINT,
        size: PERF_ATTR_SIZE_VER0,
        config: id.trim().parse()?,
        ..PerfEvent::default()
    };
    // The program runs on every CPU, whichever the event is opened on.
    // SAFETY: the attributes are initialised and as long as their size says.
    let event = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw const attributes,
            -1,
            0,
            -1,
            PERF_FLAG_FD_CLOEXEC,
        )
    };
    let event = descriptor(event).context("perf_event_open")?;
    ioctl(&event, PERF_EVENT_IOC_SET_BPF, program.as_raw_fd())?;
    ioctl(&event, PERF_EVENT_IOC_ENABLE, 0)?;
    Ok(event)
}

fn load(prog_type: u32, expected_attach_type: u32, attach_btf_id: u32) -> Result<OwnedFd> {
    let attributes = ProgLoad {
        prog_type,
        insn_cnt: DO_NOTHING.len() as u32,
        insns: DO_NOTHING.as_ptr() as u64,
        license: LICENSE.as_ptr() as u64,
        expected_attach_type,
        attach_btf_id,
        ..ProgLoad::default()
    };
    bpf(BPF_PROG_LOAD, &attributes).context("cannot load an empty program")
}

fn bpf<T>(command: libc::c_long, attributes: &T) -> Result<OwnedFd> {
    // SAFETY: the kernel reads as many bytes as it is told, and they are initialised.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            &raw const *attributes,
            size_of::<T>(),
        )
    };
    descriptor(answer)
}

fn ioctl(event: &OwnedFd, request: libc::c_ulong, argument: RawFd) -> Result<()> {
    // SAFETY: both requests take a number.
    match unsafe { libc::ioctl(event.as_raw_fd(), request, argument) } {
        0.. => Ok(()),
        _ => Err(io::Error::last_os_error()).context("ioctl on a perf event"),
    }
}

fn descriptor(answer: libc::c_long) -> Result<OwnedFd> {
    match RawFd::try_from(answer) {
        // SAFETY: the kernel has just made it, for nobody else.
        Ok(file @ 0..) => Ok(unsafe { OwnedFd::from_raw_fd(file) }),
        _ => Err(io::Error::last_os_error().into()),
    }
}
