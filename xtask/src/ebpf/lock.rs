//! The part of Cargo.lock that the eBPF programs are built from.
use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, anyhow};
use serde::Deserialize;

use super::recipe::PACKAGE;
use super::workspace::parse;

/// A helper of build scripts that prints cfg flags and passes nothing else on, so neither it nor
/// the many crates that it alone needs can change the object.
const BUILD_HELPER: &str = "aya-build";

#[derive(Deserialize)]
pub struct Lock {
    package: Vec<Locked>,
}

#[derive(Deserialize)]
struct Locked {
    name: String,
    version: String,
    /// Those of this checkout have none.
    checksum: Option<String>,
    #[serde(default)]
    dependencies: Vec<String>,
}

impl Lock {
    pub fn read(root: &Path) -> Result<Self> {
        parse(&root.join("Cargo.lock"))
    }

    /// The checksums of all packages that the eBPF package needs, by name and version.
    ///
    /// Packages of this checkout are left out: their files are hashed one by one, and their version
    /// does not reach the object.
    pub fn closure(&self) -> Result<BTreeMap<String, String>> {
        let mut found = BTreeMap::new();
        let mut todo = vec![PACKAGE];
        while let Some(wanted) = todo.pop() {
            let locked = self.find(wanted)?;
            let id = format!("{} {}", locked.name, locked.version);
            if locked.name != BUILD_HELPER && found.insert(id, &locked.checksum).is_none() {
                todo.extend(locked.dependencies.iter().map(String::as_str));
            }
        }
        let checksums = found.into_iter();
        Ok(checksums
            .filter_map(|(id, checksum)| Some((id, checksum.clone()?)))
            .collect())
    }

    /// `wanted` is a name; its version follows only where two versions of a package are locked.
    fn find(&self, wanted: &str) -> Result<&Locked> {
        let mut words = wanted.split(' ');
        let (name, version) = (words.next().unwrap_or_default(), words.next());
        let mut packages = self.package.iter();
        packages
            .find(|it| it.name == name && version.is_none_or(|version| it.version == version))
            .ok_or_else(|| {
                anyhow!("Cargo.lock has no {wanted}; `cargo check` brings it up to date")
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_ebpf_package_needs_counts_and_in_the_version_it_needs() {
        let lock: Lock = toml::from_str(
            r#"
            [[package]]
            name = "memtrace-ebpf"
            version = "0.1.0"
            dependencies = ["aya-build", "syn 2.0.0"]

            [[package]]
            name = "aya-build"
            version = "0.2.0"
            checksum = "a"
            dependencies = ["serde"]

            [[package]]
            name = "serde"
            version = "1.0.0"
            checksum = "b"

            [[package]]
            name = "syn"
            version = "1.0.0"
            checksum = "c"

            [[package]]
            name = "syn"
            version = "2.0.0"
            checksum = "d"
            "#,
        )
        .unwrap();
        let closure = lock.closure().unwrap();
        assert_eq!(
            Vec::from_iter(closure),
            [("syn 2.0.0".to_owned(), "d".to_owned())]
        );
    }
}
