//! process_madvise: its ranges lie in a user array, and each becomes one record.

use aya_ebpf::helpers::bpf_probe_read_user;
use memtrace_ebpf::{CallRecord, MAX_RANGES, NOT_MEASURED, Pending, call, call_flag, kind, pidfd};

use crate::{
    calls::next_epoch,
    emit::{Class, send},
    filter::{Task, current},
    maps::PENDING,
};

/// `struct iovec` of a 64-bit process.
#[repr(C)]
#[derive(Clone, Copy)]
struct IoVec {
    base: u64,
    len: u64,
}

/// Sends one record a range.
///
/// The array is read at exit: by then the kernel has read it too, so its page is mapped and
/// reading it makes no fault of our own.
#[inline(always)]
pub fn send_ranges(task: Task, pending: &Pending, exit_ns: u64, ret: i64) {
    let ranges = pending.args[2];
    let epoch = next_epoch();
    if ranges == 0 || ranges > u64::from(MAX_RANGES) {
        // The kernel refuses the one and ignores the other; it was a call all the same.
        let args = range_args(pending, 0, 0, 0, 0, 0);
        emit(
            task,
            pending,
            exit_ns,
            epoch,
            ret,
            call_flag::NO_RANGE,
            args,
        );
        return;
    }
    let mut before = 0;
    let mut i = 0;
    while i < MAX_RANGES {
        if u64::from(i) >= ranges {
            break;
        }
        before = send_range(i, before, exit_ns, epoch, ret);
        i += 1;
    }
}

/// Sends the record of one range of the call that this thread is about to leave; `before` is how
/// many bytes the ranges before it have, and what is returned has its own too.
///
/// It is a function of its own with a symbol, since the verifier looks at such a one once, and at
/// the body of a loop once for each time around: a thousand times, which took it 160 ms.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn send_range(index: u32, before: u64, exit_ns: u64, epoch: u64, ret: i64) -> u64 {
    // Not whether it is traced, which may have just ended: a call is told whole.
    let Some(task) = current() else { return before };
    // SAFETY: only this thread inserts and removes the element of its own tid.
    let Some(pending) = (unsafe { PENDING.get(task.tid) }) else {
        return before;
    };
    let at = pending.args[1] + u64::from(index) * core::mem::size_of::<IoVec>() as u64;
    // SAFETY: the helper checks the address itself and fails on one that is not readable.
    let (range, flags) = match unsafe { bpf_probe_read_user(at as *const IoVec) } {
        Ok(range) => (range, 0),
        Err(_) => (IoVec { base: 0, len: 0 }, call_flag::NO_RANGE),
    };
    let ranges = pending.args[2] as u32;
    let args = range_args(pending, range.base, range.len, index, ranges, before);
    emit(task, pending, exit_ns, epoch, ret, flags, args);
    before + range.len
}

/// The arguments as `call::PROCESS_MADVISE` documents them.
#[inline(always)]
pub fn range_args(
    pending: &Pending,
    base: u64,
    len: u64,
    index: u32,
    ranges: u32,
    before: u64,
) -> [u64; 6] {
    let advice = pending.args[3];
    let place = u64::from(index) | (u64::from(ranges) << 32);
    [pending.args[0], base, len, advice, place, before]
}

#[inline(always)]
fn emit(
    task: Task,
    pending: &Pending,
    exit_ns: u64,
    epoch: u64,
    ret: i64,
    flags: u32,
    args: [u64; 6],
) {
    // One wake-up a call: its ranges come together.
    let (index, ranges) = (args[4] as u32, (args[4] >> 32) as u32);
    let looked_at = (args[0] >> 32) as u32 != pidfd::NOT_LOOKED_AT;
    let class = if !looked_at && index + 1 >= ranges {
        Class::UrgentCall
    } else {
        Class::Call
    };
    send(
        class,
        CallRecord {
            head: task.head(kind::CALL, call::PROCESS_MADVISE, flags),
            enter_ns: pending.enter_ns,
            exit_ns,
            epoch,
            ret,
            args,
            // Of the whole call: told once.
            released_pages: match args[4] as u32 {
                0 => pending.released_pages,
                _ if pending.released_pages == NOT_MEASURED => NOT_MEASURED,
                _ => 0,
            },
        },
    );
}
