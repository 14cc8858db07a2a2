//! Which folios larger than a page this kernel may give memory (mm/huge_memory.c, include/linux/huge_mm.h).

use std::path::{Path, PathBuf};

use super::selected;
use crate::ledger::event::{FolioSizes, Folios};
use crate::proc::{meminfo, read_word, status};

const THP_PATH: &str = "/sys/kernel/mm/transparent_hugepage";

/// When a folio size may be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Always,
    /// Only where the program asked by MADV_HUGEPAGE.
    Madvise,
    Never,
    /// As the global switch says.
    Inherit,
}

impl Mode {
    fn parse(text: &str) -> Self {
        match selected(text) {
            Some("always") => Self::Always,
            Some("madvise") => Self::Madvise,
            Some("inherit") => Self::Inherit,
            // What cannot be read is not relied on to be off: the largest size makes bytes a lower bound.
            Some("never") => Self::Never,
            _ => Self::Always,
        }
    }
}

/// The machine's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thp {
    /// `None` where the kernel has no transparent huge pages at all.
    pub global: Option<Mode>,
    /// Each size in bytes with its mode (Linux 6.8); before that the PMD size alone, with the global mode.
    pub sizes: Vec<(u64, Mode)>,
    /// As in [`Folios`].
    pub huge_files: bool,
    pub large_shmem: bool,
    /// A read of memory that may get a huge page maps the huge zero page (use_zero_page).
    pub zero_page: bool,
}

impl Thp {
    /// Reads the settings in force.
    pub fn read() -> Self {
        Self::read_from(Path::new(THP_PATH))
    }

    fn read_from(path: &Path) -> Self {
        let Ok(global) = read_word(path.join("enabled")) else {
            return Self {
                global: None,
                sizes: Vec::new(),
                huge_files: may_have_huge_files(),
                large_shmem: false,
                zero_page: true,
            };
        };
        let mut shmem_sizes = Vec::new();
        let mut sizes: Vec<(u64, Mode)> = std::fs::read_dir(path)
            .into_iter()
            .flatten()
            .filter_map(|entry| {
                let entry = entry.ok()?;
                let bytes = size_of_name(entry.file_name().to_str()?)?;
                shmem_sizes.push(entry.path().join("shmem_enabled"));
                // Some sizes exist for shmem only and have no such file.
                let mode = read_word(entry.path().join("enabled")).ok()?;
                Some((bytes, Mode::parse(&mode)))
            })
            .collect();
        sizes.sort_unstable_by_key(|&(bytes, _)| bytes);
        if sizes.is_empty() {
            let pmd = read_word(path.join("hpage_pmd_size"));
            let pmd = pmd.ok().and_then(|text| text.parse().ok());
            // 2 MiB is the PMD size with 4 KiB pages, on every architecture that has them.
            sizes.push((pmd.unwrap_or(2 << 20), Mode::Inherit));
        }
        let zero_page = read_word(path.join("use_zero_page"));
        Self {
            global: Some(Mode::parse(&global)),
            sizes,
            huge_files: may_have_huge_files(),
            large_shmem: may_have_large_shmem(path, &shmem_sizes),
            zero_page: zero_page.is_ok_and(|word| word == "1"),
        }
    }

    /// Each size with `inherit` resolved (huge_mm.h:thp_vma_allowable_orders).
    fn resolved(&self) -> impl Iterator<Item = (u64, Mode)> + '_ {
        let global = self.global.unwrap_or(Mode::Never);
        self.sizes.iter().map(move |&(bytes, mode)| match mode {
            Mode::Inherit => (bytes, global),
            mode => (bytes, mode),
        })
    }

    /// Whether some size is given on advice only, so that it matters which mappings are advised.
    pub fn advice_matters(&self) -> bool {
        let (any, advised) = self.largest();
        advised > any
    }

    /// The folios of any mapping and of an advised one.
    fn folio_sizes(&self) -> (FolioSizes, FolioSizes) {
        let (mut any, mut advised) = (FolioSizes::NONE, FolioSizes::NONE);
        for (bytes, mode) in self.resolved() {
            if mode == Mode::Always {
                any = any.with(FolioSizes::one(bytes));
            }
            if mode != Mode::Never {
                advised = advised.with(FolioSizes::one(bytes));
            }
        }
        (any, advised)
    }

    /// The largest folio of any mapping and of an advised one, in bytes; 0 for none but base pages.
    fn largest(&self) -> (u64, u64) {
        let (any, advised) = self.folio_sizes();
        let largest = |sizes: FolioSizes| if sizes.is_none() { 0 } else { sizes.largest() };
        (largest(any), largest(advised))
    }

    /// As the ledger takes it, for a process that has (`Some(false)`) or has not turned huge pages off for itself.
    pub fn folios(&self, at_ns: u64, pid: u32, thp_enabled: Option<bool>) -> Folios {
        let (any, advised) = match thp_enabled {
            Some(false) => (FolioSizes::NONE, FolioSizes::NONE),
            _ => self.folio_sizes(),
        };
        Folios {
            at_ns,
            pid,
            any,
            advised,
            huge_files: self.huge_files,
            large_shmem: self.large_shmem,
            zero_page: self.zero_page,
        }
    }

    /// In a few words, for people.
    pub fn describe(&self) -> String {
        let Some(global) = self.global else {
            return "this kernel has none".to_owned();
        };
        let word = match global {
            Mode::Always => "always",
            Mode::Madvise | Mode::Inherit => "madvise",
            Mode::Never => "never",
        };
        let (any, advised) = self.largest();
        let kib = |bytes: u64| match bytes {
            0 => "base pages only".to_owned(),
            bytes => format!("folios up to {} KiB", bytes / 1024),
        };
        format!("{word}: {}; {} under MADV_HUGEPAGE", kib(any), kib(advised))
    }
}

