//! Everything in the checkout that decides the object's bytes, hashed in one place.
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::lock::Lock;
use super::recipe::PACKAGE;
use super::workspace::Workspace;

/// The inputs by name, so that a difference can be named too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inputs {
    /// SHA-256 of each file of the package, by its path in the checkout.
    pub sources: BTreeMap<String, String>,
    /// Checksum of each package of the lock file that the programs are built from, by name and
    /// version. Only these: another dependency of the userspace side does not concern the object.
    pub dependencies: BTreeMap<String, String>,
    /// What the package takes over from the workspace's Cargo.toml.
    pub workspace: BTreeMap<String, String>,
}

impl Inputs {
    pub fn read(root: &Path) -> Result<Self> {
        Ok(Self {
            sources: sources(root)?,
            dependencies: Lock::read(root)?.closure()?,
            workspace: Workspace::read(root)?.inherited_by(root)?,
        })
    }

    /// One line for each input in which `self`, the checkout, differs from the recorded ones.
    pub fn differences(&self, recorded: &Self) -> Vec<String> {
        let mut lines = compare("", &self.sources, &recorded.sources);
        lines.extend(compare(
            "Cargo.lock: ",
            &self.dependencies,
            &recorded.dependencies,
        ));
        lines.extend(compare(
            "Cargo.toml: ",
            &self.workspace,
            &recorded.workspace,
        ));
        lines
    }
}

fn compare(
    prefix: &str,
    here: &BTreeMap<String, String>,
    recorded: &BTreeMap<String, String>,
) -> Vec<String> {
    let names: BTreeSet<&String> = here.keys().chain(recorded.keys()).collect();
    names
        .into_iter()
        .filter_map(|name| match (here.get(name), recorded.get(name)) {
            (Some(a), Some(b)) if a == b => None,
            (Some(_), Some(_)) => Some(format!("{prefix}{name} has changed")),
            (Some(_), None) => Some(format!("{prefix}{name} is new")),
            _ => Some(format!("{prefix}{name} is gone")),
        })
        .collect()
}

pub fn sha256(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut hex = String::new();
    for byte in Sha256::digest(bytes) {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

fn sources(root: &Path) -> Result<BTreeMap<String, String>> {
    let package = root.join(PACKAGE);
    let mut files = vec![package.join("Cargo.toml")];
    // A build script would decide the bytes as well, so one that appears is hashed.
    files.extend(Some(package.join("build.rs")).filter(|path| path.exists()));
    collect(&package.join("src"), &mut files)?;
    files
        .into_iter()
        .map(|path| {
            let name = path
                .strip_prefix(root)
                .unwrap_or(&path)
                .to_string_lossy()
                .into_owned();
            Ok((name, sha256(&read(&path)?)))
        })
        .collect()
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))?;
    for entry in entries {
        let path = entry
            .with_context(|| format!("cannot list {}", dir.display()))?
            .path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            // Editors leave other files here while somebody works.
            files.push(path);
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs(sources: &[(&str, &str)]) -> Inputs {
        let sources = sources.iter();
        Inputs {
            sources: sources
                .map(|(name, hash)| ((*name).into(), (*hash).into()))
                .collect(),
            dependencies: BTreeMap::new(),
            workspace: BTreeMap::new(),
        }
    }

    #[test]
    fn every_input_that_changed_came_or_went_is_named() {
        let recorded = inputs(&[("gone.rs", "1"), ("kept.rs", "2"), ("other.rs", "3")]);
        let here = inputs(&[("kept.rs", "2"), ("new.rs", "4"), ("other.rs", "5")]);
        assert_eq!(
            here.differences(&recorded),
            ["gone.rs is gone", "new.rs is new", "other.rs has changed"]
        );
    }

    #[test]
    fn the_hash_is_the_usual_one() {
        let of_nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(sha256(b""), of_nothing);
    }
}
