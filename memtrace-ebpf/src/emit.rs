//! Reserve, fill, submit, or count the drop: the only way into the ring buffer.

use aya_ebpf::{
    bindings::{BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::bpf_get_smp_processor_id,
};
use memtrace_ebpf::{Counters, PerCpu};

use crate::{
    atomic,
    maps::{CPU, RING},
};

/// The classes that are counted apart.
#[derive(Clone, Copy)]
pub enum Class {
    Fault,
    Call,
    /// A call that names a process by a descriptor, which userspace must look up while it is open.
    UrgentCall,
    Life,
    Populated,
}

/// Sends one record, or counts it as lost. It never waits.
///
/// A wake-up costs more than ten times the record, so the reader polls; only records that are
/// rare and that userspace must answer soon, by reading /proc, wake it.
#[inline(always)]
pub fn send<T: 'static>(class: Class, record: T) {
    let Some(counters) = counters() else { return };
    match class {
        Class::Fault => count(&counters.faults_seen),
        Class::Call | Class::UrgentCall => count(&counters.calls_seen),
        Class::Life => count(&counters.lives_seen),
        Class::Populated => count(&counters.populated_seen),
    }
    let Some(mut slot) = RING.reserve::<T>(0) else {
        match class {
            Class::Fault => count(&counters.faults_lost),
            Class::Call | Class::UrgentCall => count(&counters.calls_lost),
            Class::Life => count(&counters.lives_lost),
            Class::Populated => count(&counters.populated_lost),
        }
        return;
    };
    slot.write(record);
    let wakeup = match class {
        Class::Life | Class::UrgentCall => BPF_RB_FORCE_WAKEUP,
        Class::Call | Class::Fault | Class::Populated => BPF_RB_NO_WAKEUP,
    };
    slot.submit(u64::from(wakeup));
}

/// What this CPU has.
#[inline(always)]
pub fn this_cpu() -> Option<*mut PerCpu> {
    // SAFETY: the helper has no preconditions.
    CPU.get_ptr_mut(unsafe { bpf_get_smp_processor_id() })
}

/// This CPU's counters.
#[inline(always)]
pub fn counters() -> Option<&'static Counters> {
    // SAFETY: the element lives as long as the program, and its counters are changed by `count` only.
    this_cpu().map(|cpu| unsafe { &(*cpu).counters })
}

/// Adds one. Atomic, because another program can interrupt this one on the same CPU.
#[inline(always)]
pub fn count(counter: &u64) {
    // SAFETY: an aligned u64 in a map; all its writers go through this function.
    unsafe { atomic::add(core::ptr::from_ref(counter).cast_mut(), 1) };
}
