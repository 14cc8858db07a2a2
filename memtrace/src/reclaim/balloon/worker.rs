//! The process that holds the balloon's memory: the first to be killed when memory runs out, and gone with its parent.

use std::fs;
use std::io::{self, BufRead as _, Write as _};
use std::ptr;

use anyhow::{Context as _, bail};

use crate::proc::page_bytes;

/// Its first word, once it may be asked for memory.
pub(super) const READY: &str = "ready";
/// And where it may not: the reason stands behind it.
pub(super) const FAILED: &str = "failed ";

/// Reads a number of bytes from each line of stdin, takes hold of as many more, and writes `holds`
/// and all that it holds, or `refused` and an errno. The end of stdin is its own.
///
/// # Errors
/// When whoever it works for is not to be heard or reached any more.
pub fn run(parent: u32) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match be_the_first_to_go(parent) {
        Ok(()) => writeln!(out, "{READY}")?,
        Err(error) => writeln!(out, "{FAILED}{error:#}")?,
    }
    out.flush()?;
    let mut held = 0;
    for line in io::stdin().lock().lines() {
        let bytes: usize = line?.trim().parse().context("no number of bytes")?;
        match hold(bytes) {
            Ok(()) => {
                held += bytes;
                writeln!(out, "holds {held}")?;
            }
            Err(error) => writeln!(out, "refused {}", error.raw_os_error().unwrap_or(0))?,
        }
        out.flush()?;
    }
    Ok(())
}

/// Goes with its parent, and before any other process when memory runs out. Nothing is held yet.
fn be_the_first_to_go(parent: u32) -> anyhow::Result<()> {
    // SAFETY: prctl takes integers here, and a string that ends with NUL.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0);
        libc::prctl(libc::PR_SET_NAME, c"balloon".as_ptr(), 0, 0, 0);
    }
    // It may have ended before that.
    if std::os::unix::process::parent_id() != parent {
        bail!("unexpected parent process");
    }
    fs::write("/proc/self/oom_score_adj", "1000")
        .context("it cannot be made the first to be killed (/proc/self/oom_score_adj)")?;
    // Afterwards, since that file may then be root's: a signal must not write all that it holds to
    // a core file.
    // SAFETY: prctl takes integers here.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) };
    Ok(())
}

/// Maps so much, and touches every page. It is freed by the end of this process alone.
fn hold(bytes: usize) -> io::Result<()> {
    // SAFETY: a new private mapping at an address of the kernel's choice.
    let at = unsafe {
        libc::mmap(
            ptr::null_mut(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if at == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    for offset in (0..bytes).step_by(page_bytes() as usize) {
        // SAFETY: within the mapping above, which nobody else knows.
        unsafe { at.cast::<u8>().add(offset).write_volatile(1) };
    }
    Ok(())
}
