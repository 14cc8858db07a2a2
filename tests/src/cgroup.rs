//! A memory cgroup of a test's own, of either version, which goes with its guard.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::wait;

/// An empty group below the root of the hierarchy that has the memory controller.
pub struct MemoryCgroup {
    dir: PathBuf,
    version: u8,
}

impl MemoryCgroup {
    /// Makes one; the error says what is missing.
    pub fn make(name: &str) -> Result<Self, String> {
        let (root, version) = hierarchy()?;
        let dir = root.join(format!("memtrace-{name}-{}", std::process::id()));
        fs::create_dir(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        let group = Self { dir, version };
        // Version 2 gives children the controller only where it is switched on for them.
        let usage = group.file("memory.usage_in_bytes", "memory.current");
        fs::metadata(&usage).map_err(|error| format!("{}: {error}", usage.display()))?;
        Ok(group)
    }

    /// Moves a process in: what it touches from then on is charged here.
    pub fn take(&self, pid: u32) {
        write(&self.dir.join("cgroup.procs"), &pid.to_string());
    }

    /// Has a program be in it from its first instruction.
    pub fn holds<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let procs = self.dir.join("cgroup.procs").into_os_string();
        let procs = CString::new(procs.into_encoded_bytes()).expect("no NUL");
        // SAFETY: all three calls are async-signal-safe, and the path outlives them.
        unsafe {
            command.pre_exec(move || {
                let file = libc::open(procs.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
                // 0 is the writer itself.
                if file < 0 || libc::write(file, c"0".as_ptr().cast(), 1) != 1 {
                    return Err(io::Error::last_os_error());
                }
                libc::close(file);
                Ok(())
            })
        }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// 1 or 2.
    pub fn version(&self) -> u8 {
        self.version
    }

    /// What is charged to it.
    pub fn usage(&self) -> u64 {
        let file = self.file("memory.usage_in_bytes", "memory.current");
        let text = fs::read_to_string(&file);
        let text = text.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        text.trim().parse().expect("it is a number")
    }

    /// Sets the limit, which has the kernel reclaim down to it.
    pub fn limit(&self, bytes: u64) {
        let file = self.file("memory.limit_in_bytes", "memory.max");
        write(&file, &bytes.to_string());
    }

    fn file(&self, first: &str, second: &str) -> PathBuf {
        self.dir
            .join(if self.version == 1 { first } else { second })
    }
}

impl Drop for MemoryCgroup {
    fn drop(&mut self) {
        // Its last process may still be on its way out.
        wait::until("the cgroup's removal", || fs::remove_dir(&self.dir).ok());
    }
}

/// Where the memory controller is mounted, and its version.
fn hierarchy() -> Result<(PathBuf, u8), String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").map_err(|error| error.to_string())?;
    let found = |kind: &str, option: &str| {
        mounts.lines().find_map(|line| {
            let (mount, superblock) = line.split_once(" - ")?;
            let fits = superblock.starts_with(kind)
                && superblock.split([' ', ',']).any(|word| word == option);
            fits.then(|| mount.split(' ').nth(4).map(PathBuf::from))?
        })
    };
    if let Some(root) = found("cgroup ", "memory") {
        return Ok((root, 1));
    }
    let root = found("cgroup2 ", "rw").ok_or("no cgroup hierarchy is mounted")?;
    let control = root.join("cgroup.subtree_control");
    fs::write(&control, "+memory").map_err(|error| format!("{}: {error}", control.display()))?;
    Ok((root, 2))
}

fn write(file: &Path, text: &str) {
    fs::write(file, text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
}
