//! The task `test`: build the programs that the tests drive, run all tests, and say which ones did not run.
use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, anyhow};

use crate::{not_run, paths, process};

#[derive(clap::Args)]
pub struct Args {
    /// Handed to `cargo test`, as in `cargo xtask test -p memtrace-tests refaults -- --nocapture`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let root = paths::checkout()?;
    let target = target_directory(&root)?;

    // The tests look at what users run, so memtrace is built as it is shipped. The workloads are
    // optimised too, since a slow one changes what is raced against what.
    eprintln!("Building memtrace and the workloads");
    process::run(
        process::cargo(&root)
            .args(["build", "--release", "--bins"])
            .args(["--package=memtrace", "--package=memtrace-tests"]),
    )?;

    let not_run = target.join("not-run.txt");
    fs::write(&not_run, "").with_context(|| format!("cannot write {}", not_run.display()))?;
    let mut command = process::cargo(&root);
    command.arg("test").arg("--config").arg(runner()?);
    if !names_a_package(&args.args) {
        command.arg("--workspace");
    }
    // One failure must not hide the others, nor the tests that cannot run here.
    if !args.args.iter().any(|arg| arg == "--no-fail-fast") {
        command.arg("--no-fail-fast");
    }
    let status = process::status(
        command
            .args(&args.args)
            .env("MEMTRACE_BIN", target.join("release/memtrace"))
            .env("MEMTRACE_WORKLOADS", target.join("release"))
            .env(not_run::FILE, &not_run),
    )?;

    let lines = not_run::read(&not_run)?;
    if status.success() || !lines.is_empty() {
        print!("{}", not_run::summary(&lines));
    }
    if not_run::is_forbidden() && !lines.is_empty() {
        eprintln!("error: MEMTRACE_TEST_ALL=1 asks for every test, and those above did not run");
        return Ok(ExitCode::FAILURE);
    }
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Has cargo start each test binary through the task `run-test`.
///
/// It is the way to run one package's tests one at a time and the others' in parallel within one
/// `cargo test`, so that any of its arguments can be handed on.
fn runner() -> Result<OsString> {
    let program = env::current_exe().context("cannot tell which file this program is")?;
    let program = program.to_str().ok_or_else(|| {
        anyhow!("the checkout's path is not UTF-8, which cargo's configuration cannot express")
    })?;
    // A JSON array of strings is a TOML array too.
    let words = serde_json::to_string(&[program, "run-test"])?;
    Ok(format!("target.'cfg(all())'.runner={words}").into())
}

/// Cargo refuses `--workspace` beside a package.
fn names_a_package(args: &[OsString]) -> bool {
    let for_cargo = args.iter().take_while(|arg| *arg != "--");
    let mut texts = for_cargo.map(|arg| arg.to_string_lossy());
    texts.any(|arg| arg.starts_with("-p") || arg.starts_with("--package"))
}

/// Where cargo puts what it builds.
pub fn target_directory(root: &Path) -> Result<PathBuf> {
    let mut command = process::cargo(root);
    command.args(["metadata", "--format-version=1", "--no-deps"]);
    let metadata: serde_json::Value = serde_json::from_str(&process::stdout(&mut command)?)
        .context("`cargo metadata` wrote something that is not JSON")?;
    let target = metadata["target_directory"].as_str();
    Ok(target
        .ok_or_else(|| anyhow!("`cargo metadata` names no target directory"))?
        .into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_recognised_only_among_cargos_own_arguments() {
        let args = |text: &str| text.split(' ').map(OsString::from).collect::<Vec<_>>();
        assert!(names_a_package(&args("-p memtrace")));
        assert!(names_a_package(&args("--package=memtrace units")));
        assert!(!names_a_package(&args("units -- -p")));
    }
}
