//! Fork, exec and exit of traced processes, and who is traced after each.

use aya_ebpf::{
    helpers::{
        bpf_get_current_comm, bpf_ktime_get_ns, bpf_probe_read_kernel,
        generated::bpf_get_current_task,
    },
    macros::tracepoint,
    programs::TracePointContext,
};
use aya_log_ebpf::{info, warn};
use memtrace_ebpf::{LifeRecord, followed, group, kind, life};

use crate::{
    atomic, calls,
    emit::{Class, count, counters, send},
    filter::{Task, control, traced},
    maps::{
        FOLLOW_FORKS, NEWTASK_FLAGS, NEWTASK_PID, PID_NS_INO, SIGNAL_LIVE, TARGETS, TASK_EXIT_CODE,
        TASK_SIGNAL,
    },
};

const CLONE_VM: u64 = 0x100;
const CLONE_THREAD: u64 = 0x10000;

/// kernel/fork.c:copy_process, in the parent, before the child first runs.
#[tracepoint(category = "task", name = "task_newtask")]
pub fn process_fork(ctx: TracePointContext) -> u32 {
    let Some(task) = traced() else { return 0 };
    // SAFETY: the helper fails on an address that it can't read; the offsets come from `format`.
    let (Ok(child), Ok(flags)) = (unsafe {
        (
            ctx.read_at::<u32>(NEWTASK_PID.load() as usize),
            ctx.read_at::<u64>(NEWTASK_FLAGS.load() as usize),
        )
    }) else {
        return 0;
    };
    if flags & CLONE_THREAD != 0 {
        return 0;
    }
    // The tracepoint gives the child's pid in the initial namespace: elsewhere it can't be followed.
    let nested = PID_NS_INO.load() != 0;
    let follow = FOLLOW_FORKS.load() != 0;
    if !nested && (follow || flags & CLONE_VM != 0) {
        let how = if follow {
            followed::OWN
        } else {
            followed::BORROWED_MM
        };
        if TARGETS.insert(child, how, 0).is_ok() {
            followed_add(1);
        } else {
            if let Some(counters) = counters() {
                count(&counters.targets_overflow);
            }
            warn!(
                &ctx,
                "too many processes: the child {} is not traced", child
            );
        }
    }
    let child = if nested { 0 } else { u64::from(child) };
    send_life(task, life::FORK, child, flags);
    0
}

/// fs/exec.c:begin_new_exec, before the old address space goes (Linux 6.12 and newer).
#[tracepoint(category = "sched", name = "sched_prepare_exec")]
pub fn process_prepare_exec(_ctx: TracePointContext) -> u32 {
    if let Some(task) = traced() {
        send_life(task, life::PREPARE, 0, 0);
    }
    0
}

/// fs/exec.c:exec_binprm, once the new image is in place.
#[tracepoint(category = "sched", name = "sched_process_exec")]
pub fn process_exec(ctx: TracePointContext) -> u32 {
    let Some(task) = traced() else { return 0 };
    let mut stays = 1;
    if !task.is_the_target() {
        // SAFETY: the value is a u32 that is written once, at insertion.
        if let Some(&followed::BORROWED_MM) = unsafe { TARGETS.get(task.pid) } {
            // The mm that it was followed for is its parent's; its own is nobody's concern.
            forget(task);
            stays = 0;
            info!(
                &ctx,
                "pid {} has an address space of its own now and is left alone", task.pid
            );
        }
    }
    send_life(task, life::EXEC, stays, 0);
    0
}

/// kernel/exit.c:do_exit, once for each thread.
#[tracepoint(category = "sched", name = "sched_process_exit")]
pub fn process_exit(_ctx: TracePointContext) -> u32 {
    let Some(task) = traced() else { return 0 };
    // SAFETY: the helper has no preconditions.
    calls::abandon(task, unsafe { bpf_ktime_get_ns() });
    let (group, exit_code) = group_state();
    if group == group::ALIVE {
        return 0;
    }
    send_life(task, life::EXIT, exit_code, group);
    if group == group::DEAD {
        if task.is_the_target() {
            if let Some(control) = control() {
                // SAFETY: the pointer comes from the map and its value lives as long as the program.
                unsafe { core::ptr::write_volatile(&raw mut (*control).target_gone, 1) };
            }
        } else {
            forget(task);
        }
    }
    0
}

/// Whether the current thread is its process's last, and its exit code.
#[inline(always)]
fn group_state() -> (u64, u64) {
    if TASK_SIGNAL.load() == 0 || SIGNAL_LIVE.load() == 0 || TASK_EXIT_CODE.load() == 0 {
        return (group::UNKNOWN, 0);
    }
    // SAFETY: the helper fails on an address that it can't read; the offsets come from the
    // kernel's own BTF: task_struct.signal, signal_struct.live (an atomic_t), task_struct.exit_code.
    unsafe {
        let task = bpf_get_current_task() as *const u8;
        let Ok(signal) =
            bpf_probe_read_kernel(task.add(TASK_SIGNAL.load() as usize).cast::<*const u8>())
        else {
            return (group::UNKNOWN, 0);
        };
        let live = bpf_probe_read_kernel(signal.add(SIGNAL_LIVE.load() as usize).cast::<i32>());
        let code = bpf_probe_read_kernel(task.add(TASK_EXIT_CODE.load() as usize).cast::<i32>());
        match (live, code) {
            (Ok(0), Ok(code)) => (group::DEAD, code as u32 as u64),
            (Ok(_), _) => (group::ALIVE, 0),
            _ => (group::UNKNOWN, 0),
        }
    }
}

#[inline(always)]
fn send_life(task: Task, event: u16, a: u64, b: u64) {
    // SAFETY: the helper has no preconditions.
    let time_ns = unsafe { bpf_ktime_get_ns() };
    calls::next_epoch();
    send(
        Class::Life,
        LifeRecord {
            head: task.head(kind::LIFE, event, 0),
            time_ns,
            a,
            b,
            comm: bpf_get_current_comm().unwrap_or_default(),
        },
    );
}

#[inline(always)]
fn forget(task: Task) {
    if TARGETS.remove(task.pid).is_ok() {
        // Wraps to one less: the add is the only atomic there is.
        followed_add(u64::MAX);
    }
}

#[inline(always)]
fn followed_add(change: u64) {
    if let Some(control) = control() {
        // SAFETY: the pointer comes from the map and its value lives as long as the program.
        unsafe { atomic::add(&raw mut (*control).followed, change) };
    }
}
