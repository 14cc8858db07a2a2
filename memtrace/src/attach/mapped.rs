//! Array maps that userspace has mapped: reading them costs no system call, and the kernel side nothing.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::ptr::NonNull;

use anyhow::{Context as _, bail};
use aya::maps::Map;

/// The elements of an array map with BPF_F_MMAPABLE (kernel/bpf/arraymap.c:array_map_mmap).
///
/// The kernel side changes them at any time: they are reached by pointers only, and read by
/// volatile or atomic operations.
pub struct Mapped<T> {
    /// Programs that are loaded later still name it by its descriptor.
    _map: Map,
    first: NonNull<T>,
    elements: usize,
    bytes: usize,
}

// SAFETY: the memory is shared with the kernel anyway, whichever thread looks at it; T is made of
// integers.
unsafe impl<T: Copy> Send for Mapped<T> {}
// SAFETY: as above.
unsafe impl<T: Copy> Sync for Mapped<T> {}

impl<T: Copy> Mapped<T> {
    /// Maps all elements of the array `map`, for writing as well.
    ///
    /// # Errors
    /// When it is no array, or the kernel does not map it.
    pub fn new(map: Map, elements: usize) -> anyhow::Result<Self> {
        const {
            assert!(
                size_of::<T>().is_multiple_of(8),
                "the kernel pads elements to 8 bytes"
            );
        };
        let Map::Array(data) = &map else {
            bail!("a map that is to be mapped is no array");
        };
        let bytes = size_of::<T>() * elements;
        // SAFETY: the kernel chooses the address, and checks that the map is as long as that.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                data.fd().as_fd().as_raw_fd(),
                0,
            )
        };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error())
                .context("cannot map an array of the kernel side");
        }
        let first = NonNull::new(at.cast()).context("the kernel mapped an array at address 0")?;
        Ok(Self {
            _map: map,
            first,
            elements,
            bytes,
        })
    }

    pub fn len(&self) -> usize {
        self.elements
    }

    /// A pointer to an element, valid while `self` is.
    ///
    /// # Panics
    /// When there is no such element.
    pub fn at(&self, index: usize) -> NonNull<T> {
        assert!(index < self.elements, "no element {index}");
        // SAFETY: the index is within the mapping.
        unsafe { self.first.add(index) }
    }
}

impl<T> Drop for Mapped<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and no pointer to it outlives `self`.
        unsafe { libc::munmap(self.first.as_ptr().cast(), self.bytes) };
    }
}
