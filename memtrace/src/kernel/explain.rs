//! Turns an error of loading or attaching into a sentence that names what is missing and what to do.

use std::error::Error;
use std::io;

use super::caps::Caps;
use super::{Kernel, Lockdown, Version, lockdown};
use crate::proc::namespace;

/// ENOTSUPP of include/linux/errno.h, which leaks out of bpf(2) and which libc has no name for.
const ENOTSUPP: i32 = 524;

/// Why nobody in a rootless container can trace.
pub const NESTED_USERS: &str = "the capabilities of a user namespace (a rootless container) do not reach BPF: run memtrace on the host";
/// Why nobody can trace on this kernel.
pub const LOCKED_DOWN: &str = "the kernel is locked down (confidentiality), which forbids tracing: boot with lockdown=integrity or without Secure Boot's lockdown";

/// What a refusal is explained by.
#[derive(Clone, Debug)]
pub struct Facts {
    pub kernel: Version,
    pub caps: Caps,
    pub lockdown: Lockdown,
    pub initial_user_namespace: bool,
}

impl Facts {
    /// Those of this process on this machine, now.
    pub fn gather() -> Self {
        Self {
            kernel: Kernel::running().map(|k| k.version).unwrap_or_default(),
            caps: Caps::effective().unwrap_or_default(),
            lockdown: lockdown(),
            initial_user_namespace: namespace::in_initial_user_namespace(),
        }
    }
}

