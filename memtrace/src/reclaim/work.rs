//! The decisions: which ranges, in how many calls and passes, and when to stop. The kernel is behind a trait.

use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::ops::Range;

use super::batch::{self, Queue};
use crate::proc::lazy::LazyMappings;
use crate::proc::smaps::Rollup;

/// A pass can leave pages that were on their way between two of the kernel's lists; more than this changes nothing.
const MAX_PASSES: u32 = 3;

/// What is asked of a kernel, about one process. The process may end at any moment: then every answer is ESRCH or `None`.
pub trait Kernel {
    /// process_madvise(MADV_PAGEOUT): the bytes that it has dealt with, from the first on.
    fn page_out(&mut self, ranges: &[Range<u64>]) -> io::Result<u64>;
    /// Where lazily freed memory is.
    fn mappings(&mut self) -> io::Result<Option<LazyMappings>>;
    /// The sums over the whole process.
    fn sums(&mut self) -> io::Result<Option<Rollup>>;
}

/// How far the work is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    pub pass: u32,
    pub done_bytes: u64,
    /// Of this pass.
    pub whole_bytes: u64,
}

/// Why it stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All that could be done is done.
    Done,
    /// The process has ended meanwhile.
    Gone,
    /// By whoever watches the progress.
    Interrupted,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Work {
    pub ending: Ending,
    pub before: Rollup,
    /// `None` where the process has ended.
    pub after: Option<Rollup>,
    /// Mappings that the first pass asked for.
    pub ranges: u64,
    pub advised_bytes: u64,
    pub passes: u32,
    /// Ranges that the kernel refused in the last pass: unmapped, replaced or locked since they were read.
    pub refused: u64,
    /// What the last look found, before the last pass.
    pub found: LazyMappings,
}

/// Why the kernel will take nothing from this process, whatever the range.
#[derive(Debug)]
pub enum Refusal {
    /// EPERM.
    Nice,
    /// EACCES.
    Ptrace,
    /// ENOSYS.
    NoCall,
    /// EINVAL, without any range.
    NoPageout,
    Read(io::Error),
    Other(io::Error),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nice => f.write_str(
                "CAP_SYS_NICE is missing, which process_madvise needs: run memtrace with sudo (in a container: on the host)",
            ),
            Self::Ptrace => f.write_str(
                "its memory may not be read: CAP_SYS_PTRACE is missing; run memtrace with sudo",
            ),
            Self::NoCall => f.write_str(
                "process_madvise is not there: the kernel is older than 5.10, or a seccomp filter hides it; lower the cgroup's memory limit for a moment instead",
            ),
            Self::NoPageout => f.write_str(
                "this kernel's process_madvise does not take MADV_PAGEOUT: lower the cgroup's memory limit for a moment instead",
            ),
            Self::Read(error) if error.raw_os_error() == Some(libc::EACCES) => f.write_str(
                "its smaps may not be read: CAP_SYS_PTRACE is missing; run memtrace with sudo",
            ),
            Self::Read(error) => write!(f, "its smaps cannot be read: {error}"),
            Self::Other(error) => write!(f, "process_madvise: {error}"),
        }
    }
}

impl std::error::Error for Refusal {}

/// Asks about no range at all: whether the kernel knows the call and the advice, and lets us give it.
///
/// `Ok(false)`: the process has ended.
///
/// # Errors
/// Why it would take nothing.
pub fn ask(kernel: &mut impl Kernel) -> Result<bool, Refusal> {
    let error = match kernel.page_out(&[]) {
        Ok(_) => return Ok(true),
        Err(error) => error,
    };
    match error.raw_os_error() {
        Some(libc::ESRCH) => Ok(false),
        // Ranges are looked at last (mm/madvise.c:SYSCALL_DEFINE5(process_madvise)).
        Some(libc::EINVAL) => Err(Refusal::NoPageout),
        _ => Err(refusal(error)),
    }
}

