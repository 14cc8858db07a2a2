//! What the running kernel is and allows: its version, its BTF, lockdown, capabilities, tracefs and folio sizes.

pub mod btf;
pub mod caps;
pub mod explain;
pub mod folios;
pub mod format;
pub mod memlock;
pub mod tracefs;

use std::fmt;
use std::io;
use std::path::Path;

use crate::proc::read_word;

/// Where the kernel shows the types of its own structures.
pub const BTF_PATH: &str = "/sys/kernel/btf/vmlinux";

/// A version as far as features depend on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    pub major: u32,
    pub minor: u32,
}

impl Version {
    /// The oldest kernel that memtrace is tested on. BPF ring buffers came with 5.8, namespace-aware pids in 5.7.
    pub const MINIMUM: Self = Self::new(5, 10);
    /// MADV_FREE came (mm/madvise.c).
    pub const MADV_FREE: Self = Self::new(4, 5);
    /// BPF memory is charged to the memory cgroup, no longer to RLIMIT_MEMLOCK (kernel/bpf/syscall.c).
    pub const NO_MEMLOCK: Self = Self::new(5, 11);
    /// A tracepoint's programs may be preempted (kernel/trace/bpf_trace.c:__bpf_trace_run), other
    /// than a perf event's, which the classic tracepoints' are (include/trace/perf.h).
    pub const PREEMPTED_TRACEPOINTS: Self = Self::new(7, 0);

    pub const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor }
    }

    /// The version that a release such as `6.1.0-18-amd64` or `7.0-rc3` begins with.
    pub fn parse(release: &str) -> Option<Self> {
        let mut numbers = release.split(|c: char| !c.is_ascii_digit());
        Some(Self {
            major: numbers.next()?.parse().ok()?,
            minor: numbers.next()?.parse().ok()?,
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// The running kernel's name for itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kernel {
    /// As `uname -r` prints it.
    pub release: String,
    /// 0.0 where the release does not begin with a version.
    pub version: Version,
    /// As `uname -m` prints it: `x86_64`, `aarch64`.
    pub machine: String,
    /// It can preempt its own code, as `uname -v` tells.
    pub preemptible: bool,
}

impl Kernel {
    /// Asks uname(2).
    ///
    /// # Errors
    /// None that a Linux gives.
    pub fn running() -> io::Result<Self> {
        let mut name = std::mem::MaybeUninit::<libc::utsname>::uninit();
        // SAFETY: uname fills the structure it is given, for which there is room.
        if unsafe { libc::uname(name.as_mut_ptr()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call succeeded, so that the structure is filled.
        let name = unsafe { name.assume_init() };
        let release = text(&name.release);
        Ok(Self {
            version: Version::parse(&release).unwrap_or_default(),
            machine: text(&name.machine),
            preemptible: text(&name.version).contains("PREEMPT"),
            release,
        })
    }

    /// Whether a program on a raw tracepoint may be preempted. The kernel then leaves it out for
    /// whoever comes to the same tracepoint on that CPU before it goes on.
    pub fn preempts_raw_tracepoints(&self) -> bool {
        self.preemptible && self.version >= Version::PREEMPTED_TRACEPOINTS
    }
}

/// A C string in a fixed array.
fn text(chars: &[libc::c_char]) -> String {
    let bytes: Vec<u8> = chars
        .iter()
        .map(|&c| c.to_ne_bytes()[0])
        .take_while(|&b| b != 0)
        .collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Whether the kernel was locked down against its own root (security/lockdown/lockdown.c).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lockdown {
    Off,
    /// The kernel cannot be changed; tracing still works.
    Integrity,
    /// Nor can its memory be read: BPF reads, tracefs and perf are refused.
    Confidentiality,
    /// The kernel has no lockdown, or securityfs is not mounted to say so.
    Unknown,
}

/// The lockdown in force.
pub fn lockdown() -> Lockdown {
    read_word("/sys/kernel/security/lockdown")
        .map_or(Lockdown::Unknown, |text| parse_lockdown(&text))
}

/// The file lists the modes with the one in force in brackets: `none [integrity] confidentiality`.
fn parse_lockdown(text: &str) -> Lockdown {
    match selected(text) {
        Some("none") => Lockdown::Off,
        Some("integrity") => Lockdown::Integrity,
        Some("confidentiality") => Lockdown::Confidentiality,
        _ => Lockdown::Unknown,
    }
}

/// The word in brackets, which is the one in force in many files of /sys.
fn selected(text: &str) -> Option<&str> {
    text.split_ascii_whitespace()
        .find_map(|word| word.strip_prefix('[')?.strip_suffix(']'))
}

/// Whether the kernel shows its BTF.
pub fn has_btf() -> bool {
    Path::new(BTF_PATH).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_tracepoints_are_preempted_since_7_0_where_the_kernel_preempts_itself() {
        for (version, preemptible, preempts) in [
            (Version::new(6, 19), true, false),
            (Version::new(7, 0), true, true),
            (Version::new(7, 0), false, false),
            (Version::new(8, 1), true, true),
        ] {
            let kernel = Kernel {
                version,
                preemptible,
                ..Kernel::default()
            };
            assert_eq!(
                kernel.preempts_raw_tracepoints(),
                preempts,
                "{version} {preemptible}"
            );
        }
    }

    #[test]
    fn a_version_is_the_first_two_numbers_of_a_release() {
        for (release, version) in [
            ("6.18.44-fc-v595", Some(Version::new(6, 18))),
            ("5.10.0-28-amd64", Some(Version::new(5, 10))),
            ("7.0-rc3", Some(Version::new(7, 0))),
            ("5.4.17-2136.el8uek.x86_64", Some(Version::new(5, 4))),
            ("", None),
            ("linux", None),
            ("6", None),
            ("99999999999.1", None),
        ] {
            assert_eq!(Version::parse(release), version, "{release}");
        }
        assert!(Version::new(5, 9) < Version::MINIMUM && Version::new(6, 0) > Version::MINIMUM);
    }

    #[test]
    fn the_lockdown_in_force_is_the_one_in_brackets() {
        assert_eq!(
            parse_lockdown("[none] integrity confidentiality"),
            Lockdown::Off
        );
        assert_eq!(
            parse_lockdown("none [integrity] confidentiality"),
            Lockdown::Integrity
        );
        assert_eq!(
            parse_lockdown("none integrity [confidentiality]"),
            Lockdown::Confidentiality
        );
        assert_eq!(parse_lockdown(""), Lockdown::Unknown);
    }

    #[test]
    fn the_running_kernel_names_itself() {
        let kernel = Kernel::running().unwrap();
        assert!(kernel.release.starts_with(&kernel.version.to_string()));
        assert!(!kernel.machine.is_empty());
    }
}
