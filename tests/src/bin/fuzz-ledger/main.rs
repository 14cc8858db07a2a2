//! Tries the ledger with random programs, for as long as it is told: `cargo xtask fuzz-ledger` calls it.

mod args;
mod tally;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use memtrace_tests::differential::mode::Mode;
use memtrace_tests::differential::play::Plan;
use memtrace_tests::differential::session::{Programs, Trouble};
use memtrace_tests::differential::trial::{Outcome, shrink, trial};

use args::Args;
use tally::Tally;

/// A signal has come: what is under way is finished, so that the machine's settings are put back.
static STOP: AtomicBool = AtomicBool::new(false);

fn main() -> ExitCode {
    let args = match Args::parse() {
        Ok(args) => args,
        Err(why) => {
            eprintln!("error: {why}");
            return ExitCode::from(2);
        }
    };
    stop_on_signals();
    let programs = programs();
    let mut tally = Tally::default();
    let (begun, mut told) = (Instant::now(), Instant::now());
    let mut turn = 0;
    while begun.elapsed() < Duration::from_secs(args.seconds)
        && tally.programs < args.runs
        && !STOP.load(Ordering::Relaxed)
    {
        let mode = args.modes[turn % args.modes.len()];
        let round = (turn / args.modes.len()) as u64;
        turn += 1;
        one_run(&args, &programs, &mode, round, &mut tally);
        if told.elapsed() > Duration::from_secs(30) {
            told = Instant::now();
            println!("{} s: {}", begun.elapsed().as_secs(), tally.progress());
        }
    }
    print!("{tally}");
    ExitCode::from(u8::from(!tally.is_clean()))
}

/// One run of memtrace, with the seeds whose turn it is.
fn one_run(args: &Args, programs: &Programs, mode: &Mode, round: u64, tally: &mut Tally) {
    let together = if mode.way.attach { 1 } else { args.together };
    let first = args.seed + round * together;
    let seeds: Vec<u64> = (first..first + together).collect();
    let plans: Vec<Plan> = seeds.iter().map(|&seed| Plan::Random { seed }).collect();
    let outcomes = match guarded_trial(programs, mode, &plans) {
        Ok(outcomes) => outcomes,
        Err(trouble) => {
            tally.troubles += 1;
            println!("{} seeds {seeds:?}: not judged: {trouble}", mode.name());
            return;
        }
    };
    for (seed, outcome) in seeds.into_iter().zip(outcomes) {
        tally.add(&outcome);
        if args.all {
            let mut kinds = outcome.differences.iter().map(|one| &*one.kind);
            let first = kinds.next().unwrap_or("no difference");
            let faults = outcome.faults;
            println!("{} seed {seed}: {faults} faults, {first}", mode.name());
        }
        for difference in &outcome.differences {
            let heeded = difference.kind.contains(&args.only);
            if !heeded || !tally.find(mode, seed, difference) {
                continue;
            }
            println!("{} seed {seed}: {difference}", mode.name());
            if args.shrink > 0 && !STOP.load(Ordering::Relaxed) {
                tell_small(args, programs, mode, &outcome, &difference.kind);
            }
        }
    }
}

/// A program that hangs, or memtrace that does, is one run's trouble and not the end of all.
fn guarded_trial(
    programs: &Programs,
    mode: &Mode,
    plans: &[Plan],
) -> Result<Vec<Outcome>, Trouble> {
    let run = AssertUnwindSafe(|| trial(programs, mode, plans));
    catch_unwind(run).unwrap_or_else(|_| Err("it hung; see above".to_owned()))
}

fn tell_small(args: &Args, programs: &Programs, mode: &Mode, outcome: &Outcome, kind: &str) {
    let (small, shown) = shrink(programs, mode, &outcome.steps, kind, args.shrink);
    if let Some(shown) = shown {
        println!("    in {} steps: {}", small.len(), shown.detail);
        for step in small {
            println!("      {step}");
        }
    }
}

extern "C" fn on_signal(_: i32) {
    STOP.store(true, Ordering::Relaxed);
}

fn stop_on_signals() {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: the handler stores a flag, which is all that a handler may do.
        unsafe { libc::signal(signal, on_signal as *const () as libc::sighandler_t) };
    }
}

/// memtrace and the program lie beside this one.
fn programs() -> Programs {
    let own = std::env::current_exe().expect("a program knows its own path");
    let beside = |name: &str| own.with_file_name(name);
    let named = std::env::var_os("MEMTRACE_BIN").map(PathBuf::from);
    Programs {
        memtrace: named.unwrap_or_else(|| beside("memtrace")),
        program: beside("ledger-program"),
    }
}
