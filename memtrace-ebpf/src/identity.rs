//! Which process a pidfd stands for, and which processes have which address space.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::seq_file,
    helpers::generated::{bpf_get_current_task, bpf_seq_write},
};
use memtrace_ebpf::{MmUser, pidfd};

use crate::{
    maps::{
        FDTABLE_FD, FDTABLE_MAX_FDS, FILE_INODE, FILE_PRIVATE_DATA, FILES_FDT, IDENTIFIES,
        INODE_PRIVATE, INODE_SB, MM_USERS, PID_LEVEL, PID_NS_INO, PID_NS_INUM, PID_NUMBERS,
        SB_MAGIC, TASK_FILES, TASK_FLAGS, TASK_GROUP_LEADER, TASK_MM, TASK_THREAD_PID,
    },
    peek::{read, scalar},
};

/// Pid namespaces within each other (include/linux/pid_namespace.h: MAX_PID_NS_LEVEL), and the first.
const MOST_LEVELS: u32 = 33;

/// The process that a `process_madvise` of the current thread names, or one of [`pidfd`].
///
/// To be asked at the call's enter: afterwards the descriptor may be closed, or another's.
#[inline(always)]
pub fn of_pidfd(fd: i32, flags: u64) -> u32 {
    // mm/madvise.c:SYSCALL_DEFINE5(process_madvise) looks at the flags before all else.
    if flags as u32 != 0 {
        return pidfd::REFUSED;
    }
    if IDENTIFIES.load() == 0 {
        return pidfd::NOT_LOOKED_AT;
    }
    struct_pid(fd).and_then(number).unwrap_or(pidfd::NOBODY)
}

/// The `struct pid` of a descriptor of the current thread, if it is a pidfd. Before Linux 6.9 those
/// are anonymous files (kernel/fork.c:pidfd_prepare), and what is no pidfd may be taken for one:
/// the call then fails with EBADF.
#[inline(always)]
fn struct_pid(fd: i32) -> Option<u64> {
    const PID_FS_MAGIC: u64 = 0x5049_4446;
    const ANON_INODE_FS_MAGIC: u64 = 0x0904_1934;
    // SAFETY: the helper has no preconditions.
    let task = unsafe { bpf_get_current_task() };
    let files: u64 = read(task + u64::from(TASK_FILES.load()))?;
    let table: u64 = read(files + u64::from(FILES_FDT.load()))?;
    let max_fds: u32 = read(table + u64::from(FDTABLE_MAX_FDS.load()))?;
    // A negative one is a large one.
    let fd = fd as u32;
    if fd >= max_fds {
        return None;
    }
    let fds: u64 = read(table + u64::from(FDTABLE_FD.load()))?;
    let file = read::<u64>(fds + u64::from(fd) * 8).filter(|file| *file != 0)?;
    let inode: u64 = read(file + u64::from(FILE_INODE.load()))?;
    let superblock: u64 = read(inode + u64::from(INODE_SB.load()))?;
    let pid = match read::<u64>(superblock + u64::from(SB_MAGIC.load()))? {
        // fs/pidfs.c:pidfd_pid
        PID_FS_MAGIC => read(inode + u64::from(INODE_PRIVATE.load()))?,
        ANON_INODE_FS_MAGIC => read(file + u64::from(FILE_PRIVATE_DATA.load()))?,
        _ => 0,
    };
    (pid != 0).then_some(pid)
}

/// The number of a `struct pid` in our own namespace; None where it has none there.
#[inline(always)]
fn number(pid: u64) -> Option<u32> {
    // An array of struct upid: the number, and 8 bytes on the namespace.
    const UPID_BYTES: u64 = 16;
    let numbers = pid + u64::from(PID_NUMBERS.load());
    if PID_NS_INO.load() == 0 {
        return read(numbers);
    }
    let level: u32 = read(pid + u64::from(PID_LEVEL.load()))?;
    let mut i = 0;
    while i < MOST_LEVELS {
        if i > level {
            break;
        }
        let upid = numbers + u64::from(i) * UPID_BYTES;
        let namespace: u64 = read(upid + 8)?;
        let inode: u32 = read(namespace + u64::from(PID_NS_INUM.load()))?;
        if u64::from(inode) == PID_NS_INO.load() {
            return read(upid);
        }
        i += 1;
    }
    None
}

/// Tells of a thread which address space it has (kernel/bpf/task_iter.c runs it for every thread
/// in the pid namespace of whoever reads).
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
pub extern "C" fn tell_mm(ctx: *mut c_void) -> i32 {
    // SAFETY: struct bpf_iter__task holds the metadata, which begins with the file that is read,
    // and then the task, each a pointer.
    let (seq, task) = unsafe {
        let meta = *ctx.cast::<*const *mut seq_file>();
        (*meta, *ctx.cast::<u64>().add(1))
    };
    if task == 0 {
        return 0;
    }
    if let Some(user) = scalar(task).and_then(user_of) {
        // SAFETY: the helper is given 16 bytes that are initialised. It fails where the buffer is
        // full: the kernel then runs this again for the same thread.
        unsafe {
            bpf_seq_write(
                seq,
                (&raw const user).cast_mut().cast(),
                core::mem::size_of::<MmUser>() as u32,
            )
        };
    }
    0
}

#[inline(always)]
fn user_of(task: u64) -> Option<MmUser> {
    const PF_KTHREAD: u32 = 0x20_0000;
    let flags: u32 = read(task + u64::from(TASK_FLAGS.load()))?;
    // It may have borrowed one for a while (kernel/kthread.c:kthread_use_mm).
    if flags & PF_KTHREAD != 0 {
        return None;
    }
    let mm = read::<u64>(task + u64::from(TASK_MM.load())).filter(|mm| *mm != 0)?;
    let leader: u64 = read(task + u64::from(TASK_GROUP_LEADER.load()))?;
    let pid: u64 = read(leader + u64::from(TASK_THREAD_PID.load()))?;
    Some(MmUser {
        mm,
        pid: number(pid)?,
        users: read(mm + u64::from(MM_USERS.load()))?,
    })
}
