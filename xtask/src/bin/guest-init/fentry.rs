//! Tries whether a program at a function's entry loads and attaches: memtrace has none yet, and may one day.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use anyhow::{Context as _, Result, anyhow};

/// What memtrace would watch that way.
const FUNCTION: &[u8] = b"__x64_sys_madvise";
const BTF: &str = "/sys/kernel/btf/vmlinux";

/// include/uapi/linux/bpf.h
const BPF_PROG_LOAD: i32 = 5;
const BPF_RAW_TRACEPOINT_OPEN: i32 = 17;
const BPF_PROG_TYPE_TRACING: u32 = 26;
const BPF_TRACE_FENTRY: u32 = 24;
/// `r0 = 0; exit`
const PROGRAM: [u64; 2] = [0x0000_00b7, 0x0000_0095];

/// The beginning of the attributes of BPF_PROG_LOAD.
#[repr(C)]
#[derive(Default)]
struct Load {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log: [u32; 4],
    version_and_flags: [u32; 2],
    name: [u8; 16],
    interface: u32,
    attach_type: u32,
    btf_file: u32,
    infos: [u32; 8],
    attach_btf_id: u32,
}

#[repr(C)]
struct Open {
    name: u64,
    program: u32,
    _padding: u32,
}

/// Loads and attaches it, and takes it off again.
pub fn attempt() -> Result<()> {
    let types = fs::read(BTF).with_context(|| format!("cannot read {BTF}"))?;
    let id = function_id(&types).context("the kernel's BTF has no such function")?;
    let load = Load {
        program_type: BPF_PROG_TYPE_TRACING,
        instruction_count: PROGRAM.len() as u32,
        instructions: PROGRAM.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        attach_type: BPF_TRACE_FENTRY,
        attach_btf_id: id,
        ..Load::default()
    };
    let program = bpf(BPF_PROG_LOAD, &load).context("it cannot be loaded")?;
    let open = Open {
        name: 0,
        program: program.as_raw_fd() as u32,
        _padding: 0,
    };
    bpf(BPF_RAW_TRACEPOINT_OPEN, &open).context("it cannot be attached")?;
    Ok(())
}

fn bpf<T>(command: i32, attributes: &T) -> Result<OwnedFd> {
    // SAFETY: the kernel reads as many bytes as it is told, and what they point to is static.
    let file = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_ref(attributes),
            size_of::<T>(),
        )
    };
    match i32::try_from(file) {
        // SAFETY: the descriptor is new and nobody else's.
        Ok(file) if file >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(file) }),
        _ => Err(anyhow!(io::Error::last_os_error())),
    }
}

/// The type id of the function (include/uapi/linux/btf.h).
fn function_id(btf: &[u8]) -> Option<u32> {
    const FUNC: u32 = 12;
    let header = u32_at(btf, 4)? as usize;
    let section = |at| Some(header + u32_at(btf, at)? as usize);
    let (mut at, strings) = (section(8)?, section(16)?);
    let end = at + u32_at(btf, 12)? as usize;
    let mut id = 0;
    while at < end {
        id += 1;
        let (name, info) = (u32_at(btf, at)? as usize, u32_at(btf, at + 4)?);
        let (kind, count) = (info >> 24 & 0x1f, (info & 0xffff) as usize);
        let name = btf.get(strings + name..)?;
        if kind == FUNC && name.starts_with(FUNCTION) && name.get(FUNCTION.len()) == Some(&0) {
            return Some(id);
        }
        at += 12
            + match kind {
                1 | 14 | 17 => 4,
                3 => 12,
                4 | 5 | 15 | 19 => 12 * count,
                6 | 13 => 8 * count,
                _ => 0,
            };
    }
    None
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at + 4)?;
    Some(u32::from_le_bytes(word.try_into().ok()?))
}
