//! What a test needs of the machine, and what it says when it cannot run.

use std::env;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::area::advise;
use crate::{huge_pages, userfault};

/// What tracing takes (include/uapi/linux/capability.h).
const TRACING: [(u32, &str); 3] = [(19, "CAP_SYS_PTRACE"), (38, "CAP_PERFMON"), (39, "CAP_BPF")];

/// What process_madvise on another process takes.
const RECLAIMING: [(u32, &str); 2] = [(19, "CAP_SYS_PTRACE"), (23, "CAP_SYS_NICE")];

/// Something that a machine may lack.
#[derive(Clone, Copy, Debug)]
pub enum Need {
    /// The rights to load and attach BPF programs and to look at other processes.
    Tracing,
    /// The rights to look at other processes and to advise on their memory.
    Reclaiming,
    /// Leave to lock more memory than the usual limit, by which workloads with many threads
    /// populate their stacks.
    LockedMemory,
    /// The right to make mount namespaces and to mount in them.
    Mounting,
    /// A program on PATH, and the Debian package that has it.
    Program(&'static str, &'static str),
    /// A shared library, and the Debian package that has it.
    Library(&'static str, &'static str),
    /// Swap, and nothing else of the machine's that matters: what is in memory may go there.
    Swap,
    /// No swap, so that PAGEOUT takes nothing but what is lazily free.
    NoSwap,
    /// The kernel's BTF, without which typed tracepoints cannot be attached.
    Btf,
    /// That the kernel tells which pages reclaim takes, and where its counters lie.
    ReclaimCount,
    /// That the kernel tells when an exec begins, before it makes the first fault of the new image.
    PrepareExec,
    /// That each page fault after a fork is one that the kernel counts.
    CountedForks,
    /// That one mremap moves several mappings, and all calls before it that random programs make.
    MovesSeveral,
    /// That folios of so many kilobytes can be had, and the right to turn them on.
    HugePages(u32),
    /// A userfaultfd that also holds the kernel's own touches up.
    Userfaultfd,
    /// An advice value of madvise that this kernel must know, and its name.
    Advice(i32, &'static str),
}

/// Returns from the test, having said so, unless the machine has all that is listed.
#[macro_export]
macro_rules! needs {
    ($($need:expr),+ $(,)?) => {
        // The path of a local function begins with that of the test.
        fn here() {}
        if !$crate::needs::met(std::any::type_name_of_val(&here), &[$($need),+]) {
            return;
        }
    };
}

/// Whether all needs are met; says which one is not.
pub fn met(place: &str, needs: &[Need]) -> bool {
    let test = place.trim_end_matches("::here");
    needs.iter().all(|need| match need.lacking() {
        None => true,
        Some((why, remedy)) => {
            not_run(test, &why, &remedy);
            false
        }
    })
}

/// Says that a test did not run. Under MEMTRACE_TEST_ALL=1 every test must.
pub fn not_run(test: &str, why: &str, remedy: &str) {
    let line = format!("NOT RUN: {test}: {why}; {remedy}");
    println!("{line}");
    if let Some(path) = env::var_os("MEMTRACE_NOT_RUN") {
        let file = OpenOptions::new().create(true).append(true).open(&path);
        // In one write, for other tests append at the same time.
        let whole = format!("{line}\n");
        let written = file.and_then(|mut file| file.write_all(whole.as_bytes()));
        written.unwrap_or_else(|error| panic!("{}: {error}", Path::new(&path).display()));
    }
    let all = env::var_os("MEMTRACE_TEST_ALL").is_some_and(|value| value == "1");
    assert!(!all, "{line}");
}

impl Need {
    /// What is missing and how to get it.
    fn lacking(self) -> Option<(String, String)> {
        match self {
            Self::Tracing => no_capability(&TRACING),
            Self::Reclaiming => no_capability(&RECLAIMING),
            Self::LockedMemory => no_capability(&[(14, "CAP_IPC_LOCK")]),
            Self::Mounting => no_capability(&[(21, "CAP_SYS_ADMIN")]),
            Self::Program(name, package) => program(name).is_none().then(|| {
                let why = format!("no program {name}");
                (why, format!("apt-get install {package}"))
            }),
            Self::Library(name, package) => library(name).is_none().then(|| {
                let why = format!("no library {name}");
                (why, format!("apt-get install {package}"))
            }),
            Self::Swap => (!has_swap()).then(|| {
                let why = "the machine has no swap".to_owned();
                (why, "cargo xtask vm-test boots one that has".to_owned())
            }),
            Self::NoSwap => has_swap().then(|| {
                let why = "the machine has swap".to_owned();
                (why, "swapoff -a".to_owned())
            }),
            Self::Btf => no_btf(),
            Self::ReclaimCount => {
                no_btf().or_else(|| no_kernel_since(6, 2, "tells what reclaim takes"))
            }
            Self::PrepareExec => no_kernel_since(6, 12, "tells when an exec begins"),
            // There the kernel touches a page at a fork's end without a will to fault it in
            // (its restartable sequences), then again: BTF tells the first.
            Self::CountedForks => no_kernel_since(7, 0, "").map_or_else(no_btf, |_| None),
            Self::MovesSeveral => no_kernel_since(6, 17, "moves several mappings at once"),
            Self::HugePages(kilobytes) => no_huge_pages(kilobytes),
            Self::Userfaultfd => userfault::refusal().map(no_userfaultfd),
            Self::Advice(value, name) => (!known(value)).then(|| {
                let why = format!("this kernel does not know {name}");
                (why, "run on a newer kernel".to_owned())
            }),
        }
    }
}

/// A program's path.
pub fn program(name: &str) -> Option<PathBuf> {
    // A plain user's PATH may lack the directories where servers are.
    let path = env::var("PATH").unwrap_or_default() + ":/usr/local/sbin:/usr/sbin:/sbin";
    path.split(':')
        .map(|dir| Path::new(dir).join(name))
        .find(|path| path.is_file())
}

/// A shared library's path.
pub fn library(name: &str) -> Option<PathBuf> {
    let multiarch = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let dirs = multiarch.map(|entry| entry.path()).chain([
        PathBuf::from("/usr/lib"),
        PathBuf::from("/usr/lib64"),
        PathBuf::from("/usr/local/lib"),
    ]);
    dirs.map(|dir| dir.join(name)).find(|path| path.is_file())
}

/// Which of these capabilities this process lacks, if any.
fn no_capability(needed: &[(u32, &str)]) -> Option<(String, String)> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0);
    let missing: Vec<&str> = needed
        .iter()
        .filter(|(bit, _)| effective >> bit & 1 == 0)
        .map(|(_, name)| *name)
        .collect();
    let why = format!("no {}", missing.join(", "));
    (!missing.is_empty()).then(|| (why, "run the tests as root".to_owned()))
}

