//! Boots a kernel with an image under QEMU, and ends it when it falls silent.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::process;

const BETWEEN_LOOKS: Duration = Duration::from_millis(100);
/// Of the kernel's log, where a guest did not come to its end.
const TAIL_LINES: usize = 40;

/// Emulated, for guests hang under KVM inside some virtual machines. QEMU 7.2 now and then leaves
/// garbage in the flags after cmpxchg16b, by which kernels take memory from their caches: without
/// the instruction they take it another way. String instructions are emulated byte by byte: without
/// what says that they are fast, memory is cleared and copied by words.
const CPU: &str = "max,-cx16,-erms,-fsrm";

/// A panic ends the guest at once, for QEMU does not boot again. Mitigations and grace periods are slow
/// to emulate, and a program that runs so long would often be preempted. The processor's own clock is
/// trusted: to read any other leaves the emulated code, and on a busy host all seem unsteady. 112 is
/// rep_good, by the only name that old kernels take (arch/x86/include/asm/cpufeatures.h): that string
/// instructions are better than loops. QEMU translates a program anew wherever else it is loaded, which
/// takes longer than to run it: it is always loaded at the same place.
const PARAMETERS: &str = "console=ttyS0 loglevel=4 panic=-1 oops=panic mitigations=off rcupdate.rcu_expedited=1 \
                          preempt=lazy tsc=reliable no_timer_check clearcpuid=112 norandmaps";

/// The emulator, which is a program of the host.
pub const PROGRAM: (&str, &str) = ("qemu-system-x86_64", "qemu-system-x86");

pub struct Machine<'a> {
    pub kernel: &'a Path,
    pub image: &'a Path,
    pub memory_mib: u64,
    /// For the kernel's command line, after what all get.
    pub parameters: &'a str,
    /// Where its two serial ports go: the kernel's log, and what the guest says.
    pub log: PathBuf,
    pub said: PathBuf,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By itself: the guest has ended, or the kernel has panicked.
    Ended,
    /// It has said nothing for too long.
    Silent,
}

impl Machine<'_> {
    /// Runs until the guest ends, or has said nothing for as long as `silence`. `look` is given what it
    /// has said so far, all the while.
    pub fn run(&self, silence: Duration, mut look: impl FnMut(&str)) -> Result<End> {
        let mut guest = Guest(self.start()?);
        let mut heard = (0, Instant::now());
        loop {
            // Before the file is read, so that its last state is seen.
            let status = guest.0.try_wait().context("cannot wait for QEMU")?;
            let said = self.said();
            look(&said);
            if said.len() != heard.0 {
                heard = (said.len(), Instant::now());
            }
            match status {
                Some(_) => return Ok(End::Ended),
                None if heard.1.elapsed() > silence => return Ok(End::Silent),
                None => thread::sleep(BETWEEN_LOOKS),
            }
        }
    }

    fn start(&self) -> Result<Child> {
        let (program, package) = PROGRAM;
        let serial = |path: &Path| format!("file:{}", path.display());
        let mut command = process::tool(program, package)?;
        // SAFETY: prctl is async-signal-safe, and takes integers.
        unsafe {
            // Nobody else would end it where we are killed.
            command.pre_exec(
                || match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
                    0 => Ok(()),
                    _ => Err(io::Error::last_os_error()),
                },
            );
        }
        command
            .args(["-accel", "tcg,thread=single", "-cpu", CPU, "-smp", "2"])
            .args(["-m", &format!("{}M", self.memory_mib)])
            .args(["-nodefaults", "-display", "none", "-no-reboot"])
            .arg("-serial")
            .arg(serial(&self.log))
            .arg("-serial")
            .arg(serial(&self.said))
            .arg("-kernel")
            .arg(self.kernel)
            .arg("-initrd")
            .arg(self.image)
            .args(["-append", &format!("{PARAMETERS} {}", self.parameters)])
            .stdin(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {program}"))
    }

    /// What the guest has said so far.
    pub fn said(&self) -> String {
        text(&self.said)
    }

    /// The last lines of the kernel's log.
    pub fn log_tail(&self) -> String {
        let log = text(&self.log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }
}

/// Where nothing was written yet there is no text.
fn text(path: &Path) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A guest never outlives its look-out.
struct Guest(Child);

impl Drop for Guest {
    fn drop(&mut self) {
        // Killing by pid is safe: it has not been reaped, or kill does nothing.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
