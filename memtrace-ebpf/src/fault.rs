//! Page faults at user addresses, from whichever of three hooks the kernel offers.

use aya_ebpf::{
    EbpfContext,
    helpers::{bpf_probe_read_kernel, generated::bpf_get_current_task},
    macros::{btf_tracepoint, raw_tracepoint, tracepoint},
    programs::{BtfTracePointContext, RawTracePointContext, TracePointContext},
};
use memtrace_ebpf::fault_bits;

use crate::{
    batch,
    filter::{Task, traced},
    maps::TASK_PAGEFAULT_DISABLED,
};

// exceptions:page_fault_user and page_fault_kernel pass (address, regs, error_code):
// arch/x86/mm/fault.c:trace_page_fault_entries.

#[btf_tracepoint(function = "page_fault_user")]
pub fn fault_user_btf(ctx: BtfTracePointContext) -> i32 {
    by_user(ctx.arg(0), ctx.arg(2))
}

#[btf_tracepoint(function = "page_fault_kernel")]
pub fn fault_kernel_btf(ctx: BtfTracePointContext) -> i32 {
    by_kernel(ctx.arg(0), ctx.arg(2))
}

#[raw_tracepoint(tracepoint = "page_fault_user")]
pub fn fault_user_raw(ctx: RawTracePointContext) -> i32 {
    by_user(ctx.arg(0), ctx.arg(2))
}

#[raw_tracepoint(tracepoint = "page_fault_kernel")]
pub fn fault_kernel_raw(ctx: RawTracePointContext) -> i32 {
    by_kernel(ctx.arg(0), ctx.arg(2))
}

/// The record of the classic tracepoint: the loader checks these offsets against its `format`.
#[repr(C)]
struct ClassicFault {
    common: u64,
    address: u64,
    ip: u64,
    error_code: u64,
}

#[tracepoint(category = "exceptions", name = "page_fault_user")]
pub fn fault_user_classic(ctx: TracePointContext) -> u32 {
    let record = classic(&ctx);
    by_user(record.address, record.error_code);
    0
}

#[tracepoint(category = "exceptions", name = "page_fault_kernel")]
pub fn fault_kernel_classic(ctx: TracePointContext) -> u32 {
    let record = classic(&ctx);
    by_kernel(record.address, record.error_code);
    0
}

#[inline(always)]
fn classic(ctx: &TracePointContext) -> &ClassicFault {
    // SAFETY: the loader attaches this to tracepoints of that shape only.
    unsafe { &*ctx.as_ptr().cast::<ClassicFault>() }
}

#[inline(always)]
fn by_user(address: u64, error_code: u64) -> i32 {
    if let Some(task) = traced() {
        fault(task, address, error_code);
    }
    0
}

#[inline(always)]
fn by_kernel(address: u64, error_code: u64) -> i32 {
    if let Some(task) = traced()
        && !is_disabled()
    {
        fault(task, address, error_code);
    }
    0
}

/// Whether the kernel has made this access in the knowledge that it may fail: it then gets an
/// error and no page (arch/x86/mm/fault.c:do_user_addr_fault), does not count a fault, and mostly
/// tries again. False where there is no BTF to tell.
#[inline(always)]
fn is_disabled() -> bool {
    let offset = TASK_PAGEFAULT_DISABLED.load() as usize;
    if offset == 0 {
        return false;
    }
    // SAFETY: the helper fails on an address that it can't read; the offset comes from the
    // kernel's own BTF: task_struct.pagefault_disabled, an int.
    unsafe {
        let task = bpf_get_current_task() as *const u8;
        // One of them is the helper's own (mm/maccess.c:copy_from_kernel_nofault).
        bpf_probe_read_kernel(task.add(offset).cast::<i32>()).is_ok_and(|depth| depth > 1)
    }
}

#[inline(always)]
fn fault(task: Task, address: u64, error_code: u64) {
    // The kernel half: the kernel's own faults, which no process's memory explains.
    if (address as i64) < 0 {
        return;
    }
    let entry = (address & !fault_bits::MASK) | (error_code & fault_bits::MASK);
    batch::add(task, entry);
}
