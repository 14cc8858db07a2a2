//! Mounts what a system has mounted, and gives the machine what the plan wants it to have or to lack.

use std::ffi::CString;
use std::fs;

use anyhow::{Context as _, Result};
use xtask::vm::protocol::{Cgroup, Setup};

use crate::swap;

/// Everything but tracefs and the cgroups: nobody mounts tracefs here, and memtrace must not need it.
pub fn file_systems() -> Result<()> {
    mount("proc", "proc", "/proc", "")?;
    mount("sysfs", "sysfs", "/sys", "")?;
    mount("devtmpfs", "devtmpfs", "/dev", "")?;
    mount("devpts", "devpts", "/dev/pts", "mode=0620,ptmxmode=0666")?;
    mount("tmpfs", "tmpfs", "/tmp", "mode=1777")?;
    mount("tmpfs", "tmpfs", "/run", "mode=0755")
}

pub fn machine(setup: &Setup) -> Result<()> {
    match setup.cgroup {
        Cgroup::V2 => mount("cgroup2", "cgroup2", "/sys/fs/cgroup", "")?,
        Cgroup::V1 => {
            mount("tmpfs", "tmpfs", "/sys/fs/cgroup", "")?;
            mount("cgroup", "cgroup", "/sys/fs/cgroup/memory", "memory")?;
        }
    }
    if setup.btf_hidden {
        mount("tmpfs", "tmpfs", "/sys/kernel/btf", "")?;
    }
    if setup.swap_mib > 0 {
        swap::on(setup.swap_mib)?;
    }
    long_turns()
}

/// Has tasks run for long before others take their place (kernel/sched/fair.c): emulated, a program of
/// memtrace's takes a good part of an ordinary turn, and the kernel leaves programs out that come while one
/// is preempted. Old kernels, which do not preempt, and locked down ones lack the setting.
fn long_turns() -> Result<()> {
    const DEBUGFS: &str = "/sys/kernel/debug";
    const NANOSECONDS: &str = "200000000";
    mount("debugfs", "debugfs", DEBUGFS, "")?;
    let _ = fs::write(format!("{DEBUGFS}/sched/base_slice_ns"), NANOSECONDS);
    // With it tracefs would be mounted whenever somebody looks there.
    // SAFETY: the path ends with NUL.
    match unsafe { libc::umount2(c"/sys/kernel/debug".as_ptr(), 0) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()).context("cannot unmount debugfs"),
    }
}

fn mount(source: &str, kind: &str, at: &str, options: &str) -> Result<()> {
    fs::create_dir_all(at).with_context(|| format!("cannot create {at}"))?;
    let c = |text: &str| CString::new(text).context("a path with NUL");
    let [source, kind_c, at_c, options] = [c(source)?, c(kind)?, c(at)?, c(options)?];
    // SAFETY: all are strings that end with NUL and outlive the call.
    let mounted = unsafe {
        libc::mount(
            source.as_ptr(),
            at_c.as_ptr(),
            kind_c.as_ptr(),
            0,
            options.as_ptr().cast(),
        )
    };
    match mounted {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error())
            .with_context(|| format!("cannot mount {kind} on {at}")),
    }
}

/// Loads a kernel module from a file.
pub fn load_module(path: &str, parameters: &str) -> Result<()> {
    let image = fs::read(path).with_context(|| format!("cannot read {path}"))?;
    let parameters = CString::new(parameters).context("parameters with NUL")?;
    // SAFETY: the kernel reads as much of the image as it is told.
    let loaded = unsafe {
        libc::syscall(
            libc::SYS_init_module,
            image.as_ptr(),
            image.len(),
            parameters.as_ptr(),
        )
    };
    match loaded {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()).with_context(|| format!("cannot load {path}")),
    }
}
