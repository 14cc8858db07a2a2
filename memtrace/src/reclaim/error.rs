//! Why nothing was taken from a process, in words.

use std::fmt;

use super::work::Refusal;
use super::{balloon, cgroup};
use crate::proc::resolve::ResolveError;
use crate::units::Bytes;

/// Why nothing was taken from a process.
#[derive(Debug)]
pub(super) enum ReclaimError {
    Resolve(ResolveError),
    Ended(u32),
    Refused(u32, Refusal),
    Cgroup(u32, cgroup::Refusal),
    Balloon(u32, balloon::Refusal),
    /// There is room for swap, and what is resident of the mappings could go there.
    Swap {
        pid: u32,
        room_bytes: u64,
        other_bytes: u64,
    },
}

impl fmt::Display for ReclaimError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resolve(error) => error.fmt(f),
            Self::Ended(pid) => write!(f, "process {pid} ended before anything was taken"),
            Self::Refused(pid, why) => write!(f, "process {pid}: skipped: {why}"),
            Self::Cgroup(pid, why) => write!(f, "process {pid}: skipped: {why}"),
            // It may have taken something already.
            Self::Balloon(pid, why @ balloon::Refusal::Failed(_)) => {
                write!(f, "process {pid}: {why}")
            }
            Self::Balloon(pid, why) => write!(f, "process {pid}: skipped: {why}"),
            Self::Swap {
                pid,
                room_bytes,
                other_bytes,
            } => write!(
                f,
                "process {pid}: skipped: swap has {} free, and the kernel would move up to {} of \
                 memory in use there, out of the same mappings; --allow-swap accepts that, swapoff -a avoids it",
                Bytes(*room_bytes),
                Bytes(*other_bytes)
            ),
        }
    }
}

impl std::error::Error for ReclaimError {}
