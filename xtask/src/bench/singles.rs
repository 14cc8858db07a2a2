//! Measurements of memtrace alone: its start, its idle cost, and what it takes to keep up.
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::memtrace::Memtrace;
use super::report::{Intervals, Paced, Race, Sampling, Singles};
use super::setup::Setup;
use super::target::Target;
use super::workload::words;

pub const PACE: usize = 500_000;
pub const INTERVALS: usize = 1_000_000;
/// 2 GiB of small pages: a look at them takes some 20 ms.
const LAZY_PAGES: usize = 524_288;
const IDLE: Duration = Duration::from_secs(3);
const PACED_SECONDS: usize = 5;
/// Long enough for several looks.
const SAMPLING: Duration = Duration::from_secs(15);
const RACE_SECONDS: usize = 60;
const RACE_THREADS: usize = 2;
const RACE_PAGES: usize = 8192;

/// Measures all of them so many times. What fails is noted, and the others go on.
pub fn run(runs: usize, long: bool, setup: &Setup) -> Result<Singles> {
    let mut singles = Singles::default();
    type Step = (&'static str, fn(&mut Singles, &Setup) -> Result<()>);
    let each: [Step; 4] = [
        ("idle", idle),
        ("paced", paced),
        ("sampling", sampling),
        ("intervals", intervals),
    ];
    for round in 0..runs {
        for (name, step) in each {
            attempt(&mut singles, name, step, setup)?;
            eprintln!("{name} {}/{runs}", round + 1);
        }
    }
    if long {
        attempt(&mut singles, "race", race, setup)?;
        eprintln!("race");
    }
    Ok(singles)
}

fn attempt(
    singles: &mut Singles,
    name: &str,
    step: fn(&mut Singles, &Setup) -> Result<()>,
    setup: &Setup,
) -> Result<()> {
    if let Err(error) = step(singles, setup) {
        eprintln!("{name}: failed: {error:#}");
        singles.failures.push(format!("{name}: {error:#}"));
    }
    setup.scratch.clear()
}

fn memtrace(target: &Target, setup: &Setup) -> Result<Memtrace> {
    let args = ["-q".to_owned()];
    let (program, cpus) = (&setup.memtrace, setup.cpus.others);
    Memtrace::attach(program, &args, target.pid(), cpus, &setup.scratch)
}

/// How much of a CPU it takes while some time goes by.
fn cpu_percent(memtrace: &Memtrace, time: Duration) -> Result<f64> {
    let (begun, before) = (Instant::now(), memtrace.running.cpu_ns()?);
    thread::sleep(time);
    let used = memtrace.running.cpu_ns()? - before;
    Ok(used as f64 / begun.elapsed().as_nanos() as f64 * 100.0)
}

fn idle(singles: &mut Singles, setup: &Setup) -> Result<()> {
    let args = words("waits", &[0]);
    let mut target = Target::start(&setup.workload, &args, setup.cpus.measured)?;
    let memtrace = memtrace(&target, setup)?;
    target.go()?;
    memtrace.running.settled_cpu_ns()?;
    let percent = cpu_percent(&memtrace, IDLE)?;
    singles.start_ms.push(memtrace.start.as_secs_f64() * 1e3);
    singles.idle_cpu_percent.push(percent);
    let memory = memtrace.running.memory()?;
    singles.idle_rss_bytes.push(memory.rss_bytes as f64);
    singles.idle_peak_bytes.push(memory.peak_bytes as f64);
    memtrace.stop()?;
    target.act()?;
    target.end()
}

fn paced(singles: &mut Singles, setup: &Setup) -> Result<()> {
    let args = words("paced", &[PACE, PACED_SECONDS, 32768]);
    let mut target = Target::start(&setup.workload, &args, setup.cpus.measured)?;
    let memtrace = memtrace(&target, setup)?;
    target.go()?;
    let before = memtrace.running.settled_cpu_ns()?;
    let truth = target.act()?;
    // Including what it was behind with.
    let used = memtrace.running.settled_cpu_ns()? - before;
    let elapsed = truth.number("elapsed_ns")? as f64;
    let seen = memtrace.stop()?;
    singles.paced.push(Paced {
        faults_per_second: truth.number("events")? as f64 / elapsed * 1e9,
        cpu_percent: used as f64 / elapsed * 100.0,
        seen,
    });
    target.end()
}

fn sampling(singles: &mut Singles, setup: &Setup) -> Result<()> {
    let args = words("waits", &[LAZY_PAGES]);
    let mut target = Target::start(&setup.workload, &args, setup.cpus.measured)?;
    let memtrace = memtrace(&target, setup)?;
    target.go()?;
    memtrace.running.settled_cpu_ns()?;
    singles.sampling.push(Sampling {
        lazy_bytes: LAZY_PAGES as u64 * 4096,
        seconds: SAMPLING.as_secs_f64(),
        cpu_percent: cpu_percent(&memtrace, SAMPLING)?,
    });
    memtrace.stop()?;
    target.act()?;
    target.end()
}

fn intervals(singles: &mut Singles, setup: &Setup) -> Result<()> {
    let args = words("intervals", &[INTERVALS]);
    let mut target = Target::start(&setup.workload, &args, setup.cpus.measured)?;
    let memtrace = memtrace(&target, setup)?;
    target.go()?;
    let truth = target.act()?;
    memtrace.running.settled_cpu_ns()?;
    let memory = memtrace.running.memory()?;
    singles.intervals.push(Intervals {
        intervals: truth.number("intervals")?,
        peak_bytes: memory.peak_bytes,
        seen: memtrace.stop()?,
    });
    target.end()
}

fn race(singles: &mut Singles, setup: &Setup) -> Result<()> {
    let args = words("race", &[RACE_THREADS, RACE_SECONDS, RACE_PAGES]);
    // Both threads and memtrace share what CPUs there are, as they would without a benchmark.
    let mut target = Target::start(&setup.workload, &args, setup.cpus.all)?;
    let (program, cpus) = (&setup.memtrace, setup.cpus.all);
    let memtrace = Memtrace::attach(
        program,
        &["-q".to_owned()],
        target.pid(),
        cpus,
        &setup.scratch,
    )?;
    target.go()?;
    let truth = target.act()?;
    let seconds = truth.number("elapsed_ns")? as f64 / 1e9;
    let faults = truth.faults()?;
    singles.race.push(Race {
        seconds,
        faults_per_second: truth.number("events")? as f64 / seconds,
        faults,
        seen: memtrace.stop()?,
    });
    target.end()
}
