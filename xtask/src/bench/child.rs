//! A program that was started here: what it costs while it runs, and its certain end.
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::process::{Child, Command, ExitStatus};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};

use super::wait;

/// How long a tracer is looked at to tell whether it has work left; a run without a tracer waits
/// as long, so that its target has rested as long.
pub const SETTLING: Duration = Duration::from_millis(120);

/// What it used of the machine.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    pub rss_bytes: u64,
    pub peak_bytes: u64,
}

/// Killed and reaped when it is dropped.
pub struct Running {
    child: Child,
    name: String,
}

impl Running {
    pub fn start(command: &mut Command) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Self { child, name })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// For its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// An error if it has ended.
    pub fn must_run(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended too early, with {status}", self.name),
        }
    }

    pub fn signal(&self, signal: i32) -> Result<()> {
        let pid = i32::try_from(self.pid())?;
        // SAFETY: the child has not been reaped, so that the pid is its own.
        match unsafe { libc::kill(pid, signal) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()).context(self.name.clone()),
        }
    }

    /// Waits until it has ended by itself; one that does not is killed, which is an error.
    pub fn end(&mut self, backstop: Duration) -> Result<ExitStatus> {
        let child = &mut self.child;
        let ended = wait::until(&format!("{} to end", self.name), backstop, || {
            Ok(child.try_wait()?)
        });
        if ended.is_err() {
            self.stop();
        }
        ended
    }

    /// Ends it as Ctrl-C does, more than once if need be: bpftrace has been seen to miss the first.
    pub fn interrupt(&mut self) -> Result<ExitStatus> {
        const PATIENCE: Duration = Duration::from_secs(5);
        for _ in 0..5 {
            self.signal(libc::SIGINT)?;
            let child = &mut self.child;
            if let Ok(status) = wait::until("", PATIENCE, || Ok(child.try_wait()?)) {
                return Ok(status);
            }
        }
        self.end(wait::BACKSTOP)
    }

    /// The CPU time of all its threads so far, those that have ended included.
    pub fn cpu_ns(&self) -> Result<u64> {
        let pid = i32::try_from(self.pid())?;
        let mut clock = 0;
        let mut time = MaybeUninit::<libc::timespec>::uninit();
        // SAFETY: both are ours to be written, and the time is written if the call succeeds.
        let time = unsafe {
            let refused = libc::clock_getcpuclockid(pid, &mut clock);
            if refused != 0 {
                return Err(io::Error::from_raw_os_error(refused)).context(self.name.clone());
            }
            if libc::clock_gettime(clock, time.as_mut_ptr()) != 0 {
                return Err(io::Error::last_os_error()).context(self.name.clone());
            }
            time.assume_init()
        };
        Ok(u64::try_from(time.tv_sec * 1_000_000_000 + time.tv_nsec)?)
    }

    /// Its CPU time once it has worked off what it was behind with: when it uses less than a
    /// hundredth of a CPU, or after ten seconds.
    pub fn settled_cpu_ns(&self) -> Result<u64> {
        let mut before = self.cpu_ns()?;
        for _ in 0..80 {
            // No condition can be waited for: that it has nothing more to do is known to it alone.
            thread::sleep(SETTLING);
            let now = self.cpu_ns()?;
            if u128::from(now - before) < SETTLING.as_nanos() / 100 {
                return Ok(now);
            }
            before = now;
        }
        Ok(before)
    }

    pub fn memory(&self) -> Result<Memory> {
        let path = format!("/proc/{}/status", self.pid());
        let text = fs::read_to_string(&path).with_context(|| path.clone())?;
        memory(&text).ok_or_else(|| anyhow!("{path} has no VmRSS or no VmHWM"))
    }

    fn stop(&mut self) {
        // Killing by pid is safe: it has not been reaped, or kill does nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

fn memory(status: &str) -> Option<Memory> {
    let bytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
        Some(kib * 1024)
    };
    Some(Memory {
        rss_bytes: bytes("VmRSS:")?,
        peak_bytes: bytes("VmHWM:")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_is_read_from_the_text_of_a_status_file() {
        let status = "Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t       4 kB\nThreads:\t1\n";
        let memory = memory(status).expect("both are there");
        assert_eq!((memory.rss_bytes, memory.peak_bytes), (4096, 2_097_152));
        assert!(super::memory("Name:\tkthreadd\n").is_none());
    }
}
