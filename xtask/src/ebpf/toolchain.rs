//! The whole toolchain of the eBPF build, and the part of it that the manifest records.
use std::path::Path;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::inputs::Workspace;
use super::llvm::{self, Llvm};
use super::missing::MissingAll;
use super::recipe::LINKER_VERSION;
use super::rustc::{self, Rustc};

pub struct Toolchain {
    pub rustc: Rustc,
    pub llvm: Llvm,
}

/// What has to be equal for two builds to give equal bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub rustc: String,
    pub rustc_llvm: String,
    pub bpf_linker: String,
    pub bpf_linker_llvm: String,
}

impl Toolchain {
    /// Finds the toolchain; among several usable ones, the one of `wanted` is taken.
    pub fn find(root: &Path, wanted: Option<&Identity>) -> Result<Self> {
        let oldest = Workspace::read(root)?.rust_version()?;
        let mut missing = Vec::new();
        // Without a rustc the newest LLVM version to ask for is unknown; Debian 12 has 22.
        let mut rustc_major = 22;
        let rustc = match rustc::find_all(&oldest) {
            Ok(usable) => {
                let same = |it: &&Rustc| wanted.is_some_and(|wanted| it.version == wanted.rustc);
                let chosen = usable.iter().find(same).unwrap_or(&usable[0]).clone();
                rustc_major = chosen.llvm.major;
                Some(chosen)
            }
            Err(it) => {
                missing.push(it);
                None
            }
        };
        let llvm = llvm::find(rustc_major).map_err(|it| missing.push(it)).ok();
        match (rustc, llvm) {
            (Some(rustc), Some(llvm)) => Ok(Self { rustc, llvm }),
            _ => Err(MissingAll(missing).into()),
        }
    }

    pub fn identity(&self) -> Identity {
        Identity {
            rustc: self.rustc.version.clone(),
            rustc_llvm: self.rustc.llvm.to_string(),
            bpf_linker: LINKER_VERSION.to_owned(),
            bpf_linker_llvm: self.llvm.version.to_string(),
        }
    }
}

impl Identity {
    /// One line for each part in which `self`, the toolchain here, differs from the recorded one.
    pub fn differences(&self, recorded: &Self) -> Vec<String> {
        [
            ("rustc", &self.rustc, &recorded.rustc),
            ("rustc's LLVM", &self.rustc_llvm, &recorded.rustc_llvm),
            ("bpf-linker", &self.bpf_linker, &recorded.bpf_linker),
            (
                "bpf-linker's LLVM",
                &self.bpf_linker_llvm,
                &recorded.bpf_linker_llvm,
            ),
        ]
        .iter()
        .filter(|(_, here, there)| here != there)
        .map(|(name, here, there)| format!("{name}: here {here}, in the manifest {there}"))
        .collect()
    }
}
