//! The task `bench`: measure what memtrace costs beside nothing, an empty program and other tracers, in one run.

mod child;
mod cpus;
mod empty;
mod goals;
mod machine;
mod markdown;
mod marked;
mod memtrace;
mod peers;
mod program;
mod redis;
mod report;
mod runner;
mod scratch;
mod seen;
mod setup;
mod singles;
mod stats;
mod target;
mod units;
mod variant;
mod wait;
mod workload;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context as _, Result};
use clap::ValueEnum as _;

use crate::{paths, process, test};
use machine::Machine;
use report::{Report, Singles};
use setup::Setup;
use workload::Workload;

const ROUNDS: usize = 15;
const QUICK_ROUNDS: usize = 3;
/// What is measured of memtrace alone varies less, and takes longer.
const SINGLE_RUNS: usize = 3;

#[derive(clap::Args)]
pub struct Args {
    /// How often each variant has its turn
    #[arg(long, default_value_t = ROUNDS, value_parser = at_least_one)]
    rounds: usize,
    /// A few rounds, to see whether it works: the figures are rough
    #[arg(long, conflicts_with = "rounds")]
    quick: bool,
    /// Only these workloads, separated by commas
    #[arg(long, value_delimiter = ',')]
    only: Vec<Workload>,
    /// Only what is measured of memtrace alone: start, memory, CPU at a given rate
    #[arg(long)]
    alone: bool,
    /// Also a minute of as many faults as two threads can make
    #[arg(long)]
    long: bool,
    /// Measure nothing: read the JSON file of an earlier run
    #[arg(long, value_name = "FILE", conflicts_with_all = ["rounds", "quick", "only", "alone", "long", "json"])]
    from: Option<PathBuf>,
    /// Write the raw figures here instead of to target/bench/bench.json
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the tables here instead of to target/bench/bench.md
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Also replace the table in README.md
    #[arg(long)]
    readme: bool,
    /// Also replace the tables in memtrace/docs/benchmarks.md
    #[arg(long)]
    doc: bool,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("a number of rounds, at least 1".to_owned()),
        Ok(rounds) => Ok(rounds),
    }
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let root = paths::checkout()?;
    let results = paths::target(&root).join("bench");
    fs::create_dir_all(&results)?;
    let report = match &args.from {
        Some(path) => read(path)?,
        None => {
            let report = measure(args, &root, &results)?;
            let path = args.json.clone().unwrap_or(results.join("bench.json"));
            write(&path, &serde_json::to_string_pretty(&report)?)?;
            report
        }
    };
    let tables = markdown::full(&report);
    let path = args.markdown.clone().unwrap_or(results.join("bench.md"));
    write(&path, &tables)?;
    if args.readme {
        marked::replace_in(&root.join("README.md"), &markdown::short(&report))?;
    }
    if args.doc {
        marked::replace_in(&root.join("memtrace/docs/benchmarks.md"), &tables)?;
    }
    println!("{tables}");
    Ok(ExitCode::SUCCESS)
}

fn measure(args: &Args, root: &Path, results: &Path) -> Result<Report> {
    let rounds = if args.quick {
        QUICK_ROUNDS
    } else {
        args.rounds
    };
    let target = test::target_directory(root)?;
    // Before anything is built, which would raise the load itself.
    let mut machine = Machine::describe(root, String::new())?;
    let setup = Setup::new(root, &target, results)?;
    machine.pinning = setup.cpus.describe();
    for warning in machine.warnings() {
        eprintln!("warning: {warning}");
    }
    let rungs = rungs(&setup)?;
    let everything = args.only.is_empty() && !args.alone;
    let chosen = if everything {
        Workload::value_variants()
    } else {
        &args.only
    };
    let single_runs = if args.quick {
        1
    } else {
        rounds.min(SINGLE_RUNS)
    };
    let begun = Instant::now();
    let mut tables = Vec::new();
    for &workload in chosen {
        tables.push(runner::run(workload, &rungs, rounds, &setup)?);
    }
    let singles = if everything || args.alone || args.long {
        let runs = if everything || args.alone {
            single_runs
        } else {
            0
        };
        singles::run(runs, args.long, &setup)?
    } else {
        Singles::default()
    };
    Ok(Report {
        machine,
        rounds,
        seconds: begun.elapsed().as_secs_f64(),
        tables,
        singles,
    })
}

/// The sources of faults that this memtrace knows besides the one that it takes by itself.
fn rungs(setup: &Setup) -> Result<Vec<&'static str>> {
    let help = process::stdout(Command::new(&setup.memtrace).arg("--help"))?;
    let options = ["-q --fault-source raw_tp", "-q --fault-source tracepoint"];
    let known = |options: &&str| {
        let name = options.rsplit(' ').next().unwrap_or_default();
        help.contains(&format!("- {name}:"))
    };
    Ok(options.into_iter().filter(known).collect())
}

fn read(path: &Path) -> Result<Report> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text)
        .with_context(|| format!("{} is not of this benchmark", path.display()))
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    eprintln!("wrote {}", path.display());
    Ok(())
}
