//! Page faults at user addresses, from whichever of three hooks the kernel offers.

use aya_ebpf::{
    EbpfContext,
    macros::{btf_tracepoint, raw_tracepoint, tracepoint},
    programs::{BtfTracePointContext, RawTracePointContext, TracePointContext},
};
use memtrace_ebpf::fault_bits;

use crate::{batch, filter::traced};

// exceptions:page_fault_user and page_fault_kernel pass (address, regs, error_code):
// arch/x86/mm/fault.c:trace_page_fault_entries.

#[btf_tracepoint(function = "page_fault_user")]
pub fn fault_user_btf(ctx: BtfTracePointContext) -> i32 {
    fault(ctx.arg(0), ctx.arg(2))
}

#[btf_tracepoint(function = "page_fault_kernel")]
pub fn fault_kernel_btf(ctx: BtfTracePointContext) -> i32 {
    fault(ctx.arg(0), ctx.arg(2))
}

#[raw_tracepoint(tracepoint = "page_fault_user")]
pub fn fault_user_raw(ctx: RawTracePointContext) -> i32 {
    fault(ctx.arg(0), ctx.arg(2))
}

#[raw_tracepoint(tracepoint = "page_fault_kernel")]
pub fn fault_kernel_raw(ctx: RawTracePointContext) -> i32 {
    fault(ctx.arg(0), ctx.arg(2))
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
    classic(&ctx)
}

#[tracepoint(category = "exceptions", name = "page_fault_kernel")]
pub fn fault_kernel_classic(ctx: TracePointContext) -> u32 {
    classic(&ctx)
}

#[inline(always)]
fn classic(ctx: &TracePointContext) -> u32 {
    // SAFETY: the loader attaches this to tracepoints of that shape only.
    let record = unsafe { &*ctx.as_ptr().cast::<ClassicFault>() };
    fault(record.address, record.error_code);
    0
}

#[inline(always)]
fn fault(address: u64, error_code: u64) -> i32 {
    let Some(task) = traced() else { return 0 };
    // The kernel half: the kernel's own faults, which no process's memory explains.
    if (address as i64) < 0 {
        return 0;
    }
    let entry = (address & !fault_bits::MASK) | (error_code & fault_bits::MASK);
    batch::add(task, entry);
    0
}
