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

    /// Whatever faults from here on comes after every stamp that was taken before.
    pub fn end_epoch(&self) {
        // SAFETY: as above.
        let epoch = unsafe { AtomicU64::from_ptr(&raw mut (*self.0.at(0).as_ptr()).epoch) };
        epoch.fetch_add(1, Ordering::SeqCst);
    }

    /// No program that begins after this records anything.
    pub fn stop(&self) {
        // SAFETY: as above, of a u32.
        let stopped = unsafe { AtomicU32::from_ptr(&raw mut (*self.0.at(0).as_ptr()).stopped) };
        stopped.store(1, Ordering::SeqCst);
    }
}
