//! The calls that change an address space: joined from enter and exit into one record each.

use aya_ebpf::{
    EbpfContext, helpers::bpf_ktime_get_ns, macros::tracepoint, programs::TracePointContext,
};
use aya_log_ebpf::{debug, warn};
use memtrace_ebpf::{CallRecord, NOT_MEASURED, Pending, call, call_flag, kind};

use crate::{
    atomic,
    emit::{Class, count, counters, send},
    filter::{Task, control, traced},
    identity,
    maps::{EXACT_BYTES, PENDING},
    process_madvise,
};

/// The record of `syscalls:sys_enter_*`: the loader checks these offsets against its `format`.
#[repr(C)]
struct SysEnter {
    common: u64,
    nr: u64,
    args: [u64; 6],
}

/// The record of `syscalls:sys_exit_*`.
#[repr(C)]
struct SysExit {
    common: u64,
    nr: u64,
    ret: i64,
}

/// One enter and one exit program for a syscall with this many arguments.
macro_rules! syscall {
    ($enter:ident, $exit:ident, $name:literal, $call:expr, $args:literal) => {
        #[tracepoint(category = "syscalls", name = $name)]
        pub fn $enter(ctx: TracePointContext) -> u32 {
            enter::<$args>(&ctx, $call)
        }

        #[tracepoint(category = "syscalls", name = $name)]
        pub fn $exit(ctx: TracePointContext) -> u32 {
            exit(&ctx, $call)
        }
    };
}

syscall!(enter_madvise, exit_madvise, "madvise", call::MADVISE, 3);
syscall!(
    enter_process_madvise,
    exit_process_madvise,
    "process_madvise",
    call::PROCESS_MADVISE,
    5
);
syscall!(enter_mmap, exit_mmap, "mmap", call::MMAP, 6);
syscall!(enter_munmap, exit_munmap, "munmap", call::MUNMAP, 2);
syscall!(enter_mremap, exit_mremap, "mremap", call::MREMAP, 5);
syscall!(enter_brk, exit_brk, "brk", call::BRK, 1);

#[inline(always)]
fn enter<const ARGS: usize>(ctx: &TracePointContext, call: u16) -> u32 {
    let Some(task) = traced() else { return 0 };
    // SAFETY: the loader attaches this to a syscall's enter, whose record holds ARGS arguments.
    let record = unsafe { &*ctx.as_ptr().cast::<SysEnter>() };
    let mut args = [0; 6];
    // The record is only as long as the syscall's own arguments: reading more is refused at load.
    let mut i = 0;
    while i < ARGS {
        args[i] = record.args[i];
        i += 1;
    }
    if call == call::PROCESS_MADVISE {
        let fd = args[0] as u32;
        let target = identity::of_pidfd(fd as i32, args[4]);
        args[0] = u64::from(fd) | (u64::from(target) << 32);
    }
    let pending = Pending {
        // SAFETY: the helper has no preconditions.
        enter_ns: unsafe { bpf_ktime_get_ns() },
        call: u32::from(call),
        pid: task.pid,
        args,
        released_pages: if EXACT_BYTES.load() != 0 {
            0
        } else {
            NOT_MEASURED
        },
    };
    // After the stamp, and before the call does anything.
    next_epoch();
    if PENDING.get_ptr(task.tid).is_some()
        && let Some(counters) = counters()
    {
        // Its exit was skipped, as the kernel may while another program runs on that CPU.
        count(&counters.calls_missed);
    }
    if PENDING.insert(task.tid, pending, 0).is_err() {
        if let Some(counters) = counters() {
            count(&counters.join_overflow);
        }
        warn!(
            ctx,
            "the join map is full: the arguments of a call of pid {} are lost", task.pid
        );
    }
    0
}

#[inline(always)]
fn exit(ctx: &TracePointContext, call: u16) -> u32 {
    let Some(task) = traced() else { return 0 };
    // SAFETY: the loader attaches this to a syscall's exit, whose record has this shape.
    let ret = unsafe { (*ctx.as_ptr().cast::<SysExit>()).ret };
    // SAFETY: the helper has no preconditions.
    let exit_ns = unsafe { bpf_ktime_get_ns() };
    // SAFETY: only this thread inserts and removes the element of its own tid.
    match unsafe { PENDING.get(task.tid) } {
        Some(pending) if pending.call == u32::from(call) => {
            if call == call::PROCESS_MADVISE {
                process_madvise::send_ranges(task, pending, exit_ns, ret);
            } else {
                send(
                    Class::Call,
                    CallRecord {
                        head: task.head(kind::CALL, call, 0),
                        enter_ns: pending.enter_ns,
                        exit_ns,
                        epoch: next_epoch(),
                        ret,
                        args: pending.args,
                        released_pages: pending.released_pages,
                    },
                );
            }
            let _ = PENDING.remove(task.tid);
        }
        _ => {
            debug!(
                ctx,
                "pid {} left a call whose beginning was not seen", task.pid
            );
            send(
                Class::Call,
                CallRecord {
                    head: task.head(kind::CALL, call, call_flag::NO_ENTER),
                    enter_ns: exit_ns,
                    exit_ns,
                    epoch: next_epoch(),
                    ret,
                    args: [0; 6],
                    released_pages: NOT_MEASURED,
                },
            );
        }
    }
    0
}

/// Sends what is known of a call that its thread will never leave.
#[inline(always)]
pub fn abandon(task: Task, exit_ns: u64) {
    // SAFETY: only this thread inserts and removes the element of its own tid.
    let Some(pending) = (unsafe { PENDING.get(task.tid) }) else {
        return;
    };
    let call = pending.call as u16;
    let mut args = pending.args;
    let mut flags = call_flag::NO_EXIT;
    if call == call::PROCESS_MADVISE {
        // The ranges can't be read from a dying address space; what is known stays in the same places.
        args = process_madvise::range_args(pending, 0, 0, 0, 0, 0);
        flags |= call_flag::NO_RANGE;
    }
    send(
        Class::Call,
        CallRecord {
            head: task.head(kind::CALL, call, flags),
            enter_ns: pending.enter_ns,
            exit_ns,
            epoch: next_epoch(),
            ret: 0,
            args,
            released_pages: pending.released_pages,
        },
    );
    let _ = PENDING.remove(task.tid);
}

/// Ends the epoch and returns it: what faults from here on comes after the event whose stamp has
/// just been taken.
#[inline(always)]
pub fn next_epoch() -> u64 {
    let Some(control) = control() else { return 0 };
    // SAFETY: the pointer comes from the map and its value lives as long as the program. Read and
    // add are two steps: two events at once may carry one number, never a later one.
    unsafe {
        let epoch = &raw mut (*control).epoch;
        let before = core::ptr::read_volatile(epoch);
        atomic::add(epoch, 1);
        before
    }
}
