//! Faults are gathered for each CPU, so that most cost a few stores and neither clock nor ring.
//!
//! A batch ends when another thread faults on its CPU, when the epoch or the timer's tick has
//! changed, or when it is full. It is sent when the next one begins; until then userspace, which
//! has it mapped, takes from it what it has not had yet. So no fault waits for a later one.

use core::{
    arch::asm,
    ptr::{read_volatile, write_volatile},
    slice,
};

use aya_ebpf::{
    bindings::BPF_RB_NO_WAKEUP,
    helpers::{bpf_get_smp_processor_id, bpf_ktime_get_ns, generated::bpf_jiffies64},
};
use memtrace_ebpf::{BATCH, Batch, FaultHead, NO_BATCH, OneFault, fault_bits, kind};

use crate::{
    emit::{Class, send, this_cpu},
    filter::{Task, control},
    maps::{EXACT_BYTES, RING},
};

/// Takes one fault in.
#[inline(always)]
pub fn add(task: Task, entry: u64) {
    let Some(control) = control() else { return };
    let Some(cpu) = this_cpu() else { return };
    // SAFETY: both pointers come from maps and their values live as long as the program; the batch
    // is written by this CPU only, and by one program at a time, which `busy` sees to.
    unsafe {
        let epoch = read_volatile(&raw const (*control).epoch);
        let batch = &raw mut (*cpu).batch;
        let busy = &raw mut (*batch).busy;
        if goes_alone(entry) || read_volatile(busy) != 0 {
            alone(task, epoch, entry);
            return;
        }
        write_volatile(busy, 1);
        let jiffies = bpf_jiffies64();
        let mut count = read_volatile(&raw const (*batch).fault.head.count) as usize;
        let fits = count != 0
            && count < BATCH
            && (*batch).fault.head.tid == task.tid
            && (*batch).fault.epoch == epoch
            && (*batch).jiffies == jiffies;
        if !fits {
            send_batch(batch, count);
            begin(batch, task, epoch, jiffies);
            count = 0;
        }
        let count = opaque(count);
        // Always true; the verifier wants to see it, and the compiler would leave it out.
        if count < BATCH {
            write_volatile((&raw mut (*batch).entries).cast::<u64>().add(count), entry);
            (*batch).seen += 1;
            write_volatile(&raw mut (*batch).fault.head.count, count as u32 + 1);
        }
        write_volatile(busy, 0);
    }
}

/// A fault on a page that is there (copy-on-write, the first write to the zero page) follows another
/// one that put it there, perhaps by another thread: its own stamp keeps it behind that one, which
/// stands at the beginning of its batch. With `--exact-bytes` what a fault populated is told right
/// after it.
#[inline(always)]
fn goes_alone(entry: u64) -> bool {
    entry & fault_bits::PRESENT != 0 || EXACT_BYTES.load() != 0
}

#[inline(always)]
fn alone(task: Task, epoch: u64, entry: u64) {
    send(
        Class::Fault,
        OneFault {
            fault: FaultHead {
                head: task.head(kind::FAULTS, 0, 1),
                epoch,
                // SAFETY: the helper has no preconditions.
                time_ns: unsafe { bpf_ktime_get_ns() },
                cpu: NO_BATCH,
                serial: 0,
            },
            entry,
        },
    );
}

/// Makes the batch one of this thread's that begins now, and is empty.
///
/// # Safety
/// `batch` must be this CPU's, and its `busy` ours.
#[inline(always)]
unsafe fn begin(batch: *mut Batch, task: Task, epoch: u64, jiffies: u64) {
    // SAFETY: the caller vouches for the pointer.
    unsafe {
        // In this order: see `Batch`.
        let head = &raw mut (*batch).fault.head;
        write_volatile(&raw mut (*head).count, 0);
        let serial = &raw mut (*batch).fault.serial;
        write_volatile(serial, read_volatile(serial).wrapping_add(1));
        write_volatile(&raw mut (*head).kind, kind::FAULTS);
        write_volatile(&raw mut (*batch).fault.cpu, bpf_get_smp_processor_id());
        write_volatile(&raw mut (*head).pid, task.pid);
        write_volatile(&raw mut (*head).tid, task.tid);
        write_volatile(&raw mut (*batch).fault.epoch, epoch);
        // After the epoch was read, so that the stamp is not older than what raised it.
        write_volatile(&raw mut (*batch).fault.time_ns, bpf_ktime_get_ns());
        write_volatile(&raw mut (*batch).jiffies, jiffies);
    }
}

/// Puts the batch into the ring, or counts its faults as lost.
///
/// # Safety
/// `batch` must be this CPU's, and its `busy` ours.
#[inline(always)]
unsafe fn send_batch(batch: *mut Batch, count: usize) {
    if count == 0 || count > BATCH {
        return;
    }
    let bytes = size_of::<FaultHead>() + count * size_of::<u64>();
    // SAFETY: the caller vouches for the pointer; the entries lie right behind the head, and the
    // helper reads as many bytes as it is told.
    unsafe {
        let record = slice::from_raw_parts((&raw const (*batch).fault).cast::<u8>(), bytes);
        if RING
            .output::<[u8]>(record, u64::from(BPF_RB_NO_WAKEUP))
            .is_err()
        {
            (*batch).lost += count as u64;
        }
    }
}

/// The same number, of which the compiler knows nothing.
#[inline(always)]
fn opaque(number: usize) -> usize {
    let mut number = number;
    // SAFETY: there is no instruction.
    unsafe {
        asm!("/* {number} */", number = inout(reg) number);
    }
    number
}
