//! The task `run-test`: start one test binary for `cargo xtask test`.
use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use anyhow::{Result, anyhow};

/// The package whose tests trace: they count this machine's events, and each other's would show.
const TRACING: &str = "memtrace-tests";

#[derive(clap::Args)]
pub struct Args {
    /// The test binary that cargo has built
    binary: OsString,
    /// Its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let mut command = Command::new(&args.binary);
    command.args(&args.args);
    // Cargo names the package to what it runs. `--test-threads` still has the last word.
    if env::var_os("CARGO_PKG_NAME").is_some_and(|name| name == TRACING) {
        command.env("RUST_TEST_THREADS", "1");
    }
    let error = command.exec();
    Err(anyhow!("cannot start {}: {error}", args.binary.display()))
}
