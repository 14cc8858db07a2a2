//! Reads kernel memory by address.

use aya_ebpf::helpers::bpf_probe_read_kernel;

/// The number that a pointer is: once written down and read back, the verifier takes it for no more.
#[inline(always)]
pub fn scalar(pointer: u64) -> Option<u64> {
    let mut place = pointer;
    // SAFETY: the volatile write keeps the value in its place on the stack.
    unsafe { core::ptr::write_volatile(&raw mut place, pointer) };
    // SAFETY: the helper reads 8 bytes of our own stack.
    unsafe { bpf_probe_read_kernel(&raw const place) }.ok()
}

/// Reads kernel memory; None where it can't be read.
#[inline(always)]
pub fn read<T>(at: u64) -> Option<T> {
    // SAFETY: the helper fails on an address that it can't read.
    unsafe { bpf_probe_read_kernel(at as *const T) }.ok()
}
