//! Loads and attaches everything for a moment, to see what works here.

use aya::Btf;

use super::load::load;
use super::{FaultSource, Options, attach, attach_faults, in_sight_of_tracefs};
use crate::kernel::Kernel;

/// What works when it is really loaded, attached and taken off again.
pub struct Tried {
    /// Every rung of the ladder.
    pub fault_sources: Vec<(&'static str, Result<(), String>)>,
    /// Counting what the kernel takes.
    pub counting: Result<(), String>,
}

/// Tries everything, for `doctor`.
pub fn try_all() -> Tried {
    let options = Options {
        // A pid that no process has: the programs run and find nothing to record.
        pids: vec![u32::MAX],
        running: false,
        follow_forks: false,
        fault_source: None,
        ringbuf_bytes: 64 * 1024,
        log_level: 0,
        counts_pages: false,
        exact_bytes: false,
    };
    let explain = |error: anyhow::Error| format!("{error:#}");
    // With everything else, once: without the calls and the lifecycle no source is of use.
    let whole = attach(&options).map_err(explain);
    let (whole, counting) = match whole {
        // Its own pages are as good as any.
        Ok((mut attached, _)) => {
            let counting = attached.count_pages(std::process::id());
            (Ok(()), counting.map(drop).map_err(explain))
        }
        Err(error) => (Err(error.clone()), Err(error)),
    };
    let kernel = Kernel::running().unwrap_or_default();
    let fault_sources = FaultSource::ladder(&kernel)
        .into_iter()
        .map(|source| {
            let alone = || {
                let mut ebpf = load(&options)?.ebpf;
                let btf = Btf::from_sys_fs().ok();
                attach_faults(&mut ebpf, Some(source), &kernel, btf.as_ref()).map(drop)
            };
            let result = whole
                .clone()
                .and_then(|()| in_sight_of_tracefs(alone).map_err(explain));
            (source.name(), result)
        })
        .collect();
    Tried {
        fault_sources,
        counting,
    }
}
