//! The environment that the eBPF toolchain runs in, which is not the one of `cargo xtask` itself.
use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, anyhow};

/// Removes the environment that belongs to the toolchain `cargo xtask` itself runs under, and any
/// setting of the user that would change the code; how to reach the registry is kept.
pub fn clean(command: &mut Command) -> &mut Command {
    let kept = [
        "CARGO_HOME",
        "CARGO_NET_",
        "CARGO_HTTP_",
        "CARGO_REGISTR",
        "CARGO_SOURCE_",
        "RUSTUP_HOME",
    ];
    let dropped = ["CARGO", "RUST", "AYA_", "LD_LIBRARY_PATH", "LD_PRELOAD"];
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        let starts = |prefix: &&str| text.starts_with(*prefix);
        if dropped.iter().any(starts) && !kept.iter().any(starts) {
            command.env_remove(&name);
        }
    }
    command
}

/// `PATH` with `first` in front.
pub fn path_with(first: &Path) -> Result<OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::join_paths(
        [first.to_owned()]
            .into_iter()
            .chain(env::split_paths(&path)),
    )
    .context("the path of the checkout or of LLVM holds a colon, which PATH cannot express")
}

/// Where cargo keeps the sources of the crates.
pub fn cargo_home() -> Result<PathBuf> {
    if let Some(home) = env::var_os("CARGO_HOME") {
        return Ok(PathBuf::from(home));
    }
    let home = env::var_os("HOME").ok_or_else(|| {
        anyhow!("neither CARGO_HOME nor HOME is set, so cargo's folder is unknown; set one of them")
    })?;
    Ok(Path::new(&home).join(".cargo"))
}
