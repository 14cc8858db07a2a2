//! Builds what runs in a guest: what `cargo xtask test` builds, and the guest's first process.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::process;

/// The package with the tests that trace.
const TESTS: &str = "memtrace-tests";
/// They look at the checkout, at the command line, at programs that no guest has, or at what is made
/// of figures, whatever the kernel they come from; `differential` needs another program yet, and plays
/// thousands of steps, which takes an emulated machine minutes, as the commands of `many_commands` do.
const NOT_OF_THE_KERNEL: [&str; 16] = [
    "bench_workload",
    "cli",
    "differential",
    "gctrace",
    "go_books",
    "go_runtime",
    "jemalloc",
    "many_commands",
    "object",
    "output_files",
    "privileges",
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
    pub init: PathBuf,
    /// memtrace and the workloads.
    pub tools: Vec<Program>,
    pub tests: Vec<Program>,
}

/// By the commands that `cargo xtask test` gives: what it has built is not built again.
pub fn build(root: &Path) -> Result<Programs> {
    eprintln!("Building memtrace and its tests for the guests");
    let tools = [
        "build",
        "--release",
        "--bins",
        "--package=memtrace",
        "--package=memtrace-tests",
    ];
    let init = ["build", "--package=xtask", "--bin=guest-init"];
    let tests = ["test", "--no-run", "--workspace", "--test=*"];

    let tools = built(&cargo(root, &tools)?, |built| {
        ["memtrace", "workload"].contains(&&built.name[..])
    })?;
    let mut init = built(&cargo(root, &init)?, |built| built.name == "guest-init")?;
    let tests = built(&cargo(root, &tests)?, Built::is_of_the_kernel)?;
    match init.pop() {
        Some((_, init)) if tools.len() == 2 && !tests.is_empty() => {
            Ok(Programs { init, tools, tests })
        }
        _ => bail!(
            "cargo has built no guest-init, no memtrace or no tests; what it says of its artifacts may have changed"
        ),
    }
}

/// What cargo says of what it has built, one JSON object a line.
fn cargo(root: &Path, args: &[&str]) -> Result<String> {
    process::stdout(
        process::cargo(root)
            .args(args)
            .arg("--message-format=json-render-diagnostics")
            .stderr(Stdio::inherit()),
    )
}

/// A program that cargo has built.
struct Built {
    package: String,
    kind: String,
    name: String,
    file: PathBuf,
}

/// The programs that are wanted among all that cargo tells of.
fn built(told: &str, wanted: impl Fn(&Built) -> bool) -> Result<Vec<Program>> {
    let mut programs = Vec::new();
    for line in told.lines() {
        let built = Built::read(line)?.filter(&wanted);
        programs.extend(built.map(|built| (built.name, built.file)));
    }
    Ok(programs)
}

impl Built {
    /// None for a line that tells of no program.
    fn read(line: &str) -> Result<Option<Self>> {
        let message: Value =
            serde_json::from_str(line).context("cargo wrote something that is not JSON")?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let target = &message["target"];
        Ok(message["executable"].as_str().map(|file| Self {
            package: text(&message["package_id"]),
            kind: text(&target["kind"][0]),
            name: text(&target["name"]),
            file: file.into(),
        }))
    }

    fn is_of_the_kernel(&self) -> bool {
        self.kind == "test"
            && self.package.contains(&format!("#{TESTS}@"))
            && !NOT_OF_THE_KERNEL.contains(&&self.name[..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_of_the_kernel_are_taken_and_those_of_the_checkout_are_not() {
        let artifact = |package: &str, kind: &str, name: &str| {
            format!(
                r#"{{"package_id":"path+file:///c/{package}@0.1.0","executable":"/t/{name}","target":{{"name":"{name}","kind":["{kind}"]}}}}"#
            )
        };
        let told = [
            artifact("tests#memtrace-tests", "test", "balance"),
            artifact("tests#memtrace-tests", "test", "tidy"),
            artifact("tests#memtrace-tests", "bin", "workload"),
            artifact("memtrace-tests#memtrace", "test", "goldens"),
            r#"{"reason":"build-finished","success":true}"#.to_owned(),
        ]
        .join("\n");
        let taken = built(&told, Built::is_of_the_kernel).expect("it is JSON");
        assert_eq!(taken, [("balance".to_owned(), PathBuf::from("/t/balance"))]);
    }
}
