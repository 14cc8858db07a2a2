//! Which processes share their memory, asked of kcmp(2) (kernel/kcmp.c): for kernels without BTF.

use std::io;

use super::{rss, stat};

/// Comparisons of one look, each of which takes a microsecond or two.
const MOST_COMPARED: usize = 1 << 20;

/// The groups of processes that are on one address space, of which one at least is a target.
///
/// # Errors
/// One sentence on why it can't be told.
pub fn sharers(targets: &[u32]) -> Result<Vec<Vec<u32>>, String> {
    let processes: Vec<(u32, u32)> = std::fs::read_dir("/proc")
        .map_err(|error| format!("/proc: {error}"))?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, thread_with_memory(pid)?)))
        .collect();
    if processes.len().saturating_mul(targets.len()) > MOST_COMPARED {
        return Err("there are too many processes to compare".to_owned());
    }
    let mut groups: Vec<Vec<u32>> = Vec::new();
    for target in targets {
        if groups.iter().any(|group| group.contains(target)) {
            continue;
        }
        let Some((_, own)) = processes.iter().find(|(pid, _)| pid == target) else {
            continue;
        };
        let mut group = Vec::new();
        for (pid, thread) in &processes {
            match share_memory(*own, *thread) {
                Ok(true) => group.push(*pid),
                Ok(false) => {}
                Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
                // It may not be looked into, but how large it is anybody may know.
                Err(error)
                    if error.kind() == io::ErrorKind::PermissionDenied
                        && differ_in_size(*target, *pid) => {}
                Err(error) => return Err(format!("kcmp: {error}")),
            }
        }
        if group.len() > 1 {
            groups.push(group);
        }
    }
    Ok(groups)
}

/// The first thread of a process that has memory: one that has ended has none, and would be equal
/// to all others that have ended.
fn thread_with_memory(pid: u32) -> Option<u32> {
    let first = stat::read(pid).ok()?;
    if first.is_kernel_thread() {
        return None;
    }
    if !matches!(first.state, 'Z' | 'X' | 'x') {
        return Some(pid);
    }
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    threads
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .find(|tid| stat::read(*tid).is_ok_and(|stat| !matches!(stat.state, 'Z' | 'X' | 'x')))
}

/// Whether two processes were of different size while the first did not change its own.
fn differ_in_size(target: u32, other: u32) -> bool {
    let size = |pid| rss::read(pid).ok().map(|sizes| sizes.virtual_bytes);
    let (before, others, after) = (size(target), size(other), size(target));
    before == after
        && before
            .zip(others)
            .is_some_and(|(own, others)| own != others)
}

fn share_memory(one: u32, other: u32) -> io::Result<bool> {
    // include/uapi/linux/kcmp.h
    const KCMP_VM: libc::c_int = 1;
    // SAFETY: the call takes integers only.
    match unsafe { libc::syscall(libc::SYS_kcmp, one, other, KCMP_VM, 0, 0) } {
        0 => Ok(true),
        1.. => Ok(false),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_shares_its_memory_with_itself_only() {
        let own = std::process::id();
        match share_memory(own, own) {
            Ok(same) => assert!(same),
            Err(error) => {
                println!("NOT RUN: kcmp: {error}");
                return;
            }
        }
        let parent = std::os::unix::process::parent_id();
        // It may be another user's.
        if let Ok(same) = share_memory(own, parent) {
            assert!(!same);
        }
    }
}
