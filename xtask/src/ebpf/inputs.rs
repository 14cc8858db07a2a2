//! Everything in the checkout that decides the object's bytes, hashed in one place.
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::recipe::PACKAGE;

/// A helper of build scripts that prints cfg flags and passes nothing else on, so neither it nor
/// the many crates that it alone needs can change the object.
const BUILD_HELPER: &str = "aya-build";

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
            dependencies: dependencies(root)?,
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

#[derive(Deserialize)]
struct Lock {
    package: Vec<Locked>,
}

#[derive(Deserialize)]
struct Locked {
    name: String,
    version: String,
    checksum: Option<String>,
    #[serde(default)]
    dependencies: Vec<String>,
}

/// Walks Cargo.lock from the eBPF package; it names a dependency by its version too where two
/// versions of one package are locked.
fn dependencies(root: &Path) -> Result<BTreeMap<String, String>> {
    let path = root.join("Cargo.lock");
    let lock: Lock = parse(&path)?;
    let mut found = BTreeMap::new();
    let mut todo = vec![PACKAGE.to_owned()];
    while let Some(wanted) = todo.pop() {
        let mut words = wanted.split(' ');
        let (name, version) = (words.next().unwrap_or_default(), words.next());
        if name == BUILD_HELPER {
            continue;
        }
        let locked = lock
            .package
            .iter()
            .find(|it| it.name == name && version.is_none_or(|version| it.version == version))
            .ok_or_else(|| {
                anyhow!(
                    "{} does not lock {wanted}; run `cargo check`",
                    path.display()
                )
            })?;
        let checksum = locked
            .checksum
            .clone()
            .unwrap_or_else(|| "in this checkout".to_owned());
        if found
            .insert(format!("{} {}", locked.name, locked.version), checksum)
            .is_none()
        {
            todo.extend(locked.dependencies.iter().cloned());
        }
    }
    // The package itself is hashed file by file, and its version does not reach the object.
    found.retain(|_, checksum| checksum != "in this checkout");
    Ok(found)
}

/// The workspace's Cargo.toml.
pub struct Workspace(toml::Table);

impl Workspace {
    pub fn read(root: &Path) -> Result<Self> {
        Ok(Self(parse(&root.join("Cargo.toml"))?))
    }

    pub fn rust_version(&self) -> Result<String> {
        let version = self
            .get(&["workspace", "package", "rust-version"])
            .and_then(|it| it.as_str());
        Ok(version
            .ok_or_else(|| anyhow!("Cargo.toml has no workspace.package.rust-version"))?
            .to_owned())
    }

    fn get(&self, keys: &[&str]) -> Option<&toml::Value> {
        let (first, rest) = keys.split_first()?;
        rest.iter()
            .try_fold(self.0.get(*first)?, |value, key| value.get(key))
    }

    /// The edition, and the pinned versions and features of the dependencies that the package
    /// takes from the workspace.
    fn inherited_by(&self, root: &Path) -> Result<BTreeMap<String, String>> {
        let package: toml::Table = parse(&root.join(PACKAGE).join("Cargo.toml"))?;
        let mut names = BTreeSet::new();
        dependency_names(&package, &mut names);
        let mut keys = vec![vec!["workspace", "package", "edition"]];
        keys.extend(
            names
                .iter()
                .map(|name| vec!["workspace", "dependencies", name.as_str()]),
        );
        let mut inherited = BTreeMap::new();
        for key in keys {
            if let Some(value) = self.get(&key) {
                inherited.insert(key.join("."), value.to_string());
            }
        }
        Ok(inherited)
    }
}

/// Collects the names in every table called `dependencies`, those under `target` included.
fn dependency_names(table: &toml::Table, names: &mut BTreeSet<String>) {
    for (key, value) in table {
        let Some(inner) = value.as_table() else {
            continue;
        };
        if key == "dependencies" || key == "build-dependencies" {
            names.extend(inner.keys().cloned());
        } else {
            dependency_names(inner, names);
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

fn parse<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("{} is not what was expected", path.display()))
}
