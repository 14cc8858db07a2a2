//! Which program goes to which hook.

use std::io;

use anyhow::{Context as _, anyhow, bail};
use aya::programs::{BtfTracePoint, Program, ProgramError, RawTracePoint, TracePoint};
use aya::{Btf, Ebpf};

use super::FaultSource;
use crate::kernel::explain::explain_load_error;
use crate::kernel::format::read_format;

/// The syscalls that are traced, each by an enter and an exit program.
const CALLS: [&str; 6] = [
    "madvise",
    "process_madvise",
    "mmap",
    "munmap",
    "mremap",
    "brk",
];

/// Program, category, tracepoint.
const LIFECYCLE: [(&str, &str, &str); 3] = [
    ("process_fork", "task", "task_newtask"),
    ("process_exec", "sched", "sched_process_exec"),
    ("process_exit", "sched", "sched_process_exit"),
];

/// The two tracepoints of a fault, and the word in our programs' names.
const FAULTS: [(&str, &str); 2] = [("page_fault_user", "user"), ("page_fault_kernel", "kernel")];

/// Checks that the records have the shape that the programs read: a kernel with other ones would
/// make nonsense of every figure.
pub fn check_formats() -> anyhow::Result<()> {
    let enter = read_format("syscalls", "sys_enter_madvise").map_err(|error| {
        if error.kind() == io::ErrorKind::NotFound {
            anyhow!("this kernel has no tracepoint syscalls:sys_enter_madvise (CONFIG_FTRACE_SYSCALLS is off)")
        } else {
            anyhow!("cannot read the format of the tracepoint syscalls:sys_enter_madvise: {error}")
        }
    })?;
    for (name, offset) in [("start", 16), ("len_in", 24), ("behavior", 32)] {
        match enter.field(name) {
            Some(field) if field.offset == offset => {}
            _ => bail!(
                "this kernel's syscalls:sys_enter_madvise has its field {name} in another place \
                 than {offset}: please report the kernel's version"
            ),
        }
    }
    let exit = read_format("syscalls", "sys_exit_madvise")
        .context("this kernel has no tracepoint syscalls:sys_exit_madvise")?;
    if exit.field("ret").is_none_or(|field| field.offset != 16) {
        bail!(
            "this kernel's syscalls:sys_exit_madvise is unlike any known: please report its version"
        );
    }
    Ok(())
}

pub fn attach_lifecycle(ebpf: &mut Ebpf) -> anyhow::Result<()> {
    // Older kernels than 6.12 have no such moment: there an exec begins with sched_process_exec,
    // and the few faults of its own setting up count for the image before.
    if read_format("sched", "sched_prepare_exec").is_ok() {
        attach_classic(ebpf, "process_prepare_exec", "sched", "sched_prepare_exec")?;
    }
    for (program, category, name) in LIFECYCLE {
        attach_classic(ebpf, program, category, name)?;
    }
    Ok(())
}

/// Exits first: a call that enters in between is then still seen leaving, and not left hanging.
pub fn attach_calls(ebpf: &mut Ebpf) -> anyhow::Result<()> {
    for step in ["exit", "enter"] {
        for call in CALLS {
            let program = format!("{step}_{call}");
            attach_classic(ebpf, &program, "syscalls", &format!("sys_{step}_{call}"))?;
        }
    }
    Ok(())
}

pub fn attach_fault_source(
    ebpf: &mut Ebpf,
    source: FaultSource,
    btf: Option<&Btf>,
) -> anyhow::Result<()> {
    for (hook, side) in FAULTS {
        match source {
            FaultSource::TpBtf => {
                let btf = btf.ok_or_else(|| {
                    anyhow!(
                        "this kernel has no BTF (/sys/kernel/btf/vmlinux, CONFIG_DEBUG_INFO_BTF)"
                    )
                })?;
                let name = format!("fault_{side}_btf");
                let program: &mut BtfTracePoint = program(ebpf, &name)?;
                attached(
                    hook,
                    program.load(hook, btf).and_then(|()| program.attach()),
                )
                .map(drop)?;
            }
            FaultSource::RawTp => {
                let name = format!("fault_{side}_raw");
                let program: &mut RawTracePoint = program(ebpf, &name)?;
                attached(hook, program.load().and_then(|()| program.attach(hook))).map(drop)?;
            }
            FaultSource::Tracepoint => {
                check_fault_format(hook)?;
                attach_classic(ebpf, &format!("fault_{side}_classic"), "exceptions", hook)?;
            }
        }
    }
    Ok(())
}

fn check_fault_format(hook: &str) -> anyhow::Result<()> {
    let format = read_format("exceptions", hook).with_context(|| {
        format!(
            "this kernel has no tracepoint exceptions:{hook}, which only x86_64 and riscv64 have"
        )
    })?;
    for (name, offset) in [("address", 8), ("error_code", 24)] {
        if format
            .field(name)
            .is_none_or(|field| field.offset != offset)
        {
            bail!(
                "this kernel's exceptions:{hook} has its field {name} in another place than {offset}"
            );
        }
    }
    Ok(())
}

fn attach_classic(
    ebpf: &mut Ebpf,
    name: &str,
    category: &str,
    tracepoint: &str,
) -> anyhow::Result<()> {
    let program: &mut TracePoint = program(ebpf, name)?;
    let done = program
        .load()
        .and_then(|()| program.attach(category, tracepoint));
    attached(&format!("{category}:{tracepoint}"), done).map(drop)
}

pub fn program<'a, P>(ebpf: &'a mut Ebpf, name: &str) -> anyhow::Result<&'a mut P>
where
    &'a mut P: TryFrom<&'a mut Program, Error = ProgramError>,
{
    let program = ebpf
        .program_mut(name)
        .with_context(|| format!("the eBPF object has no program {name}"))?;
    Ok(program.try_into()?)
}

/// What loading or attaching gave, or why it could not be.
pub fn attached<T>(hook: &str, result: Result<T, ProgramError>) -> anyhow::Result<T> {
    result.map_err(|error| {
        anyhow!(explain_load_error(
            &format!("cannot attach to {hook}"),
            &error
        ))
    })
}
