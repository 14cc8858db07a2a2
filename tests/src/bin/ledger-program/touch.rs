//! Touching pages one by one, and counting what each touch did.

use std::arch::asm;
use std::ffi::c_void;

use memtrace_tests::differential::protocol::{
    Entry, FD_PAGEMAP, FD_SINK, FD_ZERO, How, PAGE_IS_PFNZERO, PAGE_IS_PRESENT, PAGEMAP_SCAN,
    SCAN_AT, SCRATCH_AT, Scan, ScanRegion,
};

use crate::calls::{call, own_faults};

const PAGE: u64 = 4096;
const HUGE: u64 = 2 << 20;
/// A word of SCRATCH for each: rusage, then what the fault handler needs.
const USAGE_AT: u64 = SCRATCH_AT;
const RESUME_AT: u64 = SCRATCH_AT + 256;
const STACK_AT: u64 = SCRATCH_AT + 264;
const REFUSED_AT: u64 = SCRATCH_AT + 272;
const IOVEC_AT: u64 = SCRATCH_AT + 512;
const BYTE_AT: u64 = SCRATCH_AT + 1024;
const WARM_AT: u64 = SCRATCH_AT + 16 * PAGE - PAGE;
/// Where code lies in each page of the file of code.
const CODE_OFFSET: u64 = 64;

/// Has SIGSEGV and SIGBUS go on after the touch that made them.
pub fn catch_faults() {
    // SAFETY: the handler touches nothing but its context and the shared area.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_fault as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_NODEFER;
        for signal in [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL] {
            libc::sigaction(signal, &action, std::ptr::null_mut());
        }
    }
}

extern "C" fn on_fault(_: i32, _: *mut libc::siginfo_t, context: *mut c_void) {
    let context = context.cast::<libc::ucontext_t>();
    // SAFETY: the kernel hands over a context of this thread; a touch has set where to go on.
    unsafe {
        let resume = (RESUME_AT as *const i64).read_volatile();
        if resume == 0 {
            crate::calls::exit(libc::SYS_exit_group);
        }
        let registers = &mut (*context).uc_mcontext.gregs;
        registers[libc::REG_RIP as usize] = resume;
        registers[libc::REG_RSP as usize] = (STACK_AT as *const i64).read_volatile();
        (REFUSED_AT as *mut u64).write_volatile(1);
    }
}

/// Touches a page: whether it was refused.
pub fn one(page: u64, how: How, own_pid: u64) -> bool {
    // SAFETY: what is touched is the tester's arena, in which nothing of Rust's lives; a refusal goes on at 2.
    unsafe {
        (REFUSED_AT as *mut u64).write_volatile(0);
        match how {
            How::Read => asm!(
                "lea rax, [rip + 2f]", "mov [rdx], rax", "mov [rdx + 8], rsp",
                "mov al, byte ptr [rdi]", "2:", "mov qword ptr [rdx], 0",
                in("rdi") page, in("rdx") RESUME_AT, out("rax") _,
            ),
            How::Write => asm!(
                "lea rax, [rip + 2f]", "mov [rdx], rax", "mov [rdx + 8], rsp",
                "mov byte ptr [rdi], 1", "2:", "mov qword ptr [rdx], 0",
                in("rdi") page, in("rdx") RESUME_AT, out("rax") _,
            ),
            How::Exec => asm!(
                "lea rax, [rip + 2f]", "mov [rdx], rax", "mov [rdx + 8], rsp",
                "call rdi", "2:", "mov qword ptr [rdx], 0",
                in("rdi") page + CODE_OFFSET, in("rdx") RESUME_AT, out("rax") _,
                clobber_abi("C"),
            ),
            How::KernelWrite => {
                return call(libc::SYS_read, [FD_ZERO as u64, page, 1, 0, 0, 0]) != 1;
            }
            How::KernelRead => {
                return call(libc::SYS_pwrite64, [FD_SINK as u64, page, 1, 0, 0, 0]) != 1;
            }
            How::RemoteWrite | How::RemoteRead => {
                let vec = IOVEC_AT as *mut u64;
                for (word, value) in [BYTE_AT, 1, page, 1].into_iter().enumerate() {
                    vec.add(word).write_volatile(value);
                }
                let number = match how {
                    How::RemoteWrite => libc::SYS_process_vm_writev,
                    _ => libc::SYS_process_vm_readv,
                };
                return call(number, [own_pid, IOVEC_AT, 1, IOVEC_AT + 16, 1, 0]) != 1;
            }
        }
        (REFUSED_AT as *const u64).read_volatile() == 1
    }
}

/// Has all code that touches been run once, on memory of the program's own: its own first faults would be
/// counted among a touch's.
pub fn warm_up(own_pid: u64) {
    for how in How::ALL.into_iter().filter(|&how| how != How::Exec) {
        counted(WARM_AT, how, own_pid, true);
    }
}

/// Touches a page and counts what that did.
pub fn counted(page: u64, how: How, own_pid: u64, count_pages: bool) -> Entry {
    let there = if count_pages { present_around(page) } else { 0 };
    let before = own_faults(USAGE_AT);
    let refused = one(page, how, own_pid);
    let faults = own_faults(USAGE_AT) - before;
    let now = if count_pages { present_around(page) } else { 0 };
    Entry {
        faults: faults as u16,
        refused: u16::from(refused),
        came: now - there,
    }
}

/// How many pages are there in the huge page's range around one, without the zero page.
fn present_around(page: u64) -> i32 {
    const MOST: u64 = 1024;
    let start = page & !(HUGE - 1);
    let scan = Scan::present(start, start + HUGE, SCAN_AT + 256, MOST);
    // SAFETY: both lie in the shared area, and the kernel is told how many fit.
    unsafe {
        (SCAN_AT as *mut Scan).write_volatile(scan);
        let fd = FD_PAGEMAP as u64;
        let found = call(libc::SYS_ioctl, [fd, PAGEMAP_SCAN, SCAN_AT, 0, 0, 0]);
        let regions = (SCAN_AT + 256) as *const ScanRegion;
        let mut pages = 0;
        for index in 0..found.max(0) as usize {
            let region = regions.add(index).read_volatile();
            let is_there = region.categories & PAGE_IS_PRESENT != 0;
            if is_there && region.categories & PAGE_IS_PFNZERO == 0 {
                pages += (region.end - region.start) / PAGE;
            }
        }
        pages as i32
    }
}
