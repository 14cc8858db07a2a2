//! The capabilities of this process, and which of those that tracing wants are missing.

use std::io;

use crate::proc::{namespace, status};

// The numbers are those of include/uapi/linux/capability.h.
/// Reads what belongs to other users' processes in /proc.
pub const SYS_PTRACE: u32 = 19;
/// Mounts, and before Linux 5.8 all of BPF and perf.
pub const SYS_ADMIN: u32 = 21;
/// Raises RLIMIT_MEMLOCK.
pub const SYS_RESOURCE: u32 = 24;
/// Attaches to tracepoints and lets BPF read kernel memory (Linux 5.8).
pub const PERFMON: u32 = 38;
/// Loads BPF (Linux 5.8).
pub const BPF: u32 = 39;

/// A set of capabilities that count for the whole machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caps(u64);

impl Caps {
    /// The effective ones of this process; none of them in a nested user namespace, where they do not reach the kernel.
    ///
    /// # Errors
    /// Those of reading /proc/self/status.
    pub fn effective() -> io::Result<Self> {
        let bits = status::read_self()?.effective_caps.unwrap_or(0);
        let counts = namespace::in_initial_user_namespace();
        Ok(Self(if counts { bits } else { 0 }))
    }

    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    pub fn has(self, capability: u32) -> bool {
        1u64.checked_shl(capability)
            .is_some_and(|bit| self.0 & bit != 0)
    }

    pub fn can_load(self) -> bool {
        self.has(BPF) || self.has(SYS_ADMIN)
    }

    pub fn can_attach(self) -> bool {
        self.has(PERFMON) || self.has(SYS_ADMIN)
    }

    pub fn can_mount(self) -> bool {
        self.has(SYS_ADMIN)
    }

    pub fn can_read_others(self) -> bool {
        self.has(SYS_PTRACE)
    }

    /// The names of what loading and attaching want and this process has not.
    pub fn missing_to_trace(self) -> Vec<&'static str> {
        let mut missing = Vec::new();
        if !self.can_load() {
            missing.push("CAP_BPF");
        }
        if !self.can_attach() {
            missing.push("CAP_PERFMON");
        }
        missing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caps(list: &[u32]) -> Caps {
        Caps::from_bits(list.iter().map(|cap| 1 << cap).sum())
    }

    #[test]
    fn sys_admin_stands_for_bpf_and_perfmon_but_not_for_ptrace() {
        let admin = caps(&[SYS_ADMIN]);
        assert!(admin.missing_to_trace().is_empty() && admin.can_mount());
        assert!(!admin.can_read_others());
        let minimal = caps(&[BPF, PERFMON]);
        assert!(minimal.missing_to_trace().is_empty() && !minimal.can_mount());
    }

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(
            Caps::default().missing_to_trace(),
            ["CAP_BPF", "CAP_PERFMON"]
        );
        assert_eq!(caps(&[BPF]).missing_to_trace(), ["CAP_PERFMON"]);
        assert!(!Caps::from_bits(u64::MAX).has(64));
    }

    #[test]
    fn the_capabilities_of_this_process_can_be_read() {
        Caps::effective().unwrap();
    }
}
