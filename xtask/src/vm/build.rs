//! Builds what runs in a guest: memtrace, the workloads, the tests and the guest's first process, all static.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::process;

/// The C library that a linker takes into a program.
const TARGET: &str = "x86_64-unknown-linux-gnu";
/// They look at the checkout, at the command line, at programs that no guest has, or at what is made
/// of figures, whatever the kernel they come from; `differential` needs another program yet, and plays
/// thousands of steps, which takes an emulated machine minutes.
const NOT_OF_THE_KERNEL: [&str; 13] = [
    "bench_workload",
    "cli",
    "differential",
    "gctrace",
    "go_books",
    "go_runtime",
    "jemalloc",
    "object",
    "runtime_files",
    "runtimes",
    "tidy",
    "verdicts",
    "what_if",
];

/// A program and its name.
pub type Program = (String, PathBuf);

#[derive(Debug, Default)]
pub struct Programs {
    pub init: Option<PathBuf>,
    /// memtrace and the workloads.
    pub tools: Vec<Program>,
    pub tests: Vec<Program>,
}

pub fn build(root: &Path) -> Result<Programs> {
    eprintln!("Building memtrace and its tests for the guests");
    let mut programs = Programs::default();
    for line in cargo(
        root,
        &[
            "build",
            "--bins",
            "--package=memtrace",
            "--package=memtrace-tests",
            "--package=xtask",
        ],
    )?
    .lines()
    {
        programs.add(line)?;
    }
    let tests = ["test", "--no-run", "--package=memtrace-tests", "--test=*"];
    for line in cargo(root, &tests)?.lines() {
        programs.add(line)?;
    }
    if programs.init.is_none() || programs.tests.is_empty() {
        bail!(
            "cargo has built no guest-init or no tests; what it says of its artifacts may have changed"
        );
    }
    Ok(programs)
}

/// What cargo says of what it has built, one JSON object a line.
fn cargo(root: &Path, args: &[&str]) -> Result<String> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    process::stdout(
        Command::new(cargo)
            .current_dir(root)
            .args(args)
            .args(["--release", "--target", TARGET])
            .arg("--message-format=json-render-diagnostics")
            // Beside a target, they leave the build scripts alone.
            .env("RUSTFLAGS", "-C target-feature=+crt-static")
            .stderr(Stdio::inherit()),
    )
}

impl Programs {
    /// Takes note of an artifact that can be run.
    fn add(&mut self, line: &str) -> Result<()> {
        let message: Value =
            serde_json::from_str(line).context("cargo wrote something that is not JSON")?;
        let (Some(file), Some(name)) = (
            message["executable"].as_str(),
            message["target"]["name"].as_str(),
        ) else {
            return Ok(());
        };
        let program = (name.to_owned(), PathBuf::from(file));
        let is_test = message["profile"]["test"] == true;
        let kind = message["target"]["kind"][0].as_str();
        match (kind, name) {
            (Some("test"), name) if NOT_OF_THE_KERNEL.contains(&name) => {}
            (Some("test"), _) => self.tests.push(program),
            (Some("bin"), "guest-init") if !is_test => self.init = Some(program.1),
            (Some("bin"), "memtrace" | "workload") if !is_test => self.tools.push(program),
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_of_the_kernel_are_taken_and_those_of_the_checkout_are_not() {
        let artifact = |kind: &str, name: &str, test: bool| {
            format!(
                r#"{{"executable":"/t/{name}","target":{{"name":"{name}","kind":["{kind}"]}},"profile":{{"test":{test}}}}}"#
            )
        };
        let mut programs = Programs::default();
        for line in [
            artifact("test", "balance", true),
            artifact("test", "tidy", true),
            artifact("bin", "workload", true),
            artifact("bin", "workload", false),
            artifact("bin", "guest-init", false),
            r#"{"reason":"build-finished","success":true}"#.to_owned(),
        ] {
            programs.add(&line).expect("it is JSON");
        }
        let named = |list: &[Program]| {
            list.iter()
                .map(|(name, _)| name.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(named(&programs.tests), ["balance"]);
        assert_eq!(named(&programs.tools), ["workload"]);
        assert_eq!(programs.init, Some(PathBuf::from("/t/guest-init")));
    }
}
