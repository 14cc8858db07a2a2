//! Runs the tests one by one, each in a process of its own, and tells how each went.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use xtask::not_run;
use xtask::vm::protocol::{Kind, LOCKED_DOWN, Message, Outcome, PROGRAMS, Plan, TESTS};

use crate::console::Console;

const OUTPUT: &str = "/run/output";
const NOT_RUN: &str = "/run/not-run";
const BETWEEN_LOOKS: Duration = Duration::from_millis(5);
/// Of what a failed test wrote; the serial port is slow.
const MAX_OUTPUT: usize = 16 << 10;
/// What a summary notes where the kernel did not run a program, since it had preempted another one, or where a
/// call took longer than memtrace waits for one: emulated programs and calls take long enough for that. The test
/// is then begun anew, and the host is told; where it comes to that each time, what the test wants is not to be had.
const NOT_EXACT: [(&str, &str); 2] = [
    (
        "left out by the kernel, since another was running",
        "the kernel leaves programs out here whenever it has preempted another",
    ),
    (
        "too late to take its place among the others",
        "calls take seconds here",
    ),
];
const MAX_REPEATS: u32 = 3;
/// A test that takes minutes is not begun anew again and again.
const LONG: Duration = Duration::from_secs(100);
/// For what is no test.
const LONG_ENOUGH: Duration = Duration::from_secs(60);

/// What `memtrace doctor` says of this machine. That it finds something wrong is no failure.
pub fn doctor(programs: &Path) -> Result<serde_json::Value> {
    let mut command = Command::new(programs.join("memtrace"));
    command.args(["doctor", "--format", "json"]);
    let (_, output) = run(&mut command, LONG_ENOUGH)?;
    serde_json::from_str(output.trim())
        .with_context(|| format!("memtrace doctor wrote something else than JSON: {output:?}"))
}

pub fn tests(plan: &Plan, console: &mut Console) -> Result<()> {
    let folder = fs::read_dir(TESTS).with_context(|| format!("cannot list {TESTS}"))?;
    let mut binaries: Vec<PathBuf> = folder.flatten().map(|entry| entry.path()).collect();
    binaries.sort();
    for binary in binaries {
        let name = binary.file_name().unwrap_or_default().to_string_lossy();
        for test in chosen(&binary, &name, plan.tests.kind)? {
            let full = format!("{name}::{test}");
            let wanted = plan.tests.filter.as_ref();
            if wanted.is_none_or(|filter| full.contains(filter)) {
                one(plan, &binary, &test, full, console)?;
            }
        }
    }
    Ok(())
}

/// The tests of a kind in a binary, in its own order.
fn chosen(binary: &Path, name: &str, kind: Kind) -> Result<Vec<String>> {
    if kind != Kind::Ordinary && (name == LOCKED_DOWN) != (kind == Kind::LockedDown) {
        return Ok(Vec::new());
    }
    let ignored = list(binary, &["--ignored"])?;
    Ok(match kind {
        Kind::OwnMachine | Kind::LockedDown => ignored,
        Kind::Ordinary => {
            let all = list(binary, &[])?.into_iter();
            all.filter(|test| !ignored.contains(test)).collect()
        }
    })
}

fn list(binary: &Path, which: &[&str]) -> Result<Vec<String>> {
    let mut command = Command::new(binary);
    command.args(["--list", "--format", "terse"]).args(which);
    let (status, output) = run(&mut command, LONG_ENOUGH)?;
    if status != Some(0) {
        bail!("{} does not list its tests: {output}", binary.display());
    }
    let tests = output
        .lines()
        .filter_map(|line| line.strip_suffix(": test"));
    Ok(tests.map(str::to_owned).collect())
}

fn one(plan: &Plan, binary: &Path, test: &str, full: String, console: &mut Console) -> Result<()> {
    console.say(&Message::Begun { test: full.clone() })?;
    let begun = Instant::now();
    let mut repeated = 0;
    let outcome = loop {
        let outcome = attempt(plan, binary, test)?;
        let Some(why) = not_exact(&outcome) else {
            break outcome;
        };
        if repeated == MAX_REPEATS || begun.elapsed() > LONG {
            break Outcome::NotRun {
                why: format!("{why}, and memtrace says that its figures are not exact"),
            };
        }
        repeated += 1;
    };
    console.say(&Message::Ended {
        test: full,
        outcome,
        repeated,
        milliseconds: begun.elapsed().as_millis() as u64,
    })
}

