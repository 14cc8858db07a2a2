//! Where the things of this checkout are.
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};

/// The root of the checkout, as an absolute path without symbolic links.
///
/// Cargo sets `CARGO_MANIFEST_DIR` for `cargo xtask` and `cargo test`, so a binary that was built
/// in another checkout and shares the target directory still finds the one it is run for.
pub fn checkout() -> Result<PathBuf> {
    let manifest_dir = std::env::var_os("CARGO_MANIFEST_DIR").ok_or_else(|| {
        anyhow!("CARGO_MANIFEST_DIR is not set; run this through cargo, as in `cargo xtask --help`")
    })?;
    let root = Path::new(&manifest_dir).join("..");
    root.canonicalize()
        .with_context(|| format!("cannot resolve the checkout's root {}", root.display()))
}

/// Where the tasks keep what they build, always inside the checkout.
pub fn target(root: &Path) -> PathBuf {
    root.join("target")
}

/// The committed eBPF object.
pub fn object(root: &Path) -> PathBuf {
    root.join("memtrace/bpf/memtrace.bpf.o")
}

/// The committed manifest beside the object.
pub fn manifest(root: &Path) -> PathBuf {
    root.join("memtrace/bpf/manifest.json")
}
