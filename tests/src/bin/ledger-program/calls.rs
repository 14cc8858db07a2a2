//! System calls without the C library, which would keep errno and allocate.

use std::arch::asm;

/// A system call: what the kernel returned.
///
/// # Safety
///
/// As the call: what it does to memory must be nothing of Rust's.
pub unsafe fn call(number: i64, args: [u64; 6]) -> i64 {
    let ret;
    // SAFETY: the kernel clobbers rcx and r11 only; the rest is the caller's promise.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => ret,
            in("rdi") args[0],
            in("rsi") args[1],
            in("rdx") args[2],
            in("r10") args[3],
            in("r8") args[4],
            in("r9") args[5],
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    ret
}

/// Starts a thread at `run(arg)` on a stack, which must not return. The kernel clears `done` at its end.
///
/// # Safety
///
/// The stack and what `run` touches must be the thread's own.
pub unsafe fn thread(stack_top: u64, run: extern "C" fn(u64) -> !, arg: u64, done: u64) -> i64 {
    const FLAGS: i32 = libc::CLONE_VM
        | libc::CLONE_FS
        | libc::CLONE_FILES
        | libc::CLONE_SIGHAND
        | libc::CLONE_THREAD
        | libc::CLONE_SYSVSEM
        | libc::CLONE_CHILD_CLEARTID;
    let ret;
    // SAFETY: the new thread begins on its own stack and leaves this code at once.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call r13",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone => ret,
            in("rdi") FLAGS as u64,
            in("rsi") stack_top,
            in("rdx") 0,
            in("r10") done,
            in("r8") 0,
            in("r12") arg,
            in("r13") run,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    ret
}

/// Ends this thread, or this process by its last one.
pub fn exit(number: i64) -> ! {
    loop {
        // SAFETY: it does not come back.
        unsafe { call(number, [0; 6]) };
    }
}

/// minflt and majflt of this thread.
pub fn own_faults(at: u64) -> u64 {
    const RUSAGE_THREAD: u64 = 1;
    // SAFETY: the buffer is the caller's part of the shared area; ru_minflt and ru_majflt are the 9th and 10th word.
    unsafe {
        call(libc::SYS_getrusage, [RUSAGE_THREAD, at, 0, 0, 0, 0]);
        let usage = at as *const u64;
        usage.add(8).read_volatile() + usage.add(9).read_volatile()
    }
}
