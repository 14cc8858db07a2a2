//! Runs rustc for cargo during the eBPF build, with names that depend on the crate alone.
//!
//! Cargo gives each crate a `-Cmetadata` hash over its whole dependency graph, the paths of the
//! library's sources and the package's version, and rustc mangles that hash into symbols that stay
//! in the object. Without this wrapper an update of any crate behind a build script, or a release
//! of memtrace, would change the object although no instruction in it has changed. Likewise the
//! folder of a crate's sources carries the registry's name, or that of a mirror.
use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::{Result, anyhow};

use super::recipe;

/// Set by `compile` in the environment of cargo: this program then acts as rustc's wrapper.
pub const MARK: &str = "MEMTRACE_EBPF_ACTS_AS_RUSTC_WRAPPER";

/// Whether cargo has started this program in rustc's place.
pub fn is_wanted() -> bool {
    env::var_os(MARK).is_some()
}

/// Becomes rustc; returns only if that fails.
pub fn run() -> Result<()> {
    let mut args = env::args_os().skip(1);
    let rustc = args
        .next()
        .ok_or_else(|| anyhow!("cargo names no rustc to run"))?;
    let package = |name| env::var(name).unwrap_or_default();
    let name = package("CARGO_PKG_NAME");
    let version = package("CARGO_PKG_VERSION");
    let args = rewrite(
        args.collect(),
        &name,
        &version,
        env::var_os("CARGO_MANIFEST_DIR"),
    );
    let error = Command::new(&rustc).args(args).exec();
    Err(anyhow!("cannot start {}: {error}", rustc.display()))
}

/// Crates for the host, which are procedural macros and build scripts, are left as they are.
fn rewrite(
    mut args: Vec<OsString>,
    name: &str,
    version: &str,
    manifest_dir: Option<OsString>,
) -> Vec<OsString> {
    if name.is_empty() || !args.iter().any(|arg| arg == recipe::TARGET) {
        return args;
    }
    // Our own version is left out, so that a release needs no new object.
    let ours = name == recipe::PACKAGE;
    let identity = if ours {
        name.to_owned()
    } else {
        format!("{name}-{version}")
    };
    for arg in &mut args {
        if starts_with(arg, "metadata=") {
            *arg = format!("metadata={identity}").into();
        }
    }
    if let Some(dir) = manifest_dir.filter(|_| !ours) {
        let mut flag = OsString::from("--remap-path-prefix=");
        flag.push(dir);
        flag.push(format!("={identity}"));
        args.push(flag);
    }
    args
}

fn starts_with(arg: &OsStr, prefix: &str) -> bool {
    arg.as_encoded_bytes().starts_with(prefix.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(args: &[&str], name: &str) -> Vec<String> {
        let args = args.iter().map(OsString::from).collect();
        rewrite(args, name, "1.2.3", Some("/somewhere".into()))
            .into_iter()
            .map(|arg| arg.into_string().unwrap())
            .collect()
    }

    #[test]
    fn a_crate_for_bpf_is_named_by_its_name_and_version() {
        let args = ["--target", recipe::TARGET, "-C", "metadata=0123"];
        assert_eq!(
            rewritten(&args, "aya-ebpf"),
            [
                "--target",
                recipe::TARGET,
                "-C",
                "metadata=aya-ebpf-1.2.3",
                "--remap-path-prefix=/somewhere=aya-ebpf-1.2.3",
            ]
        );
    }

    #[test]
    fn our_own_crate_is_named_without_its_version() {
        let args = ["--target", recipe::TARGET, "-C", "metadata=0123"];
        let named = ["--target", recipe::TARGET, "-C", "metadata=memtrace-ebpf"];
        assert_eq!(rewritten(&args, recipe::PACKAGE), named);
    }

    #[test]
    fn a_crate_for_the_host_is_left_alone() {
        let args = ["-C", "metadata=0123"];
        assert_eq!(rewritten(&args, "syn"), args);
    }
}
