//! The whole toolchain of the eBPF build, and the part of it that the manifest records.
use std::path::Path;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::llvm::{self, Llvm};
use super::missing::MissingAll;
use super::recipe::LINKER_VERSION;
use super::rustc::{self, Rustc};
use super::workspace::Workspace;

/// Which LLVM to ask for while no rustc says which one it needs: that of Rust 1.95 to 1.96.
const LLVM_WITHOUT_RUSTC: u32 = 22;

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
    /// Finds a rustc and an LLVM that go together; the rustc of `wanted` comes first.
    pub fn find(root: &Path, wanted: Option<&Identity>) -> Result<Self> {
        let oldest = Workspace::read(root)?.rust_version()?;
        let mut usable = match rustc::find_all(&oldest) {
            Ok(usable) => usable,
            Err(no_rustc) => {
                let no_llvm = llvm::find(LLVM_WITHOUT_RUSTC).err();
                return Err(MissingAll([no_rustc].into_iter().chain(no_llvm).collect()).into());
            }
        };
        // The sort keeps the order of preference among the others.
        usable.sort_by_key(|it| wanted.is_none_or(|wanted| it.version != wanted.rustc));
        let mut first_missing = None;
        for rustc in usable {
            match llvm::find(rustc.llvm.major) {
                Ok(llvm) => return Ok(Self { rustc, llvm }),
                // What the most preferred rustc lacks is what to get.
                Err(missing) => _ = first_missing.get_or_insert(missing),
            }
        }
        Err(MissingAll(first_missing.into_iter().collect()).into())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_part_of_the_toolchain_that_differs_is_named_with_both_versions() {
        let recorded = Identity {
            rustc: "rustc 1.96.0".to_owned(),
            rustc_llvm: "22.1.8".to_owned(),
            bpf_linker: "0.13.0".to_owned(),
            bpf_linker_llvm: "22.1.8".to_owned(),
        };
        let mut here = recorded.clone();
        assert!(here.differences(&recorded).is_empty());
        here.rustc_llvm = "22.1.2".to_owned();
        assert_eq!(
            here.differences(&recorded),
            ["rustc's LLVM: here 22.1.2, in the manifest 22.1.8"]
        );
    }
}
