//! Finding a rustc that can compile `core` for BPF: one that has the library's sources beside it.
use std::collections::HashMap;
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, anyhow, bail};

use super::llvm;
use super::missing::Missing;
use super::recipe::LINKER_LLVMS;
use crate::process;

/// Names a rustc to use instead of those that are looked for.
pub const OVERRIDE: &str = "MEMTRACE_EBPF_RUSTC";

/// A rustc that can do the build, with its own cargo.
#[derive(Debug, Clone)]
pub struct Rustc {
    pub rustc: PathBuf,
    pub cargo: PathBuf,
    /// The folder that holds `library/core`.
    pub sources: PathBuf,
    /// The first line of `rustc -vV`.
    pub version: String,
    pub llvm: llvm::Version,
}

/// All usable rustcs in the order of preference, or what is missing.
pub fn find_all(oldest: &str) -> Result<Vec<Rustc>, Missing> {
    let candidates = match env::var_os(OVERRIDE) {
        Some(path) => vec![PathBuf::from(path)],
        None => candidates(),
    };
    let mut usable = Vec::new();
    let mut seen = Vec::new();
    for candidate in candidates {
        match inspect(&candidate, oldest) {
            Ok(rustc) => usable.push(rustc),
            Err(error) => seen.push(format!("{error:#}")),
        }
    }
    if usable.is_empty() {
        return Err(Missing {
            what: format!(
                "a rustc {oldest} or newer with the sources of its library, to compile `core` for BPF"
            ),
            seen,
            get: vec![
                "apt-get install rustc-web cargo-web rust-web-src   (Debian 12), or".to_owned(),
                "rustup component add rust-src   (nightly is not needed), or".to_owned(),
                format!("set {OVERRIDE} to such a rustc"),
            ],
        });
    }
    Ok(usable)
}

/// A distribution's rustc first, since its version stays while nightly's changes every day, then
/// rustup's nightly, then whatever else rustup has: RUSTC_BOOTSTRAP=1 makes stable do as well.
fn candidates() -> Vec<PathBuf> {
    let mut found = vec![PathBuf::from("/usr/bin/rustc")];
    let Ok(list) = process::stdout(Command::new("rustup").args(["toolchain", "list"])) else {
        return found;
    };
    // The name of the default one is followed by a remark.
    let mut names: Vec<&str> = list
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    names.sort_by_key(|name| !name.starts_with("nightly"));
    for name in names {
        let which =
            process::stdout(Command::new("rustup").args(["which", "rustc", "--toolchain", name]));
        if let Ok(path) = which {
            found.push(PathBuf::from(path));
        }
    }
    found
}

fn inspect(rustc: &Path, oldest: &str) -> Result<Rustc> {
    let shown = rustc.display();
    if !rustc.is_file() {
        bail!("{shown} does not exist");
    }
    let mut verbose = Command::new(rustc);
    // `cargo xtask` runs inside another toolchain's environment, which must not leak into this one.
    super::environment::clean(&mut verbose).arg("-vV");
    let text = process::stdout(&mut verbose)?;
    let version = text.lines().next().unwrap_or_default().to_owned();
    let fields: HashMap<&str, &str> = text
        .lines()
        .filter_map(|line| line.split_once(": "))
        .collect();

    let release = fields.get("release").copied().unwrap_or_default();
    if release_number(release) < release_number(oldest) {
        bail!("{shown} is {version}, and the workspace needs {oldest} or newer");
    }

    let llvm: llvm::Version = fields
        .get("LLVM version")
        .ok_or_else(|| anyhow!("{shown} does not say which LLVM it has"))?
        .parse()
        .with_context(|| format!("{shown} has an LLVM version of an unknown form"))?;
    let newest = LINKER_LLVMS[LINKER_LLVMS.len() - 1];
    if llvm.major > newest {
        bail!(
            "{shown} is {version} with LLVM {llvm}, and bpf-linker knows none newer than {newest}"
        );
    }

    let mut print_sysroot = Command::new(rustc);
    super::environment::clean(&mut print_sysroot).args(["--print", "sysroot"]);
    let sources = Path::new(&process::stdout(&mut print_sysroot)?).join("lib/rustlib/src/rust");
    if !sources.join("library/core/src/lib.rs").is_file() {
        bail!(
            "{shown} is {version}, without its library's sources in {}",
            sources.display()
        );
    }

    // A distribution may call its compilers rustc-1.96 and cargo-1.96.
    let name = rustc
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .replace("rustc", "cargo");
    let cargo = rustc.with_file_name(name);
    if !cargo.is_file() {
        bail!(
            "{shown} is {version}, without a cargo of its own at {}",
            cargo.display()
        );
    }
    Ok(Rustc {
        rustc: rustc.to_owned(),
        cargo,
        sources,
        version,
        llvm,
    })
}

/// Major and minor number, enough to compare with `rust-version`.
fn release_number(release: &str) -> (u32, u32) {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}
