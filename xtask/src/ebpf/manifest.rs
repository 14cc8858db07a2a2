//! manifest.json beside the object: from what, with which flags and by which toolchain it was built.
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use super::inputs::{Inputs, sha256};
use super::recipe;
use super::toolchain::Identity;
use crate::paths;

pub const SCHEMA: u32 = 1;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub schema: u32,
    pub object: ObjectHash,
    pub inputs: Inputs,
    pub flags: Vec<String>,
    pub toolchain: Identity,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectHash {
    pub bytes: usize,
    pub sha256: String,
}

impl Manifest {
    pub fn new(object: &[u8], inputs: Inputs, toolchain: Identity) -> Self {
        Self {
            schema: SCHEMA,
            object: ObjectHash {
                bytes: object.len(),
                sha256: sha256(object),
            },
            inputs,
            flags: recipe::recorded_flags(),
            toolchain,
        }
    }

    pub fn read(root: &Path) -> Result<Self> {
        let path = paths::manifest(root);
        let text = fs::read_to_string(&path).with_context(|| {
            format!(
                "cannot read {}; `cargo xtask build-ebpf` writes it",
                path.display()
            )
        })?;
        let manifest: Self = serde_json::from_str(&text).with_context(|| {
            format!(
                "{} is of another form; `cargo xtask build-ebpf` writes it anew",
                path.display()
            )
        })?;
        if manifest.schema != SCHEMA {
            bail!(
                "{} has schema {}, not {SCHEMA}; `cargo xtask build-ebpf` writes it anew",
                path.display(),
                manifest.schema
            );
        }
        Ok(manifest)
    }

    pub fn to_json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// One line for each way in which the checkout differs from what the manifest records.
    pub fn stale(&self, root: &Path) -> Result<Vec<String>> {
        let mut lines = Inputs::read(root)?.differences(&self.inputs);
        if self.flags != recipe::recorded_flags() {
            lines.push("the build's flags, in xtask/src/ebpf/recipe.rs, have changed".to_owned());
        }
        let path = paths::object(root);
        let object = fs::read(&path).with_context(|| {
            format!(
                "cannot read {}; `cargo xtask build-ebpf` writes it",
                path.display()
            )
        })?;
        if sha256(&object) != self.object.sha256 {
            lines.push(
                "memtrace/bpf/memtrace.bpf.o is not the object that the manifest describes"
                    .to_owned(),
            );
        }
        Ok(lines)
    }
}
