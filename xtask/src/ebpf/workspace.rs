//! The workspace's Cargo.toml, as far as the eBPF build depends on it.
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use serde::de::DeserializeOwned;

use super::recipe::PACKAGE;

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
    pub fn inherited_by(&self, root: &Path) -> Result<BTreeMap<String, String>> {
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

/// Reads a TOML file.
pub fn parse<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("{} is not what was expected", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_of_a_target_are_found_and_those_of_tests_are_not() {
        let table = toml::from_str(
            r#"
            [dependencies]
            one = "1"
            [target.'cfg(target_arch = "bpf")'.dependencies]
            two = { workspace = true }
            [dev-dependencies]
            three = "3"
            "#,
        );
        let mut names = BTreeSet::new();
        dependency_names(&table.unwrap(), &mut names);
        assert_eq!(Vec::from_iter(names), ["one", "two"]);
    }
}
