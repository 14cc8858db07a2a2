//! Resident pages of traced address spaces, counted as the kernel counts them: what reclaim takes
//! from them, and with `--exact-bytes` also what each call releases and each fault populates.
//!
//! Since Linux 6.2 kmem:rss_stat passes the mm_struct and which of its counters changed, not by
//! how much. Each counter is a percpu_counter (lib/percpu_counter.c:percpu_counter_add_batch): a
//! change goes to the CPU's own part, or, once that is large, moves it to the shared count and
//! leaves 0. So the change is the CPU's part now less what it was at the last event; and where it
//! is 0 now, what the shared count has gained less what the part was.

use core::ffi::c_void;

use aya_ebpf::{
    helpers::{
        bpf_get_smp_processor_id, bpf_ktime_get_ns,
        generated::{
            bpf_get_current_task, bpf_get_current_task_btf, bpf_map_lookup_percpu_elem,
            bpf_task_pt_regs,
        },
    },
    macros::btf_tracepoint,
    programs::BtfTracePointContext,
};
use memtrace_ebpf::{
    CPU_SLICE, MmCpu, MmShared, PopulatedRecord, kind, member, mm_slot, populated,
};

use crate::{
    atomic,
    emit::{Class, send},
    filter::{control, current},
    maps::{
        ANCHOR, ARRAY_PPTRS, COUNTER_COUNT, COUNTER_COUNTERS, CPUS, EXACT_BYTES, MM_RSS_STAT,
        MM_SLOTS, MM_USERS, MMS, MMS_SHARED, PENDING, TASK_FLAGS, TASK_MM,
    },
    peek::{read, scalar},
};

/// Begins to count the pages of an address space: run for every thread of one process
/// (kernel/bpf/task_iter.c), of which the first that has an address space tells it.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
pub extern "C" fn count_mm(ctx: *mut c_void) -> i32 {
    // SAFETY: struct bpf_iter__task holds the metadata and then the task, each a pointer.
    let task = unsafe { *ctx.cast::<u64>().add(1) };
    if task == 0 {
        return 0;
    }
    // Laundered: the verifier follows what it takes for a pointer to a task.
    let Some(mm) = scalar(task).and_then(|task| read::<u64>(task + u64::from(TASK_MM.load())))
    else {
        return 0;
    };
    if mm == 0 {
        return 0;
    }
    if let Some(found) = MM_SLOTS.get_ptr_mut(mm_slot::FOUND) {
        // SAFETY: the pointer comes from the map and its value lives as long as the program.
        unsafe { core::ptr::write_volatile(found, mm) };
    }
    let from = slot(mm_slot::FROM_CPU) as u32;
    if from == 0 && !begin(mm) {
        return 0;
    }
    // In slices, of which userspace asks for as many as there are CPUs: the verifier follows each.
    let mut i = 0;
    while i < CPU_SLICE {
        let cpu = from + i;
        if cpu >= CPUS.load() {
            break;
        }
        begin_on(mm, cpu);
        i += 1;
    }
    0
}

/// Makes an address space known; false where it is already.
#[inline(always)]
fn begin(mm: u64) -> bool {
    // Of one that has ended only the address is this one's.
    // SAFETY: the value is read at once.
    if unsafe { MMS_SHARED.get(mm) }.is_some_and(|shared| shared.ended == 0) {
        return false;
    }
    let shared = MmShared {
        counts: [
            shared_count(mm, 0),
            shared_count(mm, 1),
            shared_count(mm, 2),
            shared_count(mm, 3),
        ],
        ended: 0,
        generation: slot(mm_slot::GENERATION),
    };
    // A new element is 0 on every CPU; one that is only written to, on this one.
    let _ = MMS.remove(mm);
    MMS.insert(mm, MmCpu::default(), 0).is_ok() && MMS_SHARED.insert(mm, shared, 0).is_ok()
}

#[inline(always)]
fn slot(which: u32) -> u64 {
    // SAFETY: the pointer comes from the map and its value lives as long as the program.
    MM_SLOTS
        .get(which)
        .map_or(0, |slot| unsafe { core::ptr::read_volatile(slot) })
}