/// Below its heading, /proc/swaps has one line for each.
fn has_swap() -> bool {
    let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
    swaps.lines().nth(1).is_some()
}

fn no_userfaultfd(error: io::Error) -> (String, String) {
    let why = format!("no userfaultfd: {error}");
    let remedy = match error.raw_os_error() {
        Some(libc::ENOSYS) => "run on a kernel with CONFIG_USERFAULTFD=y",
        _ => "run the tests as root, or sysctl vm.unprivileged_userfaultfd=1",
    };
    (why, remedy.to_owned())
}

fn no_huge_pages(kilobytes: u32) -> Option<(String, String)> {
    let Some(path) = huge_pages::setting(kilobytes) else {
        let why = format!("this kernel has no folios of {kilobytes} KiB");
        let remedy = "run on Linux 6.8 or newer with CONFIG_TRANSPARENT_HUGEPAGE=y";
        return Some((why, remedy.to_owned()));
    };
    let error = OpenOptions::new().write(true).open(&path).err()?;
    let why = format!("{}: {error}", path.display());
    Some((why, "run the tests as root".to_owned()))
}

pub fn has_btf() -> bool {
    Path::new("/sys/kernel/btf/vmlinux").exists()
}

fn no_btf() -> Option<(String, String)> {
    (!has_btf()).then(|| {
        let why = "the kernel has no BTF".to_owned();
        (why, "run on one with CONFIG_DEBUG_INFO_BTF=y".to_owned())
    })
}

/// Where the kernel is older than the one that brought something.
fn no_kernel_since(major: u32, minor: u32, what: &str) -> Option<(String, String)> {
    (!is_since(major, minor)).then(|| {
        let why = format!("no Linux before {major}.{minor} {what}");
        (why, "run on a newer kernel".to_owned())
    })
}

/// Whether the kernel is of that version or newer.
pub fn is_since(major: u32, minor: u32) -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(|char: char| !char.is_ascii_digit());
    let mut number = || numbers.next().and_then(|digits| digits.parse().ok());
    let version: (u32, u32) = (number().unwrap_or(0), number().unwrap_or(0));
    version >= (major, minor)
}

/// Whether the kernel knows an advice, asked for no bytes at all: what it does not know it refuses
/// before it looks at the range (mm/madvise.c:do_madvise).
fn known(advice_value: i32) -> bool {
    advise(0, 0, advice_value) == 0
}
