//! Compiling and linking the eBPF programs: cargo is driven directly.
//!
//! The aya-build crate does a similar build from a build script, but it can neither remap paths nor
//! compare the result with a committed object, and it would make every `cargo build` need nightly.
use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, anyhow};

use super::recipe;
use super::toolchain::Toolchain;
use super::{linker, object_file};
use crate::{paths, process};

/// Builds the object and returns the bytes that are to be committed.
pub fn compile(root: &Path, toolchain: &Toolchain, locked: bool) -> Result<Vec<u8>> {
    let linker_bin = linker::provide(root, &toolchain.rustc, &toolchain.llvm)?;
    let target_dir = paths::target(root).join("ebpf");
    let built = target_dir
        .join(recipe::TARGET)
        .join("release")
        .join(recipe::BIN);
    forget_linked(&built)?;

    let mut command = Command::new(&toolchain.rustc.cargo);
    clean(&mut command)
        .current_dir(root)
        .args(recipe::CARGO_ARGS)
        .arg("--target-dir")
        .arg(&target_dir)
        .env("RUSTC", &toolchain.rustc.rustc)
        // An empty wrapper overrides one that the user's cargo configuration names.
        .env("RUSTC_WRAPPER", "")
        .env("RUSTC_WORKSPACE_WRAPPER", "")
        .env("RUSTC_BOOTSTRAP", "1")
        .env(
            "CARGO_ENCODED_RUSTFLAGS",
            rustflags(root, &toolchain.rustc.sources)?,
        )
        .env("PATH", path_with(&[&linker_bin])?);
    if locked {
        command.arg("--locked");
    }
    process::run(&mut command)
        .with_context(|| format!("{} did not compile for {}", recipe::PACKAGE, recipe::TARGET))?;

    let stripped = target_dir.join("memtrace.bpf.o");
    process::run(
        Command::new(toolchain.llvm.bin().join("llvm-objcopy"))
            .args(recipe::STRIP_ARGS)
            .args([&built, &stripped]),
    )?;
    let bytes = fs::read(&stripped)
        .with_context(|| format!("cannot read the built object {}", stripped.display()))?;
    let faults = object_file::faults(&bytes)?;
    if !faults.is_empty() {
        return Err(anyhow!(
            "{} cannot be committed: {}",
            stripped.display(),
            faults.join("; ")
        ));
    }
    Ok(bytes)
}

/// Removes the environment that belongs to the toolchain `cargo xtask` itself runs under, and any
/// setting of the user that would change the code; how to reach the registry is kept.
pub fn clean(command: &mut Command) -> &mut Command {
    let kept = [
        "CARGO_HOME",
        "CARGO_NET_",
        "CARGO_HTTP_",
        "CARGO_REGISTR",
        "CARGO_SOURCE_",
    ];
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        let ours = text.starts_with("CARGO") || text.starts_with("RUST");
        let loader = text == "LD_LIBRARY_PATH" || text == "LD_PRELOAD";
        let aya = text.starts_with("AYA_");
        let keep = text == "RUSTUP_HOME" || kept.iter().any(|prefix| text.starts_with(prefix));
        if (ours || loader || aya) && !keep {
            command.env_remove(&name);
        }
    }
    command
}

/// `PATH` with `first` in front.
pub fn path_with(first: &[&Path]) -> Result<OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    let first = first.iter().map(|dir| dir.to_path_buf());
    env::join_paths(first.chain(env::split_paths(&path)))
        .context("the path of the checkout or of LLVM holds a colon, which PATH cannot express")
}

/// Cargo does not know bpf-linker's version, so it would keep what another version has linked.
fn forget_linked(built: &Path) -> Result<()> {
    let Some(release) = built.parent() else {
        return Ok(());
    };
    let Ok(entries) = fs::read_dir(release.join("deps")) else {
        return Ok(());
    };
    let stem = recipe::BIN.replace('-', "_");
    for entry in entries.flatten() {
        let name = entry.file_name();
        if name.to_string_lossy().starts_with(&stem)
            || name.to_string_lossy().starts_with(recipe::BIN)
        {
            let path = entry.path();
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}

fn rustflags(root: &Path, sources: &Path) -> Result<OsString> {
    let cargo_home = cargo_home()?;
    let mut flags: Vec<OsString> = recipe::RUSTFLAGS.iter().map(OsString::from).collect();
    let mut remap = |from: &Path, to: &str| {
        let mut flag = OsString::from("--remap-path-prefix=");
        flag.push(from);
        flag.push("=");
        flag.push(to);
        flags.push(flag);
    };
    remap(root, recipe::REMAPPED_CHECKOUT);
    remap(&cargo_home, recipe::REMAPPED_CARGO_HOME);
    remap(sources, recipe::REMAPPED_RUST_SOURCES);
    // Distributions put a symbolic link at the place where rustc expects its sources, and which of
    // the two names reaches the debug info depends on who resolved it.
    if let Ok(real) = sources.canonicalize() {
        remap(&real, recipe::REMAPPED_RUST_SOURCES);
    }
    if let Ok(real) = cargo_home.canonicalize() {
        remap(&real, recipe::REMAPPED_CARGO_HOME);
    }
    Ok(flags.join("\u{1f}".as_ref()))
}

fn cargo_home() -> Result<PathBuf> {
    if let Some(home) = env::var_os("CARGO_HOME") {
        return Ok(PathBuf::from(home));
    }
    let home = env::var_os("HOME").ok_or_else(|| {
        anyhow!("neither CARGO_HOME nor HOME is set, so cargo's folder is unknown; set one of them")
    })?;
    Ok(Path::new(&home).join(".cargo"))
}
