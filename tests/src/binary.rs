//! Where the programs under test are: memtrace itself and the workloads.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The memtrace program: MEMTRACE_BIN, or the one that belongs to this build.
pub fn memtrace() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| match env::var_os("MEMTRACE_BIN") {
        Some(path) => PathBuf::from(path),
        None => built(),
    })
}

/// The program that the differential tester drives: the one that cargo built, or where MEMTRACE_WORKLOADS says.
pub fn ledger_program(built: &str) -> PathBuf {
    match env::var_os("MEMTRACE_WORKLOADS") {
        Some(dir) => Path::new(&dir).join("ledger-program"),
        None => PathBuf::from(built),
    }
}

/// A workload: a program and which of the behaviours in it.
#[derive(Clone, Debug)]
pub struct Exe {
    path: PathBuf,
    name: &'static str,
}

impl Exe {
    /// The workload of a name, in the program that cargo built or where MEMTRACE_WORKLOADS says.
    pub fn new(name: &'static str, built: &str) -> Self {
        let path = match env::var_os("MEMTRACE_WORKLOADS") {
            Some(dir) => Path::new(&dir).join("workload"),
            None => PathBuf::from(built),
        };
        Self { path, name }
    }

    /// The command that runs it.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.arg(self.name);
        command
    }

    /// As words of a command line.
    pub fn words(&self) -> [OsString; 2] {
        [self.path.clone().into(), self.name.into()]
    }
}

/// Builds memtrace in the target directory that this test runs from. Always for release: without
/// optimisation it cannot keep up with workloads that do nothing but fault.
fn built() -> PathBuf {
    let test = env::current_exe().expect("a test knows its own path");
    // target/PROFILE/deps/TEST
    let target = test.ancestors().nth(3).expect("a test is in PROFILE/deps");
    let path = target.join("release/memtrace");
    match env::var_os("CARGO") {
        // Cargo does nothing if it is up to date; a stale one would test yesterday's program.
        Some(cargo) => build(Path::new(&cargo), target),
        None => assert!(
            path.exists(),
            "{} is missing: build it with `cargo build --release -p memtrace`, or name one in MEMTRACE_BIN",
            path.display()
        ),
    }
    path
}

fn build(cargo: &Path, target: &Path) {
    let done = Command::new(cargo)
        .args(["build", "--quiet", "--release", "--package", "memtrace"])
        .arg("--target-dir")
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .expect("cargo runs");
    assert!(done.success(), "cargo could not build memtrace");
}