/// Notes what a CPU's own parts of the counters are.
#[inline(always)]
fn begin_on(mm: u64, cpu: u32) {
    let Some(offset) = offset_of(cpu) else { return };
    // SAFETY: the map is of this key and value, and the element lives as long as the program.
    let Some(mine) = (unsafe {
        bpf_map_lookup_percpu_elem(
            (&raw const MMS).cast_mut().cast(),
            (&raw const mm).cast(),
            cpu,
        )
        .cast::<MmCpu>()
        .as_mut()
    }) else {
        return;
    };
    // By another thread of the same process, a moment ago.
    if mine.ready != 0 {
        return;
    }
    let (Some(file), Some(anon), Some(swap), Some(shmem)) = (
        own_part(mm, member::FILE, offset),
        own_part(mm, member::ANON, offset),
        own_part(mm, member::SWAP, offset),
        own_part(mm, member::SHMEM, offset),
    ) else {
        return;
    };
    *mine = MmCpu {
        last: [file, anon, swap, shmem],
        ready: 1,
        ..MmCpu::default()
    };
}

/// mm/memory.c:mm_trace_rss_stat, after every change of a counter.
#[btf_tracepoint(function = "rss_stat")]
pub fn rss_stat(ctx: BtfTracePointContext) -> i32 {
    let mm: u64 = ctx.arg(0);
    let Some(counted) = MM_SLOTS.get(mm_slot::COUNTED) else {
        return 0;
    };
    // SAFETY: the element lives as long as the program.
    let counted = unsafe { core::ptr::read_volatile(counted) };
    if (counted != mm && counted != mm_slot::MANY) || is_stopped() {
        return 0;
    }
    let Some(mm) = scalar(mm) else { return 0 };
    let which = ctx.arg::<u64>(1) as u32 as usize;
    if which >= member::ALL {
        return 0;
    }
    let Some(change) = change(mm, which) else {
        return 0;
    };
    if change < 0 {
        shrank(mm, which, change.unsigned_abs());
    } else if change > 0 {
        grew(mm, which, change as u64);
    }
    0
}

#[inline(always)]
fn is_stopped() -> bool {
    // SAFETY: the pointer comes from the map and its value lives as long as the program.
    control().is_none_or(
        |control| unsafe { core::ptr::read_volatile(&raw const (*control).stopped) } != 0,
    )
}

/// By how many pages a counter changed since the last event on this CPU.
#[inline(always)]
fn change(mm: u64, which: usize) -> Option<i64> {
    let mine = MMS.get_ptr_mut(mm)?;
    // SAFETY: the element is this CPU's, and lives as long as the program.
    let mine = unsafe { &mut *mine };
    if mine.ready == 0 {
        return None;
    }
    // SAFETY: the helper has no preconditions.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    let part = own_part(mm, which, offset_of(cpu)?)?;
    let before = mine.last[which & 3];
    mine.last[which & 3] = part;
    if part != 0 {
        return Some(i64::from(part) - i64::from(before));
    }
    let count = shared_count(mm, which);
    let shared = MMS_SHARED.get_ptr_mut(mm)?;
    // SAFETY: the element lives as long as the program, and the index is in range.
    let gained = unsafe { count - atomic::exchange(&raw mut (*shared).counts[which & 3], count) };
    Some(gained - i64::from(before))
}

/// Pages went: to reclaim, to the thread's own call, or with the address space.
#[inline(always)]
fn shrank(mm: u64, which: usize, pages: u64) {
    let of_interest = which == member::ANON || (EXACT_BYTES.load() != 0 && which != member::SWAP);
    if !of_interest || is_ending(mm) {
        return;
    }
    if in_reclaim() {
        if which == member::ANON
            && let Some(mine) = mine(mm)
        {
            mine.taken_pages += pages;
        }
        return;
    }
    if EXACT_BYTES.load() == 0 || !is_current(mm) {
        return;
    }
    let Some(task) = current() else { return };
    if let Some(pending) = PENDING.get_ptr_mut(task.tid) {
        // SAFETY: only this thread changes the element of its own tid.
        unsafe { (*pending).released_pages += pages };
    }
}

/// Pages came: by a fault or a call of one of its threads, or from elsewhere.
#[inline(always)]
fn grew(mm: u64, which: usize, pages: u64) {
    // SAFETY: the value is read at once.
    if unsafe { MMS_SHARED.get(mm) }.is_none_or(|shared| shared.ended != 0) {
        return;
    }
    if which == member::SWAP {
        if let Some(mine) = mine(mm) {
            mine.swapped_pages += pages;
        }
        return;
    }
    if EXACT_BYTES.load() == 0 {
        return;
    }
    let task = if is_current(mm) { current() } else { None };
    let Some(task) = task else {
        if let Some(mine) = mine(mm) {
            mine.added_pages += pages;
        }
        return;
    };
    let how = if in_user_fault() {
        populated::IN_USER_FAULT
    } else {
        populated::IN_SYSCALL
    };
    send(
        Class::Populated,
        PopulatedRecord {
            head: task.head(kind::POPULATED, how, 0),
            // SAFETY: the helper has no preconditions.
            time_ns: unsafe { bpf_ktime_get_ns() },
            pages,
        },
    );
}