fn refusal(error: io::Error) -> Refusal {
    match error.raw_os_error() {
        Some(libc::EPERM) => Refusal::Nice,
        Some(libc::EACCES) => Refusal::Ptrace,
        Some(libc::ENOSYS) => Refusal::NoCall,
        _ => Refusal::Other(error),
    }
}

/// Has the kernel take what it can, from what was found in the process.
///
/// # Errors
/// A refusal that has nothing to do with a single range.
pub fn take(
    kernel: &mut impl Kernel,
    before: Rollup,
    found: LazyMappings,
    mut watch: impl FnMut(Progress) -> ControlFlow<()>,
) -> Result<Work, Refusal> {
    let mut work = Work {
        ending: Ending::Done,
        before,
        after: Some(before),
        ranges: found.list.len() as u64,
        advised_bytes: 0,
        passes: 0,
        refused: 0,
        found,
    };
    while work.passes < MAX_PASSES && !work.found.list.is_empty() {
        work.passes += 1;
        let lazy_before = work.after.map_or(0, |sums| sums.lazyfree_bytes);
        work.refused = 0;
        work.ending = pass(kernel, &mut work, &mut watch)?;
        work.after = kernel.sums().map_err(Refusal::Read)?;
        let Some(after) = work.after else {
            work.ending = Ending::Gone;
            break;
        };
        let changed = after.lazyfree_bytes < lazy_before || work.refused > 0;
        if work.ending != Ending::Done || after.lazyfree_bytes == 0 || !changed {
            break;
        }
        match kernel.mappings().map_err(Refusal::Read)? {
            Some(found) => work.found = found,
            None => {
                work.ending = Ending::Gone;
                work.after = None;
                break;
            }
        }
    }
    Ok(work)
}

/// Asks once for every mapping found.
fn pass(
    kernel: &mut impl Kernel,
    work: &mut Work,
    watch: &mut impl FnMut(Progress) -> ControlFlow<()>,
) -> Result<Ending, Refusal> {
    let ranges: Vec<_> = work
        .found
        .list
        .iter()
        .map(|one| one.range.clone())
        .collect();
    let mut progress = Progress {
        pass: work.passes,
        done_bytes: 0,
        whole_bytes: batch::total(&ranges),
    };
    let mut queue = Queue::new(ranges);
    // Before Linux 5.18 an error may come from any range of a call, and later ones from its first
    // only: so it is asked about one range alone before that is given up.
    let mut at_most = batch::MAX_RANGES;
    // Every turn goes on by some bytes, or gives a range up, or makes the next turn do so.
    while !queue.is_empty() {
        if watch(progress).is_break() {
            return Ok(Ending::Interrupted);
        }
        let batch = queue.next(at_most);
        match kernel.page_out(&batch) {
            Ok(done) if done > 0 => {
                let done = done.min(batch::total(&batch));
                queue.advance(done);
                work.advised_bytes += done;
                progress.done_bytes += done;
                at_most = (at_most * 2).min(batch::MAX_RANGES);
                continue;
            }
            Ok(_) => {}
            Err(error) => match error.raw_os_error() {
                Some(libc::ESRCH) => return Ok(Ending::Gone),
                // What is said of one range: unmapped (in part), replaced by a file, locked.
                Some(libc::ENOMEM | libc::EINVAL | libc::EFAULT | libc::EBUSY | libc::EAGAIN) => {}
                // A signal, which whoever watches knows of.
                Some(libc::EINTR) if watch(progress).is_break() => return Ok(Ending::Interrupted),
                Some(libc::EINTR) => {}
                _ => return Err(refusal(error)),
            },
        }
        if batch.len() > 1 {
            at_most = 1;
            continue;
        }
        progress.done_bytes += batch::total(&batch);
        work.refused += 1;
        queue.skip_first();
    }
    Ok(Ending::Done)
}

#[cfg(test)]
#[path = "work_tests.rs"]
mod tests;