/// One line: what was being done (`"loading the page-fault program"`), the error, and what is behind it.
///
/// The whole chain of the error is searched for the errno, so that aya's own errors can be passed
/// as they are; an `anyhow::Error` is passed by `as_ref()`. A verifier's log is not part of the
/// line: it is in the error itself.
pub fn explain_load_error(doing: &str, error: &(dyn Error + 'static)) -> String {
    explain_with(doing, error, &Facts::gather())
}

/// As [`explain_load_error`], of given facts.
pub fn explain_with(doing: &str, error: &(dyn Error + 'static), facts: &Facts) -> String {
    let chain: Vec<_> = std::iter::successors(Some(error), |&error| error.source()).collect();
    let errno = chain
        .iter()
        .find_map(|error| error.downcast_ref::<io::Error>()?.raw_os_error());
    let verifier_log = chain
        .iter()
        .find_map(|error| verifier_log(&error.to_string()));
    if let Some(log) = &verifier_log {
        log::debug!("{doing}: the verifier says:\n{log}");
    }
    let rejected = verifier_log.is_some();
    match errno {
        Some(errno) => {
            let name = io::Error::from_raw_os_error(errno);
            match reason(errno, rejected, facts) {
                Some(reason) => format!("{doing}: {name}: {reason}"),
                None => format!("{doing}: {}", told(&chain)),
            }
        }
        None => format!("{doing}: {}", told(&chain)),
    }
}

/// The chain's messages, each once: transparent errors repeat what they wrap.
fn told(chain: &[&(dyn Error + 'static)]) -> String {
    let mut parts: Vec<_> = chain
        .iter()
        .map(|error| first_line(&error.to_string()))
        .collect();
    parts.dedup();
    parts.join(": ")
}

/// aya puts the log behind these words, and leaves it empty where the refusal came before the verifier.
fn verifier_log(text: &str) -> Option<String> {
    let (_, log) = text.split_once("Verifier output:")?;
    let log = log.trim();
    (!log.is_empty()).then(|| log.to_owned())
}

/// A message without the log that may follow it.
fn first_line(text: &str) -> String {
    text.lines()
        .next()
        .unwrap_or_default()
        .chars()
        .take(300)
        .collect()
}

fn reason(errno: i32, rejected: bool, facts: &Facts) -> Option<String> {
    let old = facts.kernel < Version::MINIMUM;
    Some(match errno {
        // It takes helpers away: the verifier then refuses what is otherwise sound (kernel/trace/bpf_trace.c).
        _ if rejected && facts.lockdown == Lockdown::Confidentiality => LOCKED_DOWN.to_owned(),
        _ if rejected && errno != libc::EPERM && !old => {
            "the kernel's verifier refused the program; run with -vv for its log and report it with the kernel's version".to_owned()
        }
        libc::EPERM | libc::EACCES => refused(errno, facts),
        libc::ENOSYS => {
            "the kernel has no bpf(2) (CONFIG_BPF_SYSCALL), or a seccomp filter hides it".to_owned()
        }
        _ if old => too_old(facts),
        libc::E2BIG => {
            "the kernel takes no program or ring buffer of this size: try a smaller --ringbuf-size".to_owned()
        }
        libc::ENOMEM => {
            "there is not enough memory, or the memory limit of this cgroup is reached: try a smaller --ringbuf-size".to_owned()
        }
        libc::EINVAL => "this kernel does not know a feature that was asked for, or was built without it".to_owned(),
        libc::ENOENT | libc::ESRCH => {
            "this kernel does not have what was to be attached to, or its BTF does not name it".to_owned()
        }
        libc::EOPNOTSUPP | ENOTSUPP => {
            "this kind of attachment does not exist on this architecture or kernel (BPF trampolines)".to_owned()
        }
        libc::EBUSY | libc::EEXIST => "another tracer holds what was to be attached to".to_owned(),
        libc::EMFILE => "too many open files: raise the limit (ulimit -n)".to_owned(),
        _ => return None,
    })
}

fn too_old(facts: &Facts) -> String {
    format!(
        "Linux {} is too old: memtrace needs {} or newer",
        facts.kernel,
        Version::MINIMUM
    )
}

/// What stands behind a refusal: the first of these that holds.
fn refused(errno: i32, facts: &Facts) -> String {
    if !facts.initial_user_namespace {
        return NESTED_USERS.to_owned();
    }
    let missing = facts.caps.missing_to_trace();
    if !missing.is_empty() {
        return if facts.kernel < Version::new(5, 8) {
            format!("CAP_SYS_ADMIN is missing, and {}", too_old(facts))
        } else {
            format!(
                "{} missing: run memtrace with sudo; `memtrace doctor` names what it needs otherwise",
                match missing[..] {
                    [one] => format!("{one} is"),
                    _ => format!("{} are", missing.join(" and ")),
                }
            )
        };
    }
    if facts.lockdown == Lockdown::Confidentiality {
        return LOCKED_DOWN.to_owned();
    }
    if errno == libc::EPERM && facts.kernel < Version::NO_MEMLOCK {
        return "the limit of locked memory may be reached: raise it (ulimit -l unlimited)"
            .to_owned();
    }
    "the capabilities are there, so a seccomp filter or a security module (a container's profile, SELinux, AppArmor) forbids bpf(2) or perf_event_open(2)".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: u64 = u64::MAX;

    fn facts(kernel: (u32, u32), caps: u64, lockdown: Lockdown) -> Facts {
        Facts {
            kernel: Version::new(kernel.0, kernel.1),
            caps: Caps::from_bits(caps),
            lockdown,
            initial_user_namespace: true,
        }
    }

    fn explain(errno: i32, facts: &Facts) -> String {
        explain_with("loading", &io::Error::from_raw_os_error(errno), facts)
    }

    #[test]
    fn a_missing_capability_is_named_first() {
        let none = facts((6, 1), 0, Lockdown::Confidentiality);
        let text = explain(libc::EPERM, &none);
        assert!(
            text.starts_with("loading: ") && text.contains("CAP_BPF and CAP_PERFMON are missing"),
            "{text}"
        );
        let bpf_only = facts((6, 1), 1 << super::super::caps::BPF, Lockdown::Off);
        assert!(explain(libc::EACCES, &bpf_only).contains("CAP_PERFMON is missing"));
        let nested = Facts {
            initial_user_namespace: false,
            ..none
        };
        assert!(explain(libc::EPERM, &nested).contains("user namespace"));
    }

    #[test]
    fn then_lockdown_then_locked_memory_then_a_filter() {
        let text = |kernel, lockdown| explain(libc::EPERM, &facts(kernel, ROOT, lockdown));
        assert!(text((6, 1), Lockdown::Confidentiality).contains("locked down"));
        assert!(text((5, 10), Lockdown::Off).contains("ulimit -l"));
        assert!(text((6, 1), Lockdown::Integrity).contains("seccomp"));
    }

    #[test]
    fn sizes_features_and_age_each_have_their_sentence() {
        let new = facts((6, 1), ROOT, Lockdown::Off);
        assert!(explain(libc::ENOSYS, &new).contains("CONFIG_BPF_SYSCALL"));
        assert!(explain(libc::E2BIG, &new).contains("--ringbuf-size"));
        assert!(explain(libc::ENOMEM, &new).contains("--ringbuf-size"));
        assert!(explain(ENOTSUPP, &new).contains("architecture"));
        let old = facts((4, 19), ROOT, Lockdown::Off);
        assert!(explain(libc::EINVAL, &old).contains("4.19 is too old"));
        assert_eq!(
            explain(libc::EIO, &new),
            "loading: Input/output error (os error 5)"
        );
    }

    #[test]
    fn the_errno_is_found_behind_other_errors_and_the_log_left_out() {
        let root = io::Error::from_raw_os_error(libc::EACCES);
        let error = anyhow::Error::new(root)
            .context("the BPF_PROG_LOAD syscall returned EACCES. Verifier output: 0: R1=ctx()\nmath between map_value\n");
        let text = explain_with(
            "loading",
            error.as_ref(),
            &facts((6, 1), ROOT, Lockdown::Off),
        );
        assert!(
            text.contains("verifier refused") && !text.contains("R1=ctx"),
            "{text}"
        );
    }

    #[test]
    fn an_error_without_errno_is_told_as_it_is() {
        let error = anyhow::anyhow!("inner").context("outer");
        assert_eq!(
            explain_with(
                "loading",
                error.as_ref(),
                &facts((6, 1), ROOT, Lockdown::Off)
            ),
            "loading: outer: inner"
        );
    }
}
