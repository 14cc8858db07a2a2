//! The command line of `cargo xtask`: one subcommand per task.
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use xtask::ebpf::wrapper;
use xtask::{bench, build_ebpf, fuzz_ledger, run_test, test, vm_test};

/// The tasks of this repository that cargo has no command for.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Measure what memtrace costs, beside other tracers: one run, tables as Markdown and JSON
    Bench(bench::Args),
    /// Build the eBPF object that is committed as memtrace/bpf/memtrace.bpf.o, and its manifest
    BuildEbpf(build_ebpf::Args),
    /// Try the ledger with new random programs, as root; exits with 1 on any difference from the kernel's truth
    FuzzLedger(fuzz_ledger::Args),
    /// Run all tests: `cargo test --workspace` and a list of those that could not run here
    Test(test::Args),
    /// Run the tests that trace on other kernels, under QEMU
    VmTest(vm_test::Args),
    /// Start one test binary; `test` has cargo call this
    #[command(hide = true)]
    RunTest(run_test::Args),
}

fn main() -> ExitCode {
    let result = if wrapper::is_wanted() {
        wrapper::run().map(|()| ExitCode::SUCCESS)
    } else {
        match Cli::parse().task {
            Task::Bench(args) => bench::run(&args),
            Task::BuildEbpf(args) => build_ebpf::run(&args),
            Task::FuzzLedger(args) => fuzz_ledger::run(&args),
            Task::Test(args) => test::run(&args),
            Task::VmTest(args) => vm_test::run(&args),
            Task::RunTest(args) => run_test::run(&args),
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
