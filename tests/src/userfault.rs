//! Calls that hang until they are let go: memory whose faults or removals wait for a userfaultfd.

use crate::area::Area;
use crate::scene::{fail, must};

/// include/uapi/linux/userfaultfd.h
const UFFD_API: u64 = 0xaa;
const UFFD_FEATURE_EVENT_REMOVE: u64 = 1 << 3;
const UFFDIO_API: u64 = 0xc018_aa3f;
const UFFDIO_REGISTER: u64 = 0xc020_aa00;
const UFFDIO_UNREGISTER: u64 = 0x8010_aa01;
const UFFDIO_REGISTER_MODE_MISSING: u64 = 1;
/// The size of struct uffd_msg.
const MESSAGE_BYTES: usize = 32;

/// A userfaultfd, which answers nobody until it is told to.
pub struct Userfault(i32);

/// What this process may not do, or the kernel can't.
pub fn refusal() -> Option<std::io::Error> {
    let file = open();
    if file < 0 {
        return Some(std::io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and nobody else's.
    unsafe { libc::close(file) };
    None
}

fn open() -> i32 {
    let flags = libc::O_CLOEXEC | libc::O_NONBLOCK;
    // SAFETY: plain integers.
    unsafe { libc::syscall(libc::SYS_userfaultfd, flags) as i32 }
}

impl Userfault {
    /// From here on, populating the area's missing pages hangs, and so does MADV_DONTNEED on it.
    pub fn on(area: Area) -> Self {
        let file = open();
        must(file, "userfaultfd");
        let watch = Self(file);
        watch.ask(UFFDIO_API, &mut [UFFD_API, UFFD_FEATURE_EVENT_REMOVE, 0]);
        let (start, len) = (area.start as u64, area.bytes() as u64);
        let mut register = [start, len, UFFDIO_REGISTER_MODE_MISSING, 0];
        watch.ask(UFFDIO_REGISTER, &mut register);
        watch
    }

    /// Waits until a thread hangs.
    pub fn wait(&self) {
        let mut polled = libc::pollfd {
            fd: self.0,
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one entry is told and there.
        must(unsafe { libc::poll(&mut polled, 1, -1) }, "poll");
        if polled.revents != libc::POLLIN {
            fail("userfaultfd");
        }
    }

    /// Lets go who hangs, and nothing hangs any more.
    pub fn release(&self, area: Area) {
        let mut message = [0u8; MESSAGE_BYTES];
        // SAFETY: the buffer is of the length told. Reading a removal lets it go on.
        let read = unsafe { libc::read(self.0, message.as_mut_ptr().cast(), MESSAGE_BYTES) };
        if read != MESSAGE_BYTES as isize {
            fail("read from a userfaultfd");
        }
        // Which wakes the populating ones.
        let mut range = [area.start as u64, area.bytes() as u64];
        self.ask(UFFDIO_UNREGISTER, &mut range);
    }

    fn ask<const N: usize>(&self, request: u64, argument: &mut [u64; N]) {
        // SAFETY: each request is of a structure of as many words as the argument has.
        let done = unsafe { libc::ioctl(self.0, request, argument.as_mut_ptr()) };
        must(done, "ioctl on a userfaultfd");
    }
}
