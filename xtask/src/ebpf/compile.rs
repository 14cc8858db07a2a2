//! Compiling and linking the eBPF programs: cargo is driven directly.
//!
//! The aya-build crate does a similar build from a build script, but it can neither remap paths nor
//! compare the result with a committed object, and it would make every `cargo build` need nightly.
use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::environment::{cargo_home, clean, path_with};
use super::toolchain::Toolchain;
use super::{cache, linker, object_file, recipe, wrapper};
use crate::{paths, process};

/// Builds the object and returns the bytes that are to be committed.
pub fn compile(root: &Path, toolchain: &Toolchain, locked: bool) -> Result<Vec<u8>> {
    let linker_bin = linker::provide(root, &toolchain.rustc, &toolchain.llvm)?;
    let target_dir = paths::target(root).join("ebpf");
    let rustflags = rustflags(root, &toolchain.rustc.sources)?;
    cache::prepare(&target_dir, &toolchain.identity(), &rustflags)?;

    let this_program =
        env::current_exe().context("cannot tell which file this program was started from")?;
    let mut command = Command::new(&toolchain.rustc.cargo);
    clean(&mut command)
        .current_dir(root)
        .args(recipe::CARGO_ARGS)
        .arg("--target-dir")
        .arg(&target_dir)
        .env("RUSTC", &toolchain.rustc.rustc)
        // These also override wrappers that the user's cargo configuration names.
        .env("RUSTC_WRAPPER", this_program)
        .env("RUSTC_WORKSPACE_WRAPPER", "")
        .env(wrapper::MARK, "1")
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", &rustflags)
        .env("PATH", path_with(&linker_bin)?);
    if locked {
        command.arg("--locked");
    }
    process::run(&mut command)
        .with_context(|| format!("{} did not compile for {}", recipe::PACKAGE, recipe::TARGET))?;

    let built = target_dir
        .join(recipe::TARGET)
        .join("release")
        .join(recipe::BIN);
    let stripped = target_dir.join("memtrace.bpf.o");
    process::run(
        Command::new(toolchain.llvm.bin().join("llvm-objcopy"))
            .args(recipe::STRIP_ARGS)
            .args([&built, &stripped]),
    )?;
    let bytes = fs::read(&stripped)
        .with_context(|| format!("cannot read the built object {}", stripped.display()))?;
    let folders = [root, &cargo_home()?, &toolchain.rustc.sources];
    let faults = object_file::faults(&bytes, &folders)?;
    if !faults.is_empty() {
        bail!(
            "{} cannot be committed: {}",
            stripped.display(),
            faults.join("; ")
        );
    }
    Ok(bytes)
}

/// The fixed flags, and the names that this machine's folders get inside the object.
fn rustflags(root: &Path, sources: &Path) -> Result<OsString> {
    let cargo_home = cargo_home()?;
    let mut remaps = vec![
        (root.to_owned(), recipe::REMAPPED_CHECKOUT),
        (cargo_home.clone(), recipe::REMAPPED_CARGO_HOME),
        (sources.to_owned(), recipe::REMAPPED_RUST_SOURCES),
    ];
    // Distributions put a symbolic link at the place where rustc expects its sources, and which of
    // the two names reaches the debug info depends on who resolved it.
    for (folder, name) in [
        (&cargo_home, recipe::REMAPPED_CARGO_HOME),
        (&sources.to_owned(), recipe::REMAPPED_RUST_SOURCES),
    ] {
        remaps.extend(folder.canonicalize().ok().map(|real| (real, name)));
    }
    let mut flags: Vec<OsString> = recipe::RUSTFLAGS.iter().map(OsString::from).collect();
    for (from, to) in remaps {
        let mut flag = OsString::from("--remap-path-prefix=");
        flag.push(from);
        flag.push("=");
        flag.push(to);
        flags.push(flag);
    }
    Ok(flags.join("\u{1f}".as_ref()))
}
