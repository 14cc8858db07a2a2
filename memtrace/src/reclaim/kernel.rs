//! The kernel's side of one process: its pidfd, and calls that can reach no other process that gets its pid.

use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;

use super::work::Kernel;
use crate::proc::handle::Handle;
use crate::proc::lazy::{self, LazyMappings};
use crate::proc::resolve::Process;
use crate::proc::smaps::{self, Rollup};
use crate::proc::{is_gone, stat};

/// MADV_PAGEOUT of include/uapi/asm-generic/mman-common.h (Linux 5.4).
const PAGEOUT: i32 = 21;

/// One process, whatever becomes of its pid.
pub struct Live {
    pid: u32,
    start_ticks: u64,
    handle: Handle,
}

impl Live {
    /// Holds on to a process; `None` where it has ended.
    ///
    /// # Errors
    /// Those of pidfd_open(2) and of reading /proc/PID/stat.
    pub fn open(process: &Process) -> io::Result<Option<Self>> {
        let handle = match Handle::open(process.pid) {
            Ok(handle) => handle,
            Err(error) if is_gone(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let live = Self {
            pid: process.pid,
            start_ticks: process.start_ticks,
            handle,
        };
        // The pid may have passed on before the pidfd was opened.
        Ok(live.same()?.then_some(live))
    }

    /// Whether the pid still means the process that was found, and that lives: what was read of
    /// /proc by pid up to now was its own.
    fn same(&self) -> io::Result<bool> {
        match stat::read(self.pid) {
            Ok(stat) => Ok(stat.start_ticks == self.start_ticks
                && !stat.is_dead()
                && self.handle.is_alive()),
            Err(error) if is_gone(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// What was read, unless the process ended meanwhile and it may be of another.
    fn own<T>(&self, read: io::Result<Option<T>>) -> io::Result<Option<T>> {
        match read {
            Ok(Some(value)) => Ok(self.same()?.then_some(value)),
            Ok(None) => Ok(None),
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Kernel for Live {
    fn page_out(&mut self, ranges: &[Range<u64>]) -> io::Result<u64> {
        let vectors: Vec<libc::iovec> = ranges
            .iter()
            .map(|range| libc::iovec {
                iov_base: range.start as usize as *mut libc::c_void,
                iov_len: (range.end - range.start) as usize,
            })
            .collect();
        // SAFETY: the vectors are initialised and as many as the call is told. They name another
        // process's memory, whose content the advice does not change.
        let done = unsafe {
            libc::syscall(
                libc::SYS_process_madvise,
                self.handle.as_raw_fd(),
                vectors.as_ptr(),
                vectors.len(),
                PAGEOUT,
                0,
            )
        };
        u64::try_from(done).map_err(|_| io::Error::last_os_error())
    }

    fn mappings(&mut self) -> io::Result<Option<LazyMappings>> {
        self.own(lazy::read(self.pid).map(Some))
    }

    fn sums(&mut self) -> io::Result<Option<Rollup>> {
        self.own(smaps::rollup(self.pid))
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;
    use crate::proc::resolve::resolve;

    #[test]
    fn a_process_that_has_ended_has_no_sums_and_no_mappings() {
        let mut child = Command::new("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let process = resolve(child.id()).unwrap();
        let mut live = Live::open(&process).unwrap().expect("it lives");
        assert!(live.sums().unwrap().is_some_and(|sums| sums.rss_bytes > 0));
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(live.sums().unwrap(), None);
        assert_eq!(live.mappings().unwrap(), None);
        let error = live.page_out(&[]).unwrap_err();
        // Who may not ask at all is told that first.
        assert!(matches!(
            error.raw_os_error(),
            Some(libc::ESRCH | libc::EPERM)
        ));
        assert!(Live::open(&process).unwrap().is_none());
    }

    #[test]
    fn a_pid_that_has_passed_on_is_not_touched() {
        let mut child = Command::new("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut process = resolve(child.id()).unwrap();
        // As if the process that was found had begun at another time.
        process.start_ticks -= 1;
        assert!(Live::open(&process).unwrap().is_none());
        drop(child.stdin.take());
        child.wait().unwrap();
    }
}
