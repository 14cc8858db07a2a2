//! The Go programs of the tests: built once, without a network.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use crate::needs::Need;

pub const GO: Need = Need::Program("go", "golang-go");

/// Builds the program of that name, once, in a directory that is cargo's for such things.
pub fn build(name: &'static str, dir: &Path) -> PathBuf {
    build_of(name, &[name], dir)
}

/// Builds a program of several files.
pub fn build_of(name: &'static str, files: &[&str], dir: &Path) -> PathBuf {
    static BUILT: Mutex<Option<HashMap<&'static str, PathBuf>>> = Mutex::new(None);
    // Another test's failure is no reason to fail this one.
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    let built = built.get_or_insert_default();
    built
        .entry(name)
        .or_insert_with(|| build_anew(name, files, dir))
        .clone()
}

fn build_anew(name: &str, files: &[&str], dir: &Path) -> PathBuf {
    let program = dir.join(name);
    let sources = files
        .iter()
        .map(|file| Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/go/{file}.go")));
    let done = go(dir)
        .args(["build", "-o"])
        .arg(&program)
        .args(sources)
        .status()
        .expect("go runs");
    assert!(done.success(), "go could not build {name}");
    program
}

/// The version that `go version` prints, as its programs carry it: `go1.19.8`.
pub fn version(dir: &Path) -> String {
    let output = go(dir).arg("version").output().expect("go runs");
    let text = String::from_utf8(output.stdout).expect("go writes UTF-8");
    let version = text.split(' ').nth(2);
    version
        .unwrap_or_else(|| panic!("go version wrote {text:?}"))
        .to_owned()
}

fn go(dir: &Path) -> Command {
    let mut command = Command::new("go");
    command
        .env("GO111MODULE", "off")
        .env("GOFLAGS", "")
        .env("GOPROXY", "off")
        .env("GOTOOLCHAIN", "local")
        .env("GOCACHE", dir.join("go-cache"));
    command
}
