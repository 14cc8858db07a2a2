//! The pid namespace this process is in, as the kernel side needs it, and whether /proc shows that one.

use std::io;

use super::{stat_raw, status};

/// PROC_PID_INIT_INO of include/linux/proc_ns.h: the first pid namespace of every kernel.
const INITIAL_PID_NS: u64 = 0xEFFF_FFFC;
/// PROC_USER_INIT_INO, the first user namespace.
const INITIAL_USER_NS: u64 = 0xEFFF_FFFD;

/// A pid namespace as `bpf_get_ns_current_pid_tgid(dev, ino)` wants it named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PidNamespace {
    /// The device of nsfs in the kernel's own encoding, major << 20 | minor (kernel/bpf/helpers.c), not stat(2)'s.
    pub dev: u64,
    pub ino: u64,
    /// The machine's first one: `bpf_get_current_pid_tgid` gives the same pids.
    pub initial: bool,
}

/// The pid namespace of this process.
///
/// # Errors
/// Those of stat(2), where /proc is not mounted.
pub fn own() -> io::Result<PidNamespace> {
    let stat = stat_raw(c"/proc/self/ns/pid")?;
    Ok(PidNamespace {
        dev: kernel_dev(libc::major(stat.st_dev), libc::minor(stat.st_dev)),
        ino: stat.st_ino,
        initial: stat.st_ino == INITIAL_PID_NS,
    })
}

fn kernel_dev(major: u32, minor: u32) -> u64 {
    u64::from(major) << 20 | u64::from(minor)
}

/// Whether the kernel side can tell this process by its pid: in any namespace but the first,
/// `bpf_get_ns_current_pid_tgid` knows the tasks of just that one (kernel/bpf/helpers.c), and none
/// of a namespace below it. A process that can't be looked at is taken for one that can be told.
pub fn can_be_told(pid: u32) -> bool {
    let own_is_first = own().is_ok_and(|own| own.initial);
    own_is_first || !status::read(pid).is_ok_and(|status| status.ns_pids.len() > 1)
}

/// Whether the capabilities of this process count for the whole machine: those of a nested user namespace do not.
pub fn in_initial_user_namespace() -> bool {
    stat_raw(c"/proc/self/ns/user").is_ok_and(|stat| stat.st_ino == INITIAL_USER_NS)
}

/// Whether /proc shows the pids of this process's own namespace.
///
/// It does not after `unshare --pid` without `--mount-proc`, say: then every pid read here would
/// be one of another namespace.
pub fn proc_is_ours() -> bool {
    status::read_self().is_ok_and(|status| status.tgid == std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_device_is_encoded_as_in_the_kernel() {
        assert_eq!(kernel_dev(0, 4), 4);
        // stat(2) would give 0x100000 + 0x2c for this minor.
        assert_eq!(kernel_dev(0, 0x12c), 0x12c);
        assert_eq!(kernel_dev(8, 1), 0x80_0001);
    }

    #[test]
    fn this_process_is_in_a_namespace_that_its_proc_shows() {
        let namespace = own().unwrap();
        assert!(namespace.ino != 0);
        let link = std::fs::read_link("/proc/self/ns/pid").unwrap();
        assert_eq!(
            link.to_str(),
            Some(format!("pid:[{}]", namespace.ino).as_str())
        );
        assert!(proc_is_ours());
    }
}
