//! The kernels of the matrix: which distribution packages they come from, fetched once and kept.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::process;
use crate::vm::apt::{Archive, Suite};
use crate::vm::protocol::Cgroup;

/// One kernel of the matrix.
#[derive(Debug, PartialEq, Eq)]
pub struct Kernel {
    /// As `--kernel` names it.
    pub name: &'static str,
    archive: Archive,
    suite: &'static str,
    /// A regular expression of apt's for the package with the kernel itself.
    image: &'static str,
    /// The beginning of the name of the package with its modules, where that is another one.
    modules: Option<(&'static str, &'static str)>,
    /// Whether it still has version 1 of the memory controller.
    cgroup_v1: bool,
    /// Where memtrace must take page faults from, and where it must without BTF.
    pub fault_source: &'static str,
    pub fault_source_without_btf: &'static str,
}

/// From the oldest that memtrace supports to the newest that the distribution has.
pub const MATRIX: [Kernel; 4] = [
    Kernel {
        name: "5.10",
        archive: Archive::Security,
        suite: "bullseye-security",
        image: r"^linux-image-5\.10\.[0-9.-]+-cloud-amd64$",
        modules: None,
        cgroup_v1: true,
        fault_source: "tp_btf",
        fault_source_without_btf: "raw_tp",
    },
    Kernel {
        name: "6.1",
        archive: Archive::Main,
        suite: "bookworm",
        image: r"^linux-image-6\.1\.[0-9.-]+-cloud-amd64$",
        modules: None,
        cgroup_v1: true,
        fault_source: "tp_btf",
        fault_source_without_btf: "raw_tp",
    },
    Kernel {
        name: "6.12",
        archive: Archive::Main,
        suite: "bookworm-backports",
        image: r"^linux-image-6\.12\.[0-9.]+\+deb12[0-9.]*-cloud-amd64$",
        modules: None,
        cgroup_v1: false,
        fault_source: "tp_btf",
        fault_source_without_btf: "raw_tp",
    },
    Kernel {
        // Whatever is newest there: 7.2 when this was written.
        name: "7.2",
        archive: Archive::Main,
        suite: "sid",
        image: r"^linux-binary-[0-9.]+\+deb[0-9.]+-cloud-amd64$",
        modules: Some(("linux-binary-", "linux-modules-")),
        cgroup_v1: false,
        fault_source: "tracepoint",
        fault_source_without_btf: "tracepoint",
    },
];

/// A kernel's files, unpacked.
#[derive(Clone, Debug)]
pub struct Files {
    pub image: PathBuf,
    /// The module for a disk in memory.
    pub ramdisk: PathBuf,
}

impl Kernel {
    pub fn named(name: &str) -> Result<&'static Self> {
        let found = MATRIX.iter().find(|kernel| kernel.name == name);
        found.with_context(|| {
            let names = MATRIX.map(|kernel| kernel.name).join(", ");
            format!("there is no kernel {name} in the matrix; it has {names}")
        })
    }

    /// Whether it is the oldest or the newest.
    pub fn is_at_an_end(&self) -> bool {
        [MATRIX.first(), MATRIX.last()].contains(&Some(self))
    }

    /// Version 1 of the memory controller, or again version 2 where there is no other.
    pub fn other_cgroup(&self) -> Cgroup {
        match self.cgroup_v1 {
            true => Cgroup::V1,
            false => Cgroup::V2,
        }
    }

    /// The kernel's files below `cache`, fetched unless they are there.
    pub fn fetch(&self, cache: &Path) -> Result<Files> {
        let dir = cache.join(self.name);
        let files = Files {
            image: dir.join("vmlinuz"),
            ramdisk: dir.join("brd.ko"),
        };
        // The image comes last, so that it stands for all.
        if !files.image.exists() {
            self.fetch_anew(&dir, &files)
                .with_context(|| format!("cannot get the kernel {}", self.name))?;
        }
        Ok(files)
    }

    fn fetch_anew(&self, dir: &Path, files: &Files) -> Result<()> {
        eprintln!("Fetching the kernel {} from {}", self.name, self.suite);
        let suite = Suite::update(self.archive, self.suite, &dir.join("apt"))?;
        let image = suite.newest(self.image)?;
        let mut packages = vec![image.clone()];
        if let Some((of_image, of_modules)) = self.modules {
            packages.push(image.replacen(of_image, of_modules, 1));
        }
        let unpacked = dir.join("unpacked");
        for package in packages {
            let file = suite.download(&package)?;
            process::run(
                process::tool("dpkg-deb", "dpkg")?
                    .arg("--extract")
                    .arg(&file)
                    .arg(&unpacked),
            )?;
        }
        let module = find(&unpacked, "brd.ko")?;
        fs::write(&files.ramdisk, unpressed(&module)?).context("cannot keep the module")?;
        let partial = files.image.with_extension("partial");
        fs::copy(find(&unpacked, "vmlinuz")?, &partial).context("cannot keep the kernel")?;
        // The rest of a package takes a hundred times the room.
        for folder in [unpacked, dir.join("apt")] {
            fs::remove_dir_all(&folder)
                .with_context(|| format!("cannot remove {}", folder.display()))?;
        }
        fs::rename(&partial, &files.image).context("cannot keep the kernel")
    }
}

/// The file below `folder` whose name begins so: versions and compressions follow.
fn find(folder: &Path, prefix: &str) -> Result<PathBuf> {
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder);
        let entries = entries.with_context(|| format!("cannot list {}", folder.display()))?;
        for entry in entries {
            let entry = entry.with_context(|| format!("cannot list {}", folder.display()))?;
            let kind = entry.file_type().context("a file's type")?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if entry.file_name().to_string_lossy().starts_with(prefix) {
                return Ok(entry.path());
            }
        }
    }
    bail!("its packages have no file {prefix}*; they may be laid out otherwise now");
}

/// A module's bytes: newer kernels have them compressed.
fn unpressed(module: &Path) -> Result<Vec<u8>> {
    if module.extension().is_some_and(|ext| ext == "xz") {
        return process::bytes(process::tool("xz", "xz-utils")?.arg("-dc").arg(module));
    }
    fs::read(module).with_context(|| format!("cannot read {}", module.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_is_found_by_its_name_and_an_unknown_one_is_told_the_names() {
        assert_eq!(Kernel::named("6.1").expect("it is one").suite, "bookworm");
        let error = Kernel::named("4.19").expect_err("it is none").to_string();
        assert!(error.contains("5.10, 6.1, 6.12, 7.2"), "{error}");
    }
}
