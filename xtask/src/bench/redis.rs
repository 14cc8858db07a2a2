//! A real server under load: Redis with jemalloc, driven by redis-benchmark.
use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow};

use super::child::Running;
use super::report::Sample;
use super::setup::Setup;
use super::variant::{Attached, Variant};
use super::{program, wait};
use crate::process;

const REQUESTS: usize = 60_000;
const KEYS: usize = 10_000;
const VALUE_BYTES: usize = 16_384;
/// jemalloc gives a page back when it is unused for this long, instead of ten seconds: it is how
/// services are set that want their RSS low.
const MALLOC_CONF: &str = "dirty_decay_ms:100,muzzy_decay_ms:100";

pub fn about() -> String {
    format!(
        "One redis-server with `MALLOC_CONF={MALLOC_CONF}`, {REQUESTS} SETs of {VALUE_BYTES} bytes on {KEYS} random keys from 50 \
         connections of redis-benchmark, over a Unix socket. The load generator shares its CPU with the tracer."
    )
}

pub fn missing() -> Option<String> {
    let wanted = [
        ("redis-server", "redis-server"),
        ("redis-benchmark", "redis-tools"),
    ];
    let absent = wanted
        .iter()
        .find(|(name, _)| program::find(name).is_none());
    absent.map(|(_, package)| format!("not installed: apt-get install {package}"))
}

pub fn run(variant: &Variant, setup: &Setup) -> Result<Sample> {
    let mut kept = setup.redis.borrow_mut();
    let Server { running, socket } = match kept.as_mut() {
        Some(server) => server,
        None => kept.insert(Server::start(setup)?),
    };
    running.must_run()?;
    let pid = running.pid();
    let attached = variant.attach(pid, setup)?;
    let cpu_before = attached.settle()?;
    let faults_before = faults(pid)?;
    let begun = Instant::now();
    let measured = load(socket, REQUESTS, setup)?;
    let elapsed = begun.elapsed();
    let faults = faults(pid)? - faults_before;
    let mut sample = Sample {
        ns_per_event: 1e9 / measured.requests_per_second,
        p99_us: Some(measured.p99_ms * 1e3),
        faults_per_second: Some(faults as f64 * measured.requests_per_second / REQUESTS as f64),
        ..Sample::default()
    };
    if let (Some(tracer), Some(before)) = (attached.running(), cpu_before) {
        let memory = tracer.memory()?;
        let used = (tracer.cpu_ns()? - before) as f64;
        sample.cpu_ns_per_event = Some(used / REQUESTS as f64);
        sample.cpu_percent = Some(used / elapsed.as_nanos() as f64 * 100.0);
        sample.rss_bytes = Some(memory.rss_bytes);
        sample.peak_bytes = Some(memory.peak_bytes);
    }
    if let Attached::Memtrace(memtrace) = &attached {
        sample.start_ms = Some(memtrace.start.as_secs_f64() * 1e3);
    }
    sample.seen = attached.stop()?;
    Ok(sample)
}

/// A private server. The same one serves all runs, since a new one would have to get its memory from
/// the kernel first, and in a guest from the hypervisor.
pub struct Server {
    running: Running,
    socket: PathBuf,
}

impl Server {
    fn start(setup: &Setup) -> Result<Self> {
        let path = program::find("redis-server").context("redis-server is gone")?;
        let folder = setup.scratch.path().join("redis");
        fs::create_dir(&folder)?;
        let socket = folder.join("socket");
        let mut command = Command::new(path);
        command
            .args(["--port", "0", "--save", "", "--appendonly", "no"])
            .arg("--unixsocket")
            .arg(&socket)
            .arg("--dir")
            .arg(&folder)
            .env("MALLOC_CONF", MALLOC_CONF)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(folder.join("stderr"))?);
        let mut running = Running::start(setup.cpus.measured.confine(&mut command))?;
        wait::until("redis to listen", wait::BACKSTOP, || {
            running.must_run()?;
            Ok(UnixStream::connect(&socket).ok())
        })?;
        // Fills it.
        load(&socket, REQUESTS, setup)?;
        Ok(Self { running, socket })
    }
}

/// What redis-benchmark has measured.
#[derive(Debug, PartialEq)]
struct Load {
    requests_per_second: f64,
    p99_ms: f64,
}

fn load(socket: &Path, requests: usize, setup: &Setup) -> Result<Load> {
    let path = program::find("redis-benchmark").context("redis-benchmark is gone")?;
    let mut command = Command::new(path);
    command.arg("-s").arg(socket).args(["-t", "set", "--csv"]);
    for (option, number) in [("-n", requests), ("-r", KEYS), ("-d", VALUE_BYTES)] {
        command.args([option, &number.to_string()]);
    }
    parse(&process::stdout(setup.cpus.others.confine(&mut command))?)
}

/// A line of names, then one of values, all in quotes.
fn parse(csv: &str) -> Result<Load> {
    let mut lines = csv
        .lines()
        .filter(|line| line.starts_with('"'))
        .map(|line| line.split(',').map(|cell| cell.trim_matches('"')));
    let (names, mut values) = (lines.next(), lines.next().into_iter().flatten());
    let cells: Vec<(&str, &str)> = names.into_iter().flatten().zip(&mut values).collect();
    let number = |wanted: &str| {
        let cell = cells.iter().find(|(name, _)| *name == wanted);
        cell.and_then(|(_, value)| value.parse().ok())
            .ok_or_else(|| anyhow!("redis-benchmark told no {wanted}:\n{csv}"))
    };
    Ok(Load {
        requests_per_second: number("rps")?,
        p99_ms: number("p99_latency_ms")?,
    })
}

/// All page faults of a process, from its stat file (proc_pid_stat(5)): fields 10 and 12.
fn faults(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    // The name before may hold blanks; what follows it begins with field 3.
    let fields: Vec<&str> = text
        .rsplit(')')
        .next()
        .unwrap_or("")
        .split_whitespace()
        .collect();
    let number = |field: usize| {
        fields
            .get(field - 3)
            .and_then(|word| word.parse::<u64>().ok())
    };
    match (number(10), number(12)) {
        (Some(minor), Some(major)) => Ok(minor + major),
        _ => Err(anyhow!("{path}: not as proc_pid_stat(5) says")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_columns_of_redis_benchmark_are_found_by_name() {
        let csv = "\"test\",\"rps\",\"avg_latency_ms\",\"p99_latency_ms\"\n\"SET\",\"50000.5\",\"0.2\",\"0.591\"\n";
        let load = parse(csv).expect("both are there");
        assert_eq!(load.requests_per_second, 50000.5);
        assert_eq!(load.p99_ms, 0.591);
        assert!(parse("Could not connect\n").is_err());
    }
}
