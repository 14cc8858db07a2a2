//! The checks of what the kernel offers and lets this user do.

use super::Check;
use super::own_file::{GIVE_TO_GROUP, OwnFile, WHY_GROUP, own_file};
use crate::kernel::caps::{self, Caps};
use crate::kernel::tracefs::{self, TracefsError, with_tracefs};
use crate::kernel::{BTF_PATH, Kernel, Lockdown, Version, has_btf, lockdown, memlock};
use crate::proc::namespace::{self, PidNamespace};
use crate::proc::read_word;
use crate::units::Bytes;

/// All of them, of this machine.
pub(super) fn checks() -> Vec<Check> {
    let kernel = Kernel::running().unwrap_or(Kernel {
        release: "unknown".to_owned(),
        machine: "unknown".to_owned(),
        ..Kernel::default()
    });
    let caps = Caps::effective().unwrap_or_default();
    let mounted = tracefs::root().is_some();
    vec![
        version(&kernel),
        architecture(&kernel.machine),
        capabilities(caps, namespace::in_initial_user_namespace()),
        other_users(caps),
        own_file(OwnFile::read()),
        lockdown_mode(lockdown()),
        btf(has_btf()),
        tracefs_mount(mounted, with_tracefs(|| ())),
        pid_namespace(namespace::own().ok(), namespace::proc_is_ours()),
        locked_memory(kernel.version, memlock::limit(), caps),
        launching(
            read_word("/proc/sys/kernel/yama/ptrace_scope")
                .ok()
                .as_deref(),
        ),
    ]
}

pub(super) fn version(kernel: &Kernel) -> Check {
    let detail = format!(
        "Linux {}; {} or newer is needed",
        kernel.release,
        Version::MINIMUM
    );
    if kernel.version >= Version::MINIMUM {
        Check::ok("kernel", detail)
    } else {
        Check::no("kernel", detail).advise("run memtrace on a newer kernel")
    }
}

pub(super) fn architecture(machine: &str) -> Check {
    match machine {
        "x86_64" => Check::ok("architecture", "x86_64: every page fault has a tracepoint"),
        _ => Check::no(
            "architecture",
            format!("{machine}: page faults are not supported here yet"),
        )
        .advise("run memtrace on x86_64"),
    }
}

pub(super) fn capabilities(caps: Caps, initial_user_namespace: bool) -> Check {
    let missing = caps.missing_to_trace();
    if missing.is_empty() {
        return Check::ok(
            "capabilities",
            "CAP_BPF and CAP_PERFMON (or CAP_SYS_ADMIN) are there",
        );
    }
    let check = Check::no(
        "capabilities",
        format!("missing: {}", missing.join(" and ")),
    );
    if initial_user_namespace {
        check.advise(format!(
            "run memtrace with sudo; or let one group run it without (one group only, since {WHY_GROUP}): {GIVE_TO_GROUP}"
        ))
    } else {
        check.advise("those of a user namespace (a rootless container) do not count: run memtrace on the host")
    }
}

pub(super) fn other_users(caps: Caps) -> Check {
    if caps.can_read_others() {
        return Check::ok(
            "other_users",
            "CAP_SYS_PTRACE is there: processes of every user can be read",
        );
    }
    Check::note(
        "other_users",
        "CAP_SYS_PTRACE is missing: processes of other users have no file names, and on older kernels no mappings and LazyFree",
    )
    .advise("run memtrace with sudo")
}

pub(super) fn lockdown_mode(mode: Lockdown) -> Check {
    match mode {
        Lockdown::Off => Check::ok("lockdown", "off"),
        Lockdown::Integrity => Check::ok("lockdown", "integrity, which lets tracing work"),
        Lockdown::Confidentiality => Check::no(
            "lockdown",
            "confidentiality: BPF may not read kernel memory, and tracefs and perf are closed",
        )
        .advise("boot with lockdown=integrity"),
        Lockdown::Unknown => Check::ok("lockdown", "the kernel reports none"),
    }
}

pub(super) fn btf(present: bool) -> Check {
    if present {
        return Check::ok("btf", format!("{BTF_PATH} is there"));
    }
    Check::note(
        "btf",
        "the kernel has none (CONFIG_DEBUG_INFO_BTF): faults come from a source that costs a little more",
    )
}

pub(super) fn tracefs_mount(mounted: bool, usable: Result<(), TracefsError>) -> Check {
    match usable {
        Ok(()) if mounted => Check::ok("tracefs", "mounted"),
        Ok(()) => Check::ok(
            "tracefs",
            "not mounted; memtrace mounts it for one thread of its own, unseen by others",
        ),
        Err(error) => Check::no("tracefs", error.to_string()).advise(error.advice()),
    }
}

pub(super) fn pid_namespace(own: Option<PidNamespace>, proc_is_ours: bool) -> Check {
    if !proc_is_ours {
        return Check::no(
            "pid_namespace",
            "/proc shows the pids of another namespace than memtrace's own",
        )
        .advise("mount -t proc proc /proc in this namespace (unshare --mount-proc)");
    }
    match own {
        Some(PidNamespace { initial: true, .. }) => {
            Check::ok("pid_namespace", "the machine's first: every process can be traced")
        }
        Some(_) => Check::note(
            "pid_namespace",
            "a nested one (a container): pids are those of this namespace, and processes outside cannot be traced",
        )
        .advise("to trace others, run memtrace on the host, or in a container with its pid namespace (--pid=host)"),
        None => Check::no("pid_namespace", "/proc/self/ns/pid cannot be read").advise("mount -t proc proc /proc"),
    }
}

pub(super) fn locked_memory(kernel: Version, limit: Option<u64>, caps: Caps) -> Check {
    if kernel >= Version::NO_MEMLOCK {
        return Check::ok(
            "memlock",
            "no matter: BPF is not charged to it since Linux 5.11",
        );
    }
    match limit {
        None => Check::ok("memlock", "not limited"),
        Some(_) if caps.has(caps::SYS_RESOURCE) => {
            Check::ok("memlock", "memtrace lifts the limit for itself")
        }
        Some(bytes) => Check::note(
            "memlock",
            format!(
                "limited to {}, which BPF is charged to before Linux 5.11",
                Bytes(bytes)
            ),
        )
        .advise("ulimit -l unlimited, or a smaller --ringbuf-size"),
    }
}

/// Yama's scope 3 forbids ptrace(2) to everyone (security/yama/yama_lsm.c).
pub(super) fn launching(ptrace_scope: Option<&str>) -> Check {
    if ptrace_scope == Some("3") {
        return Check::no(
            "launching",
            "kernel.yama.ptrace_scope is 3: a command behind -- cannot be stopped at its first instruction",
        )
        .advise("start it yourself and give its pid to -p; the setting can be undone by a reboot only");
    }
    Check::ok(
        "launching",
        "a command behind -- can be stopped at its first instruction",
    )
}
