//! The machine's settings for huge pages, changed for a run and put back whatever happens.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

const HUGE_PAGES: &str = "/sys/kernel/mm/transparent_hugepage";

/// Which sizes a fault may bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sizes {
    /// As the machine has them.
    Untouched,
    /// Huge pages of 2 MiB where advised.
    Huge,
    /// Huge pages everywhere.
    HugeAlways,
    /// One smaller size in KiB where advised, and 2 MiB not.
    Folios(u32),
}

impl Sizes {
    /// The most small pages that one fault on private anonymous memory brings.
    pub fn most_pages(self) -> u64 {
        match self {
            Self::Untouched => 1,
            Self::Huge | Self::HugeAlways => 512,
            Self::Folios(kib) => u64::from(kib / 4),
        }
    }
}

/// A setting that was changed; dropping it puts the old one back.
struct Changed {
    path: PathBuf,
    old: String,
    new: String,
}

/// All that were changed, and the lock under which they stand.
pub struct Settings {
    changed: Vec<Changed>,
    /// Closing it lets the next one go on, after the old values are back: fields go after `drop`.
    _lock: File,
}

impl Settings {
    /// Sets the machine up. Other testers wait meanwhile, unless neither changes anything.
    pub fn of(sizes: Sizes) -> io::Result<Self> {
        let root = Path::new(HUGE_PAGES);
        let lock = File::open(root.join("enabled"))?;
        match sizes {
            Sizes::Untouched => lock.lock_shared()?,
            _ => lock.lock()?,
        }
        let mut settings = Self {
            changed: Vec::new(),
            _lock: lock,
        };
        if !matches!(sizes, Sizes::Untouched) {
            // What khugepaged does meanwhile is in no step.
            settings.set(root.join("khugepaged/scan_sleep_millisecs"), "100000000")?;
        }
        match sizes {
            Sizes::Untouched => {}
            Sizes::Huge | Sizes::HugeAlways => {
                settings.set(root.join("hugepages-2048kB/enabled"), "inherit")?;
                let when = if sizes == Sizes::Huge {
                    "madvise"
                } else {
                    "always"
                };
                settings.set(root.join("enabled"), when)?;
            }
            Sizes::Folios(kib) => {
                settings.set(root.join("hugepages-2048kB/enabled"), "never")?;
                let file = format!("hugepages-{kib}kB/enabled");
                settings.set(root.join(file), "madvise")?;
            }
        }
        Ok(settings)
    }

    /// Whether all are still as they were set: others may set them too.
    pub fn still_hold(&self) -> bool {
        let mut all = self.changed.iter();
        all.all(|one| current(&one.path).is_ok_and(|now| now == one.new))
    }

    fn set(&mut self, path: PathBuf, new: &str) -> io::Result<()> {
        let old = current(&path)?;
        fs::write(&path, new)?;
        self.changed.push(Changed {
            path,
            old,
            new: new.to_owned(),
        });
        Ok(())
    }
}

/// A setting's value: the word in brackets, or all of it.
fn current(path: &Path) -> io::Result<String> {
    let text = fs::read_to_string(path)?;
    let chosen = text
        .split_once('[')
        .and_then(|(_, rest)| rest.split_once(']'));
    Ok(chosen.map_or(text.trim(), |(word, _)| word).to_owned())
}

impl Drop for Settings {
    fn drop(&mut self) {
        for one in self.changed.iter().rev() {
            if let Err(error) = fs::write(&one.path, &one.old) {
                eprintln!(
                    "cannot put {} back to {}: {error}",
                    one.path.display(),
                    one.old
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_the_word_in_brackets_or_all_of_it() {
        let path = std::env::temp_dir().join(format!("memtrace-setting-{}", std::process::id()));
        for (text, value) in [
            ("always [madvise] never\n", "madvise"),
            ("10000\n", "10000"),
        ] {
            fs::write(&path, text).expect("the directory is ours");
            assert_eq!(current(&path).expect("it was written"), value);
        }
        fs::remove_file(&path).expect("it was written");
    }
}
