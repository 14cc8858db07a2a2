//! Finding the LLVM that bpf-linker is built against and whose llvm-objcopy strips the object.
use std::env;
use std::fmt;
use std::path::PathBuf;
use std::process::Command;
use std::str::FromStr;

use anyhow::{Context as _, Result, bail};

use super::missing::Missing;
use super::recipe::LINKER_LLVMS;
use crate::process;

/// Names the prefix of an LLVM to use instead of those that are looked for.
pub const OVERRIDE: &str = "MEMTRACE_EBPF_LLVM";

/// A version such as 22.1.8; anything behind the number, as in "22.1.8-rust-dev", is kept in `text`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    pub major: u32,
    text: String,
}

impl FromStr for Version {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let major = text.split('.').next().unwrap_or_default();
        let major = major
            .parse()
            .with_context(|| format!("`{text}` does not start with a major version"))?;
        Ok(Self {
            major,
            text: text.to_owned(),
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// An LLVM with its headers and tools.
#[derive(Debug, Clone)]
pub struct Llvm {
    pub prefix: PathBuf,
    pub version: Version,
}

impl Llvm {
    pub fn bin(&self) -> PathBuf {
        self.prefix.join("bin")
    }
}

/// The oldest LLVM that can read the bitcode of a rustc with LLVM `rustc_major`, or what is missing.
///
/// Major versions decide: LLVM promises that a release reads all bitcode of its own major version
/// and of older ones.
pub fn find(rustc_major: u32) -> Result<Llvm, Missing> {
    let prefixes = match env::var_os(OVERRIDE) {
        Some(prefix) => vec![PathBuf::from(prefix)],
        None => LINKER_LLVMS
            .iter()
            .filter(|major| **major >= rustc_major)
            .map(|major| PathBuf::from(format!("/usr/lib/llvm-{major}")))
            .collect(),
    };
    let mut seen = Vec::new();
    for prefix in prefixes {
        match inspect(prefix, rustc_major) {
            Ok(llvm) => return Ok(llvm),
            Err(error) => seen.push(format!("{error:#}")),
        }
    }
    Err(Missing {
        what: format!("LLVM {rustc_major} or newer with its headers, to build bpf-linker against"),
        seen,
        get: vec![
            format!(
                "apt-get install llvm-{rustc_major}-dev libpolly-{rustc_major}-dev zlib1g-dev libzstd-dev   (Debian), or"
            ),
            format!(
                "set {OVERRIDE} to the prefix of such an LLVM, as in /usr/lib/llvm-{rustc_major}"
            ),
        ],
    })
}

fn inspect(prefix: PathBuf, rustc_major: u32) -> Result<Llvm> {
    let needed = [
        "bin/llvm-config",
        "bin/llvm-objcopy",
        "include/llvm-c/Core.h",
    ];
    for file in needed {
        if !prefix.join(file).is_file() {
            bail!("{} has no {file}", prefix.display());
        }
    }
    let version: Version =
        process::stdout(Command::new(prefix.join("bin/llvm-config")).arg("--version"))?.parse()?;
    if version.major < rustc_major {
        bail!(
            "{} is LLVM {version}, older than rustc's LLVM {rustc_major}",
            prefix.display()
        );
    }
    if !LINKER_LLVMS.contains(&version.major) {
        bail!(
            "{} is LLVM {version}, and bpf-linker knows {LINKER_LLVMS:?} only",
            prefix.display()
        );
    }
    Ok(Llvm { prefix, version })
}
