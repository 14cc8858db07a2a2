//! The two atomic operations that are used: an add whose result nobody reads, and an exchange.

use core::arch::asm;

/// Adds to a u64 that other CPUs, or programs interrupting this one, add to as well.
///
/// Rust has no atomic add for this target, since the oldest kernels can't return the old value;
/// the plain add needs no more than BPF_ADD with BPF_DW, which every kernel has.
///
/// # Safety
/// `to` must be an aligned, live u64 in a map.
#[inline(always)]
pub unsafe fn add(to: *mut u64, value: u64) {
    // SAFETY: the caller vouches for the pointer; nothing else is touched.
    unsafe {
        asm!("lock *(u64 *)({to} + 0) += {value}", to = in(reg) to, value = in(reg) value);
    }
}

/// Puts a value in the place of another, which it returns. Needs Linux 5.12.
///
/// # Safety
/// `at` must be an aligned, live i64 in a map.
#[inline(always)]
pub unsafe fn exchange(at: *mut i64, value: i64) -> i64 {
    let mut value = value;
    // SAFETY: the caller vouches for the pointer; nothing else is touched.
    unsafe {
        asm!("{value} = xchg_64({at} + 0, {value})", at = in(reg) at, value = inout(reg) value);
    }
    value
}
