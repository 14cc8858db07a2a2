//! Decides, first of all and as cheaply as can be, whether the current task is traced.

use core::ptr::read_volatile;

use aya_ebpf::{
    bindings::bpf_pidns_info,
    helpers::{bpf_get_current_pid_tgid, generated::bpf_get_ns_current_pid_tgid},
};
use memtrace_ebpf::{Control, Head};

use crate::maps::{CONTROL, PID_NS_DEV, PID_NS_INO, TARGET, TARGETS};

/// The current task, known to be traced.
#[derive(Clone, Copy)]
pub struct Task {
    pub pid: u32,
    pub tid: u32,
}

impl Task {
    #[inline(always)]
    pub fn head(self, kind: u16, detail: u16, count: u32) -> Head {
        Head {
            kind,
            detail,
            count,
            pid: self.pid,
            tid: self.tid,
        }
    }

    /// True for the one target that is compared with a constant.
    #[inline(always)]
    pub fn is_the_target(self) -> bool {
        self.pid == TARGET.load()
    }
}

/// The current task if it is traced: for a single target a compare with a constant, for several a
/// look-up. What else is read is in one cache line that hardly ever changes.
#[inline(always)]
pub fn traced() -> Option<Task> {
    let task = current()?;
    let control = control()?;
    // SAFETY: the pointer comes from the map and its value lives as long as the program.
    let (stopped, target_gone, followed) = unsafe {
        (
            read_volatile(&raw const (*control).stopped),
            read_volatile(&raw const (*control).target_gone),
            read_volatile(&raw const (*control).followed),
        )
    };
    if task.is_the_target() {
        return (target_gone | stopped == 0).then_some(task);
    }
    if followed == 0 || stopped != 0 {
        return None;
    }
    // SAFETY: only the presence of the element is used, not what it holds.
    unsafe { TARGETS.get(task.pid) }.map(|_| task)
}

#[inline(always)]
pub fn control() -> Option<*mut Control> {
    CONTROL.get_ptr_mut(0)
}

/// Pid and tid in the namespace that memtrace itself lives in.
#[inline(always)]
pub fn current() -> Option<Task> {
    if PID_NS_INO.load() == 0 {
        let both = bpf_get_current_pid_tgid();
        return Some(Task {
            pid: (both >> 32) as u32,
            tid: both as u32,
        });
    }
    let mut ids = bpf_pidns_info { pid: 0, tgid: 0 };
    // SAFETY: the helper writes exactly the 8 bytes of `ids`, whose size it is told.
    let ret = unsafe {
        bpf_get_ns_current_pid_tgid(
            PID_NS_DEV.load(),
            PID_NS_INO.load(),
            &mut ids,
            core::mem::size_of::<bpf_pidns_info>() as u32,
        )
    };
    // The helper knows no task of another namespace, nor of one below ours: those are refused as targets.
    (ret == 0).then_some(Task {
        pid: ids.tgid,
        tid: ids.pid,
    })
}
