//! The task `vm-test`: run the tests that trace on the kernels of the matrix, and print one table.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};

use crate::vm::boots::Boot;
use crate::vm::console::{Ran, Report};
use crate::vm::kernels::{Files, Kernel, MATRIX};
use crate::vm::protocol::Outcome;
use crate::vm::qemu::{self, End, Machine};
use crate::vm::{build, image, table};
use crate::{paths, process};

/// A guest that says nothing for so long hangs: longer than a test may take, begun anew as often as may be.
const SILENCE: Duration = Duration::from_secs(15 * 60);

/// Where guests write, below target/vm, and what they say there.
const RUNS: &str = "runs";
const SAID: &str = "said.jsonl";

#[derive(clap::Args)]
#[command(
    after_help = "The kernels are kept under target/vm: remove that to have newer ones fetched."
)]
pub struct Args {
    /// Only this kernel; repeatable [default: all of 5.10, 6.1, 6.12, 7.2]
    #[arg(long = "kernel", value_name = "NAME")]
    kernels: Vec<String>,
    /// Only tests whose name, BINARY::TEST, has this in it
    #[arg(long, value_name = "TEST")]
    filter: Option<String>,
    /// How many guests run at a time, with two CPUs each
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..))]
    jobs: u8,
    /// Write the table to memtrace/docs/kernels.md; wants the whole matrix
    #[arg(long)]
    doc: bool,
    /// Run nothing: the table of what each guest said when it last ran, kernel by kernel
    #[arg(long, conflicts_with_all = ["kernels", "filter"])]
    last: bool,
    /// Show each test as it ends
    #[arg(short, long)]
    verbose: bool,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    if args.doc && (!args.kernels.is_empty() || args.filter.is_some()) {
        bail!("--doc writes what the whole matrix has shown: leave --kernel and --filter out");
    }
    let root = paths::checkout()?;
    let dir = paths::target(&root).join("vm");
    let rows = if args.last {
        last(&dir.join(RUNS))?
    } else {
        boot_all(args, &root, &dir)?
    };

    let table = table::markdown(&rows);
    let good = tell(&rows);
    println!("\n{table}");
    if args.doc {
        let path = root.join("memtrace/docs/kernels.md");
        fs::write(&path, format!("{DOC}{table}"))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(match good {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// What the guests have said, as far as they were run.
fn last(runs: &Path) -> Result<Vec<(Boot, Report)>> {
    let boots = MATRIX.iter().flat_map(Boot::of);
    boots
        .map(|boot| {
            let said = runs.join(boot.file_name()).join(SAID);
            let said = fs::read_to_string(&said).with_context(|| {
                let name = boot.kernel.name;
                format!(
                    "{}: run `cargo xtask vm-test --kernel {name}` first",
                    said.display()
                )
            })?;
            let mut report = Report::read(&said);
            judge(&boot, &mut report, false);
            Ok((boot, report))
        })
        .collect()
}

/// Builds the tests, and boots each of the kernels as often as it is to be.
fn boot_all(args: &Args, root: &Path, dir: &Path) -> Result<Vec<(Boot, Report)>> {
    let kernels = chosen(&args.kernels)?;
    // Told before minutes are spent on building.
    process::tool(qemu::PROGRAM.0, qemu::PROGRAM.1)?;
    let files = kernels
        .into_iter()
        .map(|kernel| Ok((kernel, kernel.fetch(&dir.join("kernels"))?)))
        .collect::<Result<Vec<_>>>()?;
    let common = image::common(&build::build(root)?)?;
    // What some of the tests have shown is not taken for what all have.
    let runs = if args.filter.is_some() {
        "filtered"
    } else {
        RUNS
    };

    let boots = files
        .iter()
        .flat_map(|(kernel, files)| Boot::of(kernel).into_iter().map(move |boot| (boot, files)));
    Matrix {
        args,
        common: &common,
        dir: &dir.join(runs),
        todo: Mutex::new(boots.enumerate().collect()),
        done: Mutex::default(),
    }
    .run()
}

const DOC: &str = "\
# Kernels

The tests that trace for real, run on Debian's kernels for clouds under QEMU's emulation. `cargo xtask vm-test --doc` writes
this file. A row is a boot: all ordinary tests on a machine without swap, on the oldest and the newest kernel once more with
BTF hidden, and on each the tests that want swap and, in a kernel that is locked down, the one that memtrace tells so and
does no harm. tracefs is mounted on none.

- page faults from: the fault source that memtrace chooses there by itself.
- reclaim counted: whether what the kernel takes of lazily freed memory is counted page by page; elsewhere it is bounded.
- fentry: whether a program at the entry of madvise's system call loads and attaches. memtrace has none so far.

";

/// The kernels that are named, or all.
fn chosen(names: &[String]) -> Result<Vec<&'static Kernel>> {
    if names.is_empty() {
        return Ok(MATRIX.iter().collect());
    }
    names.iter().map(|name| Kernel::named(name)).collect()
}

/// Boots that wait for their turn, and those that are through.
struct Matrix<'a> {
    args: &'a Args,
    common: &'a [u8],
    dir: &'a Path,
    todo: Mutex<VecDeque<(usize, (Boot, &'a Files))>>,
    done: Mutex<Vec<(usize, (Boot, Report))>>,
}

impl Matrix<'_> {
    /// Boots all, some at a time. The reports come in the order of the matrix.
    fn run(self) -> Result<Vec<(Boot, Report)>> {
        thread::scope(|scope| {
            let workers: Vec<_> = (0..self.args.jobs)
                .map(|_| scope.spawn(|| self.work()))
                .collect();
            workers.into_iter().try_for_each(|worker| {
                let result = worker.join();
                result.map_err(|_| anyhow!("a thread that runs guests has panicked"))?
            })
        })?;
        let mut done = self
            .done
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        done.sort_by_key(|(index, _)| *index);
        Ok(done.into_iter().map(|(_, row)| row).collect())
    }

    fn work(&self) -> Result<()> {
        loop {
            let next = self
                .todo
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop_front();
            let Some((index, (boot, files))) = next else {
                return Ok(());
            };
            let report = self.boot(&boot, files)?;
            let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
            done.push((index, (boot, report)));
        }
    }

    fn boot(&self, boot: &Boot, files: &Files) -> Result<Report> {
        let dir = self.dir.join(boot.file_name());
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let image: PathBuf = dir.join("image.cpio");
        let own = image::own(files, &boot.plan(self.args.filter.as_deref()))?;
        fs::write(&image, [self.common, &own].concat())
            .with_context(|| format!("cannot write {}", image.display()))?;
        let machine = Machine {
            kernel: &files.image,
            image: &image,
            memory_mib: boot.memory_mib,
            parameters: boot.parameters,
            log: dir.join("kernel.log"),
            said: dir.join(SAID),
        };
        for file in [&machine.log, &machine.said] {
            // What an earlier run has left would be read as this one's.
            fs::write(file, "").with_context(|| format!("cannot write {}", file.display()))?;
        }
        let begun = Instant::now();
        let mut told = 0;
        let end = machine.run(SILENCE, |said| {
            if self.args.verbose {
                let ran = Report::read(said).ran;
                ran.iter().skip(told).for_each(|ran| tell_test(boot, ran));
                told = ran.len();
            }
        })?;
        let mut report = Report::read(&machine.said());
        judge(boot, &mut report, self.args.filter.is_some());
        if !report.done {
            report.trouble.push(early_end(end, &machine.log_tail()));
        }
        eprintln!(
            "{} ({}): {} passed, {} failed, {} not run, {} s",
            boot.kernel.name,
            boot.name,
            report.passed(),
            report.failed().count(),
            report.not_run().count(),
            begun.elapsed().as_secs()
        );
        Ok(report)
    }
}

fn tell_test(boot: &Boot, ran: &Ran) {
    let how = match &ran.outcome {
        Outcome::Passed => "ok".to_owned(),
        Outcome::Failed { .. } => "FAILED".to_owned(),
        Outcome::NotRun { why } => format!("not run: {why}"),
    };
    let name = format!("{} ({})", boot.kernel.name, boot.name);
    eprintln!(
        "{name:14} {:6.1} s  {} ... {how}",
        ran.took.as_secs_f64(),
        ran.test
    );
}

/// Notes what is wrong with a report beside its failed tests.
fn judge(boot: &Boot, report: &mut Report, filtered: bool) {
    let trouble = if !report.done {
        let test = report.unfinished.as_deref();
        let place = test.map_or(String::new(), |test| format!(", in {test}"));
        format!("the guest did not come to the end of its tests{place}")
    } else if report.ran.is_empty() && !filtered {
        "the guest has found no test to run".to_owned()
    } else if report.fault_source() != boot.fault_source {
        format!(
            "page faults are taken from {}, expected {}",
            report.fault_source().unwrap_or("nowhere"),
            boot.fault_source.unwrap_or("nowhere")
        )
    } else {
        return;
    };
    report.trouble.push(trouble);
}

fn early_end(end: End, log: &str) -> String {
    let how = match end {
        End::Ended => "it ended by itself",
        End::Silent => "it fell silent and was ended",
    };
    format!("{how}; the end of its kernel's log:\n{log}")
}

/// Prints what went wrong on any kernel; whether nothing did.
fn tell(rows: &[(Boot, Report)]) -> bool {
    let mut good = true;
    for (boot, report) in rows {
        let name = format!("{} ({})", boot.kernel.name, boot.name);
        for (test, output) in report.failed() {
            good = false;
            println!("\n== {name}: {test} failed\n{}", output.trim_end());
        }
        for trouble in &report.trouble {
            good = false;
            println!("\n== {name}: {trouble}");
        }
    }
    good
}
