//! The workload of `memtrace demo`: gives memory back in every way, and takes it again.

use std::io;
use std::time::Duration;

const MIB: usize = 1 << 20;
/// Between two steps, so that each shows in the live stream by itself.
const PAUSE: Duration = Duration::from_millis(400);

/// Runs the workload; it ends by itself after a few seconds.
///
/// # Errors
/// When the kernel refuses the memory or an advice.
pub fn run() -> io::Result<()> {
    // Larger folios would make one fault of many, and the demo is about counting them.
    // SAFETY: prctl takes integers here and touches no memory.
    unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) };

    let lazy = Region::map(64 * MIB)?;
    lazy.write(0, 64 * MIB);
    pause();
    // Given back, and still resident: the state that looks like a leak.
    lazy.advise(libc::MADV_FREE, 0, 64 * MIB)?;
    pause();
    // Written again: no fault tells of it, the pages simply are the program's again.
    lazy.write(0, 24 * MIB);
    pause();
    // Now the kernel takes what is still lazily free, as it would under pressure.
    lazy.page_out(0, 64 * MIB)?;
    pause();
    // A part of what was taken is needed after all: refaults, long after the FREE.
    lazy.write(24 * MIB, 12 * MIB);
    pause();

    let eager = Region::map(32 * MIB)?;
    eager.write(0, 32 * MIB);
    for _ in 0..6 {
        pause();
        // Gone at once, and back at once, over and over: the churn that DONTNEED costs.
        eager.advise(libc::MADV_DONTNEED, 0, 32 * MIB)?;
        eager.write(0, 24 * MIB);
    }
    pause();
    drop(eager);
    pause();
    Ok(())
}

fn pause() {
    std::thread::sleep(PAUSE);
}

/// Private anonymous memory.
struct Region {
    start: *mut u8,
    len: usize,
}

impl Region {
    fn map(len: usize) -> io::Result<Self> {
        let (prot, flags) = (
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
        );
        // SAFETY: a new mapping, at an address that the kernel chooses.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), len, prot, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self {
            start: start.cast(),
            len,
        })
    }

    /// Writes one byte to each page.
    fn write(&self, at: usize, len: usize) {
        for offset in (at..(at + len).min(self.len)).step_by(4096) {
            // SAFETY: the offset lies within the mapping, which nobody else knows of.
            unsafe { self.start.add(offset).write_volatile(1) };
        }
    }

    fn advise(&self, advice: i32, at: usize, len: usize) -> io::Result<()> {
        // SAFETY: the range lies within the mapping, and no reference points into it.
        match unsafe { libc::madvise(self.start.add(at).cast(), len, advice) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// What reclaim does, on demand: takes clean lazily freed pages.
    fn page_out(&self, at: usize, len: usize) -> io::Result<()> {
        self.advise(libc::MADV_PAGEOUT, at, len)
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and this is the last use of it.
        unsafe { libc::munmap(self.start.cast(), self.len) };
    }
}
