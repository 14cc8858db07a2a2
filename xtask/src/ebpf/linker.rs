//! bpf-linker at its pinned version, installed under target/ when it is not there yet.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::environment::{clean, path_with};
use super::libraries;
use super::llvm::Llvm;
use super::missing::MissingAll;
use super::recipe::LINKER_VERSION;
use super::rustc::Rustc;
use crate::{paths, process};

/// LLVM does nearly all the work, and is built already: to optimise the rest takes longer than it saves.
const PROFILE: [&str; 2] = [
    "--config=profile.release.opt-level=0",
    "--config=profile.release.debug=false",
];

/// Returns the folder that holds bpf-linker, after installing it if need be.
pub fn provide(root: &Path, rustc: &Rustc, llvm: &Llvm) -> Result<PathBuf> {
    let tools = paths::target(root).join("ebpf-tools");
    let bin = tools.join("bin");
    // The version that bpf-linker prints does not tell which LLVM it was built against.
    let stamp_path = tools.join("bpf-linker.llvm");
    let stamp = format!("{} {}\n", llvm.prefix.display(), llvm.version);
    let stamped = fs::read_to_string(&stamp_path).unwrap_or_default();
    if stamped == stamp && installed_version(&bin).is_some_and(|it| it == LINKER_VERSION) {
        return Ok(bin);
    }

    fs::create_dir_all(&tools).with_context(|| format!("cannot create {}", tools.display()))?;
    let missing = libraries::missing(llvm, &tools);
    if !missing.is_empty() {
        return Err(MissingAll(missing).into());
    }
    eprintln!(
        "Installing bpf-linker {LINKER_VERSION} for LLVM {} under {}",
        llvm.version,
        tools.display()
    );
    let mut command = Command::new(&rustc.cargo);
    clean(&mut command)
        .args([
            "install",
            "bpf-linker",
            "--version",
            LINKER_VERSION,
            "--locked",
            "--force",
        ])
        .args(PROFILE)
        .args(["--no-default-features", "--features"])
        .arg(format!("llvm-{}", llvm.version.major))
        .arg("--root")
        .arg(&tools)
        .arg("--target-dir")
        .arg(tools.join("build"))
        .env("RUSTC", &rustc.rustc)
        .env("LLVM_PREFIX", &llvm.prefix)
        .env("PATH", path_with(&llvm.bin())?);
    process::run(&mut command).with_context(|| {
        format!(
            "bpf-linker {LINKER_VERSION} did not build; beside what was found here it needs access to \
             the crates registry"
        )
    })?;
    match installed_version(&bin) {
        Some(version) if version == LINKER_VERSION => {}
        other => bail!(
            "{}/bpf-linker was just installed, yet reports version {other:?} instead of {LINKER_VERSION}",
            bin.display()
        ),
    }
    fs::write(&stamp_path, stamp)
        .with_context(|| format!("cannot write {}", stamp_path.display()))?;
    Ok(bin)
}

fn installed_version(bin: &Path) -> Option<String> {
    let text = process::stdout(Command::new(bin.join("bpf-linker")).arg("--version")).ok()?;
    Some(text.strip_prefix("bpf-linker ")?.to_owned())
}
