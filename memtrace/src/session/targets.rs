//! Finds the running processes that are to be traced.

use anyhow::{anyhow, bail};

use crate::config::Target;
use crate::proc::handle::Handle;
use crate::proc::resolve::{Process, ResolveError, resolve};
use crate::proc::{namespace, stat};
use crate::say::say;

/// A process that was there before.
pub struct Running {
    pub process: Process,
    /// None where the kernel gives none: then its start time has to tell it from another.
    handle: Option<Handle>,
}

impl Running {
    /// Whether it lives: what was read of /proc by its pid up to now is its own.
    pub fn lives(&self) -> bool {
        match &self.handle {
            Some(handle) => handle.is_alive(),
            None => stat::read(self.process.pid)
                .is_ok_and(|stat| stat.start_ticks == self.process.start_ticks && !stat.is_dead()),
        }
    }
}

/// The processes that are named, each once; none where a command is to be launched.
///
/// One of several that can't be traced is told of and left out: `-p "$(pidof x)"` names what was
/// there a moment ago.
///
/// # Errors
/// One sentence on why none of them can be traced.
pub fn find(target: &Target) -> anyhow::Result<Vec<Running>> {
    if !namespace::proc_is_ours() {
        bail!(
            "/proc shows the pids of another pid namespace than memtrace's own: \
             mount -t proc proc /proc in this one (unshare --mount-proc)"
        );
    }
    let Target::Pids(pids) = target else {
        return Ok(Vec::new());
    };
    let mut found: Vec<Running> = Vec::new();
    let mut refused: Vec<String> = Vec::new();
    for &pid in pids {
        match traceable(pid) {
            Ok(running) => {
                if let Some(note) = &running.process.note {
                    say(note);
                }
                let pid = running.process.pid;
                if !found.iter().any(|known| known.process.pid == pid) {
                    found.push(running);
                }
            }
            Err(error) => refused.push(error.to_string()),
        }
    }
    if found.is_empty() {
        bail!("{}", refused.join("; "));
    }
    for why in refused {
        say(format_args!("{why}: the others are traced"));
    }
    Ok(found)
}

fn traceable(id: u32) -> anyhow::Result<Running> {
    let refuse = |error: ResolveError| anyhow!("{error}");
    let first = resolve(id).map_err(refuse)?;
    let pid = first.pid;
    let handle = Handle::open(pid).ok();
    // Once more, so that what is known is known of the one that is held.
    let process = Process {
        note: first.note,
        ..resolve(pid).map_err(refuse)?
    };
    if handle.as_ref().is_some_and(|handle| !handle.is_alive()) {
        return Err(refuse(ResolveError::Ended(pid)));
    }
    if !namespace::can_be_told(pid) {
        bail!(
            "process {pid} is in a pid namespace below memtrace's own, which is not the machine's first: \
             run memtrace on the host, or in that process's container"
        );
    }
    Ok(Running { process, handle })
}
