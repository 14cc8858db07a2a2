//! The command line of `cargo xtask`: one subcommand per task.
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use xtask::build_ebpf;
use xtask::ebpf::wrapper;

/// The tasks of this repository that cargo has no command for.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build the eBPF object that is committed as memtrace/bpf/memtrace.bpf.o, and its manifest
    BuildEbpf(build_ebpf::Args),
}

fn main() -> ExitCode {
    let result = if wrapper::is_wanted() {
        wrapper::run().map(|()| ExitCode::SUCCESS)
    } else {
        match Cli::parse().task {
            Task::BuildEbpf(args) => build_ebpf::run(&args),
        }
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
