//! What userspace tells the running programs.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use aya::maps::Map;
use memtrace_ebpf::Control as Wire;

use super::mapped::Mapped;

pub struct Control(Mapped<Wire>);

impl Control {
    pub fn new(map: Map) -> anyhow::Result<Self> {
        Ok(Self(Mapped::new(map, 1)?))
    }

    /// Traces so many processes beside the constant one.
    pub fn follow(&self, processes: u64) {
        // SAFETY: an aligned u64 in memory that lives as long as `self`, changed atomically only.
        let followed = unsafe { AtomicU64::from_ptr(&raw mut (*self.0.at(0).as_ptr()).followed) };
        followed.fetch_add(processes, Ordering::SeqCst);
    }

    /// Traces one process less beside the constant one.
    pub fn unfollow(&self) {
        // SAFETY: as above.
        let followed = unsafe { AtomicU64::from_ptr(&raw mut (*self.0.at(0).as_ptr()).followed) };
        followed.fetch_sub(1, Ordering::SeqCst);
    }

    /// The process of the constant has ended: its pid may become another's.
    pub fn target_gone(&self) {
        // SAFETY: as above, of a u32.
        let gone = unsafe { AtomicU32::from_ptr(&raw mut (*self.0.at(0).as_ptr()).target_gone) };
        gone.store(1, Ordering::SeqCst);
    }

    /// Whatever faults from here on comes after every stamp that was taken before.
    pub fn end_epoch(&self) {
        // SAFETY: as above.
        let epoch = unsafe { AtomicU64::from_ptr(&raw mut (*self.0.at(0).as_ptr()).epoch) };
        epoch.fetch_add(1, Ordering::SeqCst);
    }

    /// No program that begins after this records anything.
    pub fn stop(&self) {
        // SAFETY: as above.
        let stopped = unsafe { AtomicU32::from_ptr(&raw mut (*self.0.at(0).as_ptr()).stopped) };
        stopped.store(1, Ordering::SeqCst);
    }
}