/// The sizes that a process may get now: the machine's settings and its own prctl(PR_SET_THP_DISABLE).
pub fn folios(at_ns: u64, pid: u32) -> Folios {
    let enabled = status::read(pid).ok().and_then(|status| status.thp_enabled);
    Thp::read().folios(at_ns, pid, enabled)
}

/// Whether shared memory may have folios larger than a page, by the settings
/// (mm/shmem.c:shmem_allowable_huge_orders) or because there are some now.
fn may_have_large_shmem(path: &Path, sizes: &[PathBuf]) -> bool {
    let by_size = sizes.iter().filter_map(|path| read_word(path).ok());
    let global = read_word(path.join("shmem_enabled")).ok();
    let on = by_size
        .chain(global)
        .any(|text| !matches!(selected(&text), Some("never" | "inherit" | "deny")));
    // What can't be read is not relied on to be none.
    on || meminfo::huge_cache().is_none_or(|huge| huge.shmem_bytes > 0)
}

fn may_have_huge_files() -> bool {
    meminfo::huge_cache().is_none_or(|huge| huge.file_bytes > 0)
}

/// The size in a directory name such as `hugepages-64kB`, in bytes.
fn size_of_name(name: &str) -> Option<u64> {
    let kib: u64 = name
        .strip_prefix("hugepages-")?
        .strip_suffix("kB")?
        .parse()
        .ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const M2: u64 = 2 << 20;
    const K64: u64 = 64 << 10;

    fn thp(global: Mode, sizes: &[(u64, Mode)]) -> Thp {
        Thp {
            global: Some(global),
            sizes: sizes.to_vec(),
            huge_files: false,
            large_shmem: false,
            zero_page: true,
        }
    }

    #[test]
    fn inherited_sizes_follow_the_global_switch() {
        let sizes = [(K64, Mode::Never), (M2, Mode::Inherit)];
        assert_eq!(thp(Mode::Always, &sizes).largest(), (M2, M2));
        assert_eq!(thp(Mode::Madvise, &sizes).largest(), (0, M2));
        assert_eq!(thp(Mode::Never, &sizes).largest(), (0, 0));
    }

    #[test]
    fn all_sizes_that_are_on_count_and_not_only_the_largest() {
        let sizes = [(K64, Mode::Always), (M2, Mode::Inherit)];
        let folios = thp(Mode::Always, &sizes).folios(1, 2, None);
        assert_eq!(folios.any.descending().collect::<Vec<_>>(), [M2, K64]);
    }

    #[test]
    fn a_size_switched_on_by_itself_needs_no_global_switch() {
        let sizes = [(K64, Mode::Always), (M2, Mode::Madvise)];
        let thp = thp(Mode::Never, &sizes);
        assert_eq!(thp.largest(), (K64, M2));
        assert!(thp.advice_matters());
    }

    #[test]
    fn advice_does_not_matter_where_all_or_none_get_large_folios() {
        let inherit = [(M2, Mode::Inherit)];
        assert!(!thp(Mode::Always, &inherit).advice_matters());
        assert!(!thp(Mode::Never, &inherit).advice_matters());
        assert!(thp(Mode::Madvise, &inherit).advice_matters());
    }

    #[test]
    fn a_process_that_turned_huge_pages_off_gets_base_pages() {
        let thp = thp(Mode::Always, &[(M2, Mode::Inherit)]);
        let off = thp.folios(1, 2, Some(false));
        assert!(off.any.is_none() && off.advised.is_none());
        for enabled in [None, Some(true)] {
            assert_eq!(thp.folios(1, 2, enabled).any.largest(), M2);
        }
    }

    #[test]
    fn a_kernel_without_huge_pages_gives_base_pages() {
        let thp = Thp::read_from(Path::new("/nonexistent"));
        assert!(thp.folios(1, 2, None).advised.is_none());
        assert!(!thp.advice_matters());
    }

    #[test]
    fn directory_names_give_sizes() {
        assert_eq!(size_of_name("hugepages-64kB"), Some(K64));
        for name in [
            "hugepages-kB",
            "hugepages-64",
            "khugepaged",
            "hugepages-18446744073709551615kB",
        ] {
            assert_eq!(size_of_name(name), None, "{name}");
        }
    }

    #[test]
    fn the_settings_of_this_machine_can_be_read() {
        let folios = folios(7, std::process::id());
        assert!(folios.advised.largest() >= folios.any.largest());
        assert!(!Thp::read().describe().is_empty());
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in ".{0,200}") {
            Mode::parse(&text);
            size_of_name(&text);
        }
    }
}
