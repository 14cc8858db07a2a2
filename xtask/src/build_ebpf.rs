//! The task `build-ebpf`: build the eBPF object, then write it or compare it with the committed one.
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

use crate::ebpf::compile::compile;
use crate::ebpf::inputs::Inputs;
use crate::ebpf::manifest::Manifest;
use crate::ebpf::toolchain::Toolchain;
use crate::{not_run, paths};

const UPDATE: &str = "To update it, run `cargo xtask build-ebpf` and commit memtrace/bpf/.";

#[derive(clap::Args)]
pub struct Args {
    /// Change nothing; rebuild under target/ and compare with the committed object
    #[arg(long)]
    check: bool,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let root = paths::checkout()?;
    if args.check {
        check(&root)
    } else {
        build(&root)
    }
}

fn build(root: &Path) -> Result<ExitCode> {
    let toolchain = Toolchain::find(root, None)?;
    let inputs = Inputs::read(root)?;
    let object = compile(root, &toolchain, false)?;
    let changed = Inputs::read(root)?.differences(&inputs);
    if !changed.is_empty() {
        bail!(
            "nothing was written, since these were edited during the build: {}; run it again",
            changed.join(", ")
        );
    }
    let manifest = Manifest::new(&object, inputs, toolchain.identity());
    let path = paths::object(root);
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    }
    replace(&path, &object)?;
    replace(&paths::manifest(root), manifest.to_json()?.as_bytes())?;
    println!(
        "{}: {} bytes, sha256 {}",
        path.display(),
        object.len(),
        manifest.object.sha256
    );
    Ok(ExitCode::SUCCESS)
}

fn check(root: &Path) -> Result<ExitCode> {
    let manifest = Manifest::read(root)?;
    let stale = manifest.stale(root)?;
    if !stale.is_empty() {
        bail!(
            "the committed eBPF object is out of date, because since it was built:\n  {}\n{UPDATE}",
            stale.join("\n  ")
        );
    }
    let toolchain = Toolchain::find(root, Some(&manifest.toolchain))?;
    let object = compile(root, &toolchain, true)?;
    let differences = toolchain.identity().differences(&manifest.toolchain);
    if !differences.is_empty() {
        let why = differences.join("; ");
        if not_run::is_forbidden() {
            bail!(
                "bytes not compared, which MEMTRACE_TEST_ALL=1 forbids: another toolchain: {why}"
            );
        }
        println!("The eBPF programs build; bytes not compared: another toolchain: {why}");
        return Ok(ExitCode::SUCCESS);
    }
    let committed = fs::read(paths::object(root))?;
    if object != committed {
        bail!(
            "the same sources and toolchain give another object than the committed one, from byte \
             {} on ({} bytes here, {} committed): either it was built from something else, or the \
             build has become irreproducible; compare it with target/ebpf/memtrace.bpf.o. {UPDATE}",
            equal_bytes(&object, &committed),
            object.len(),
            committed.len(),
        );
    }
    println!(
        "The eBPF object is what its sources give: {} bytes, sha256 {}",
        object.len(),
        manifest.object.sha256
    );
    Ok(ExitCode::SUCCESS)
}

/// Writes beside the file and renames, so that a build in another terminal never sees half of it.
fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let partial = path.with_extension("partial");
    fs::write(&partial, bytes)
        .and_then(|()| fs::rename(&partial, path))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// How many bytes at the start are equal.
fn equal_bytes(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
