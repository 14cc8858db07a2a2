//! Larger folios of one size, on for programs that ask for them as long as a guard lives.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

const SETTINGS: &str = "/sys/kernel/mm/transparent_hugepage";
/// The size that every kernel with huge pages has.
const HUGE_KILOBYTES: u32 = 2048;

/// The machine's setting, which is as it was before once this is dropped.
pub struct HugePages {
    path: PathBuf,
    before: String,
    /// Locked, so that no other test changes the setting meanwhile, of this run or of another.
    _lock: File,
}

/// Where a size is set: each has its own file since Linux 6.8 (mm/huge_memory.c:thpsize_create);
/// before there is one size. None where this kernel does not have it.
pub fn setting(kilobytes: u32) -> Option<PathBuf> {
    let own = format!("{SETTINGS}/hugepages-{kilobytes}kB/enabled");
    let only = format!("{SETTINGS}/enabled");
    let usual = (kilobytes == HUGE_KILOBYTES).then_some(only);
    let mut paths = [Some(own), usual].into_iter().flatten().map(PathBuf::from);
    paths.find(|path| path.exists())
}

impl HugePages {
    /// Has the kernel give folios of this size where MADV_HUGEPAGE asks for them.
    pub fn of(kilobytes: u32) -> Self {
        let path = setting(kilobytes).expect("it was asked for as a need");
        let lock = File::open(&path).expect("it is there");
        // SAFETY: the descriptor is open for as long as the lock is wanted.
        assert_eq!(unsafe { libc::flock(lock.as_raw_fd(), libc::LOCK_EX) }, 0);
        let before = chosen(&path);
        set(&path, "madvise");
        Self {
            path,
            before,
            _lock: lock,
        }
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        set(&self.path, &self.before);
    }
}

/// Of `always [madvise] never`, the one in brackets.
fn chosen(path: &Path) -> String {
    let all = fs::read_to_string(path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    let word = all.split(['[', ']']).nth(1);
    word.expect("one is chosen").to_owned()
}

fn set(path: &Path, word: &str) {
    fs::write(path, word).unwrap_or_else(|error| panic!("{path:?}: {error}"));
}
