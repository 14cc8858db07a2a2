//! Which CPUs the measured program runs on, and which are left for what observes it.
use std::io;
use std::mem;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::{Context as _, Result};

/// The measured program has one CPU to itself; tracers, load generators and this program have the others.
#[derive(Clone, Copy)]
pub struct Cpus {
    pub measured: CpuSet,
    pub others: CpuSet,
    pub all: CpuSet,
}

/// CPUs by number, up to what the C library's set can hold.
#[derive(Clone, Copy)]
pub struct CpuSet(libc::cpu_set_t);

impl Cpus {
    /// Shares out the CPUs that this process may use. With a single one, everybody gets it.
    pub fn share_out() -> Result<Self> {
        let all = CpuSet::of_this_process()?;
        let numbers = all.numbers();
        let last = *numbers.last().context("there is no CPU to run on")?;
        let others: Vec<usize> = numbers.iter().copied().filter(|&n| n != last).collect();
        Ok(Self {
            measured: CpuSet::from_numbers(&[last]),
            others: if others.is_empty() {
                all
            } else {
                CpuSet::from_numbers(&others)
            },
            all,
        })
    }

    pub fn describe(&self) -> String {
        let list = |set: CpuSet| {
            let numbers: Vec<String> = set.numbers().iter().map(usize::to_string).collect();
            numbers.join(",")
        };
        format!(
            "the measured program is pinned to CPU {}; tracers, load generators and the benchmark itself to CPU {}; strace, \
             which takes turns with its target, may use any",
            list(self.measured),
            list(self.others)
        )
    }
}

impl CpuSet {
    fn of_this_process() -> Result<Self> {
        // SAFETY: the set is plain data, and the call is told its size.
        unsafe {
            let mut set: libc::cpu_set_t = mem::zeroed();
            if libc::sched_getaffinity(0, size_of_val(&set), &mut set) != 0 {
                return Err(io::Error::last_os_error()).context("sched_getaffinity");
            }
            Ok(Self(set))
        }
    }

    pub fn from_numbers(numbers: &[usize]) -> Self {
        // SAFETY: an all-zero set is an empty one; CPU_SET ignores numbers that are too large.
        unsafe {
            let mut set: libc::cpu_set_t = mem::zeroed();
            for &number in numbers {
                libc::CPU_SET(number, &mut set);
            }
            Self(set)
        }
    }

    pub fn numbers(&self) -> Vec<usize> {
        let size = usize::try_from(libc::CPU_SETSIZE).unwrap_or(0);
        // SAFETY: the numbers are below the set's size.
        (0..size)
            .filter(|&number| unsafe { libc::CPU_ISSET(number, &self.0) })
            .collect()
    }

    /// Pins this process to these CPUs.
    pub fn enter(&self) -> io::Result<()> {
        // SAFETY: the set is initialised, and the call is told its size.
        match unsafe { libc::sched_setaffinity(0, size_of_val(&self.0), &self.0) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Has a command run on these CPUs and die with this program, whatever that dies of.
    pub fn confine<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let set = *self;
        // SAFETY: both calls are async-signal-safe and touch no memory of the parent's.
        unsafe {
            command.pre_exec(move || {
                if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                    return Err(io::Error::last_os_error());
                }
                set.enter()
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_the_numbers_it_was_made_of() {
        assert_eq!(CpuSet::from_numbers(&[1, 5]).numbers(), [1, 5]);
        assert!(CpuSet::from_numbers(&[]).numbers().is_empty());
    }
}
