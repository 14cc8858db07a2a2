//! Reads a map without being preempted half-way.
//!
//! While a task looks a map's element up by bpf(2), the kernel runs no classic tracepoint's program on
//! its CPU, and only forbids the task to migrate (kernel/bpf/syscall.c:bpf_map_copy_value,
//! kernel/trace/bpf_trace.c:trace_call_bpf). A kernel that preempts its own code can let the target
//! run there meanwhile, whose calls and faults are then left out, until the reader has its turn again.
//! No ordinary task preempts a real-time one.

use std::sync::OnceLock;

use crate::kernel::Kernel;

/// Does it as a real-time task, for the microseconds that it takes, where the kernel preempts itself.
pub fn undisturbed<T>(read: impl FnOnce() -> T) -> T {
    let _guard = RealTime::begin();
    read()
}

/// The policy to go back to.
struct RealTime(libc::c_int);

impl RealTime {
    /// None where there is no need, or no permission: then what is left out is counted all the same.
    fn begin() -> Option<Self> {
        static PREEMPTIBLE: OnceLock<bool> = OnceLock::new();
        let preemptible =
            PREEMPTIBLE.get_or_init(|| Kernel::running().map_or(true, |kernel| kernel.preemptible));
        if !preemptible {
            return None;
        }
        // SAFETY: it takes an integer, 0 for this thread.
        let policy = unsafe { libc::sched_getscheduler(0) };
        // Whoever has made us a real-time task already knows why.
        let ordinary = [libc::SCHED_OTHER, libc::SCHED_BATCH, libc::SCHED_IDLE].contains(&policy);
        (ordinary && set(libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, 1)).then_some(Self(policy))
    }
}

impl Drop for RealTime {
    fn drop(&mut self) {
        set(self.0, 0);
    }
}

/// Of this thread; its nice value stays.
fn set(policy: libc::c_int, priority: libc::c_int) -> bool {
    // SAFETY: zero is a value of every field, on C libraries that have more than one.
    let mut param: libc::sched_param = unsafe { std::mem::zeroed() };
    param.sched_priority = priority;
    // SAFETY: the struct outlives the call.
    unsafe { libc::sched_setscheduler(0, policy, &param) == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thread_is_as_ordinary_afterwards_as_before() {
        // SAFETY: they take integers.
        let state = || unsafe { (libc::sched_getscheduler(0), libc::getpriority(0, 0)) };
        let before = state();
        let within = undisturbed(|| state().0);
        assert_eq!(state(), before);
        let allowed = set(libc::SCHED_FIFO, 1);
        set(before.0, 0);
        let wanted = Kernel::running().is_ok_and(|kernel| kernel.preemptible) && allowed;
        assert_eq!(
            within & !libc::SCHED_RESET_ON_FORK == libc::SCHED_FIFO,
            wanted
        );
    }
}
