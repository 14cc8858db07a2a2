//! A folder in memory and a tracefs that only this program and its children see, and that go with them.
use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::ptr;

use anyhow::{Context as _, Result};

/// Where tracers write what they record: in memory, so that no disk is measured.
pub struct Scratch(PathBuf);

impl Scratch {
    /// Leaves the machine's mount namespace for a private one and mounts there. Whatever this
    /// program dies of, nothing of it remains but an empty folder.
    pub fn enter(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        // SAFETY: unshare takes a number, and no other thread runs yet.
        if unsafe { libc::unshare(libc::CLONE_NEWNS) } != 0 {
            return Err(io::Error::last_os_error())
                .context("cannot make a mount namespace; the benchmark needs to be run as root");
        }
        mount(
            c"none",
            Path::new("/"),
            None,
            libc::MS_REC | libc::MS_PRIVATE,
        )
        .context("cannot make the mounts private")?;
        mount(c"memtrace-bench", folder, Some(c"tmpfs"), 0)
            .context("cannot mount a folder in memory")?;
        let tracefs = Path::new("/sys/kernel/tracing");
        if !tracefs.join("events").exists() {
            // Without it some variants fail, and say so.
            let _ = mount(c"tracefs", tracefs, Some(c"tracefs"), 0);
        }
        Ok(Self(folder.to_owned()))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Removes the files that the last variant has written. Folders are others'.
    pub fn clear(&self) -> Result<()> {
        for entry in fs::read_dir(&self.0)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Ok(path) = c_path(&self.0) {
            // SAFETY: the path is a C string.
            unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) };
        }
        // It is empty; if not, it was not ours.
        let _ = fs::remove_dir(&self.0);
    }
}

fn mount(source: &CStr, target: &Path, kind: Option<&CStr>, flags: libc::c_ulong) -> Result<()> {
    let target = c_path(target)?;
    let kind = kind.map_or(ptr::null(), CStr::as_ptr);
    // SAFETY: all are C strings or null where mount(2) allows it.
    match unsafe { libc::mount(source.as_ptr(), target.as_ptr(), kind, flags, ptr::null()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()).context("mount"),
    }
}

fn c_path(path: &Path) -> Result<CString> {
    CString::new(path.as_os_str().as_bytes()).context("a path with a null byte in it")
}
