//! How far the ring has been written and read.

use std::io;
use std::os::fd::RawFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

/// The first two pages of a ring (kernel/bpf/ringbuf.c: struct bpf_ringbuf), mapped for reading:
/// each begins with a running count of bytes, of what was read and of what was reserved.
pub struct Positions {
    read: NonNull<u64>,
    page: usize,
}

// SAFETY: the memory is the kernel's, and only read, atomically.
unsafe impl Send for Positions {}

impl Positions {
    pub fn of(ring: RawFd) -> io::Result<Self> {
        // SAFETY: sysconf takes an integer.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        let page = usize::try_from(page).map_err(|_| io::Error::last_os_error())?;
        // SAFETY: the kernel chooses the address; a ring has more than these pages.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                2 * page,
                libc::PROT_READ,
                libc::MAP_SHARED,
                ring,
                0,
            )
        };
        match NonNull::new(at.cast()) {
            Some(read) if at != libc::MAP_FAILED => Ok(Self { read, page }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Up to where records have been taken.
    pub fn read(&self) -> u64 {
        // SAFETY: an aligned u64 that is mapped as long as `self` is.
        unsafe { AtomicU64::from_ptr(self.read.as_ptr()) }.load(Ordering::Acquire)
    }

    /// Up to where records lie that are written, or being written.
    pub fn reserved(&self) -> u64 {
        // SAFETY: as above; the second page is mapped as well.
        let reserved = unsafe { self.read.byte_add(self.page) };
        // SAFETY: as above.
        unsafe { AtomicU64::from_ptr(reserved.as_ptr()) }.load(Ordering::Acquire)
    }
}

impl Drop for Positions {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and nothing else points to it.
        unsafe { libc::munmap(self.read.as_ptr().cast(), 2 * self.page) };
    }
}