/// Why a failure is none of memtrace's, which has told so.
fn not_exact(outcome: &Outcome) -> Option<&'static str> {
    let Outcome::Failed { output } = outcome else {
        return None;
    };
    let told = NOT_EXACT.iter().find(|(note, _)| output.contains(note));
    told.map(|(_, why)| *why)
}

fn attempt(plan: &Plan, binary: &Path, test: &str) -> Result<Outcome> {
    fs::write(NOT_RUN, "").with_context(|| format!("cannot write {NOT_RUN}"))?;
    let deadline = Duration::from_secs(plan.seconds_per_test);
    let mut command = Command::new(binary);
    command
        .args(["--exact", test, "--include-ignored", "--nocapture"])
        .env("MEMTRACE_BIN", Path::new(PROGRAMS).join("memtrace"))
        .env("MEMTRACE_WORKLOADS", PROGRAMS)
        .env("MEMTRACE_TEST_PATIENCE", plan.patience.to_string())
        .env(not_run::FILE, NOT_RUN);
    let (status, output) = run(&mut command, deadline)?;
    let why = not_run::read(Path::new(NOT_RUN))?;
    Ok(match status {
        Some(0) if why.is_empty() => Outcome::Passed,
        Some(0) => Outcome::NotRun { why: reasons(&why) },
        Some(_) => Outcome::Failed { output },
        None => Outcome::Failed {
            output: format!("{output}\nended by a signal, or after {deadline:?}"),
        },
    })
}

/// Without the tests' names, which are known: "NOT RUN: name: why; remedy".
fn reasons(lines: &BTreeSet<String>) -> String {
    let bare = lines.iter().map(|line| {
        let parts = line.splitn(3, ": ").collect::<Vec<_>>();
        parts.last().copied().unwrap_or(line)
    });
    bare.collect::<Vec<_>>().join("; ")
}

/// Runs a program to its end or to the deadline: its exit status, unless it was killed, and what it wrote.
/// Whatever it has left running is killed too.
fn run(command: &mut Command, deadline: Duration) -> Result<(Option<i32>, String)> {
    let output = File::create(OUTPUT).with_context(|| format!("cannot create {OUTPUT}"))?;
    let child = command
        .env("PATH", PROGRAMS)
        .env("HOME", "/")
        .stdin(Stdio::null())
        .stdout(output.try_clone().context("a second handle")?)
        .stderr(output)
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start {command:?}"))?;
    let status = await_end(child.id() as i32, deadline);
    // SAFETY: the first process of a machine may end all others, itself excepted. They are the
    // program's: nothing else was started.
    unsafe { libc::kill(-1, libc::SIGKILL) };
    while reap() != Reaped::NoChild {
        thread::sleep(BETWEEN_LOOKS);
    }
    let bytes = fs::read(OUTPUT).with_context(|| format!("cannot read {OUTPUT}"))?;
    // The end tells most.
    let tail = &bytes[bytes.len().saturating_sub(MAX_OUTPUT)..];
    Ok((status, String::from_utf8_lossy(tail).into_owned()))
}

/// Reaps everything, as a first process must, until that child is among it.
fn await_end(pid: i32, deadline: Duration) -> Option<i32> {
    let begun = Instant::now();
    while begun.elapsed() < deadline {
        match reap() {
            Reaped::Child(child, status) if child == pid => return status,
            Reaped::Child(..) => {}
            Reaped::Nothing => thread::sleep(BETWEEN_LOOKS),
            Reaped::NoChild => return None,
        }
    }
    None
}

#[derive(PartialEq)]
enum Reaped {
    /// The exit status, unless it was killed.
    Child(i32, Option<i32>),
    /// All live.
    Nothing,
    NoChild,
}

fn reap() -> Reaped {
    let mut status = 0;
    // SAFETY: the status is ours to be written.
    match unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG) } {
        0 => Reaped::Nothing,
        pid if pid > 0 => {
            let exited = libc::WIFEXITED(status);
            Reaped::Child(pid, exited.then(|| libc::WEXITSTATUS(status)))
        }
        _ => Reaped::NoChild,
    }
}