/// True while nobody uses it any more: what goes now goes with it. Remembered, since another may
/// get its address afterwards (kernel/fork.c:__mmput).
#[inline(always)]
fn is_ending(mm: u64) -> bool {
    let Some(shared) = MMS_SHARED.get_ptr_mut(mm) else {
        return true;
    };
    // SAFETY: the element lives as long as the program.
    let shared = unsafe { &mut *shared };
    if shared.ended == 0 && read::<i32>(mm + u64::from(MM_USERS.load())) == Some(0) {
        shared.ended = 1;
    }
    shared.ended != 0
}

/// True if the current thread works on this address space.
#[inline(always)]
fn is_current(mm: u64) -> bool {
    // SAFETY: the helper has no preconditions.
    let task = unsafe { bpf_get_current_task() };
    read::<u64>(task + u64::from(TASK_MM.load())) == Some(mm)
}

/// True while the current thread takes memory from whoever has it, itself included: kswapd always,
/// others in direct, cgroup and node reclaim and while paging out on request (mm/vmscan.c and
/// mm/page_alloc.c: memalloc_noreclaim_save).
#[inline(always)]
fn in_reclaim() -> bool {
    const PF_MEMALLOC: u32 = 0x800;
    // SAFETY: the helper has no preconditions.
    let task = unsafe { bpf_get_current_task() };
    read::<u32>(task + u64::from(TASK_FLAGS.load())).is_some_and(|flags| flags & PF_MEMALLOC != 0)
}

/// True if the thread came into the kernel by a fault and not by a system call: then its saved
/// registers hold no call's number (arch/x86/entry/entry_64.S: orig_ax is -1).
#[inline(always)]
fn in_user_fault() -> bool {
    const ORIG_AX: u64 = 15 * 8;
    // SAFETY: the helpers take the current task and nothing else.
    let regs = unsafe { bpf_task_pt_regs(bpf_get_current_task_btf()) } as u64;
    scalar(regs)
        .and_then(|regs| read::<i64>(regs + ORIG_AX))
        .is_some_and(|nr| nr < 0)
}

#[inline(always)]
fn mine(mm: u64) -> Option<&'static mut MmCpu> {
    // SAFETY: the element is this CPU's, and lives as long as the program.
    MMS.get_ptr_mut(mm).map(|mine| unsafe { &mut *mine })
}

/// A CPU's own part of a counter, at `offset` from where all CPUs' parts are counted from.
#[inline(always)]
fn own_part(mm: u64, which: usize, offset: u64) -> Option<i32> {
    let parts: u64 = read(counter(mm, which) + u64::from(COUNTER_COUNTERS.load()))?;
    read(parts.wrapping_add(offset))
}

#[inline(always)]
fn shared_count(mm: u64, which: usize) -> i64 {
    read(counter(mm, which) + u64::from(COUNTER_COUNT.load())).unwrap_or(0)
}

/// Where a counter of an address space lies; `counters` is the last member of struct percpu_counter.
#[inline(always)]
fn counter(mm: u64, which: usize) -> u64 {
    let size = u64::from(COUNTER_COUNTERS.load()) + 8;
    mm + u64::from(MM_RSS_STAT.load()) + which as u64 * size
}

/// How far a CPU's own memory lies from the addresses that per-CPU pointers hold: where its
/// element of a per-CPU map is, less the pointer that the map keeps (kernel/bpf/arraymap.c).
#[inline(always)]
fn offset_of(cpu: u32) -> Option<u64> {
    let zero = 0u32;
    // SAFETY: the map is an array of u64, and its element 0 exists.
    let element = unsafe {
        bpf_map_lookup_percpu_elem(
            (&raw const ANCHOR).cast_mut().cast(),
            (&raw const zero).cast(),
            cpu,
        )
        .cast::<u64>()
        .as_mut()
    }?;
    if *element != 0 {
        return Some(*element);
    }
    let map = scalar((&raw const ANCHOR) as u64)?;
    let pointer: u64 = read(map + u64::from(ARRAY_PPTRS.load()))?;
    let offset = scalar(core::ptr::from_mut(element) as u64)?.wrapping_sub(pointer);
    *element = offset;
    Some(offset)
}
