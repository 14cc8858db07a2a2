//! The task `fuzz-ledger`: build memtrace and the tester, and let it try new random programs.
use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::{paths, process, test};

#[derive(clap::Args)]
pub struct Args {
    /// For how long
    #[arg(long, default_value_t = 10, value_name = "N")]
    minutes: u64,
    /// The first seed; the time of day where none is named
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// A mode, as `fork/attach`, or all of a kind, as `fork` or `attach`; several with commas
    #[arg(long, value_name = "M")]
    mode: Option<String>,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let root = paths::checkout()?;
    process::run(
        process::cargo(&root)
            .args(["build", "--release", "--bins"])
            .args(["--package=memtrace", "--package=memtrace-tests"]),
    )?;
    let target = test::target_directory(&root)?;
    let seed = args.seed.unwrap_or_else(time_of_day);
    let mut command = Command::new(target.join("release/fuzz-ledger"));
    command.args(["--minutes", &args.minutes.to_string()]);
    command.args(["--seed", &seed.to_string()]);
    if let Some(mode) = &args.mode {
        command.args(["--mode", mode]);
    }
    let status = process::status(&mut command)?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Another number each time, and short enough to be typed.
fn time_of_day() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(1, |since| since.as_secs() % 1_000_000)
}
