//! Finds the running processes that are to be traced.

use anyhow::{anyhow, bail};

use crate::config::Target;
use crate::proc::namespace;
use crate::proc::resolve::{Process, resolve};
use crate::say::say;

/// The processes that are named, each once; none where a command is to be launched.
///
/// One of several that can't be traced is told of and left out: `-p "$(pidof x)"` names what was
/// there a moment ago.
///
/// # Errors
/// One sentence on why none of them can be traced.
pub fn find(target: &Target) -> anyhow::Result<Vec<Process>> {
    if !namespace::proc_is_ours() {
        bail!(
            "/proc shows the pids of another pid namespace than memtrace's own: \
             mount -t proc proc /proc in this one (unshare --mount-proc)"
        );
    }
    let Target::Pids(pids) = target else {
        return Ok(Vec::new());
    };
    let mut found: Vec<Process> = Vec::new();
    let mut refused: Vec<String> = Vec::new();
    for &pid in pids {
        match traceable(pid) {
            Ok(process) => {
                if let Some(note) = &process.note {
                    say(note);
                }
                if !found.iter().any(|known| known.pid == process.pid) {
                    found.push(process);
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

fn traceable(pid: u32) -> anyhow::Result<Process> {
    let process = resolve(pid).map_err(|error| anyhow!("{error}"))?;
    if !namespace::can_be_told(process.pid) {
        bail!(
            "process {} is in a pid namespace below memtrace's own, which is not the machine's first: \
             run memtrace on the host, or in that process's container",
            process.pid
        );
    }
    Ok(process)
}
