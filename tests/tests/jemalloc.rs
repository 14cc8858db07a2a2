//! jemalloc under real programs: its settings choose the advice, and memtrace shows what they cost.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use memtrace_tests::compare::is_percent;
use memtrace_tests::needs;
use memtrace_tests::needs::Need;
use memtrace_tests::smaps::Memory;
use memtrace_tests::tempdir::TempDir;
use memtrace_tests::tracer::Trace;
use memtrace_tests::wait;
use memtrace_tests::workload::{Workload, without_huge_pages};

const JEMALLOC: Need = Need::Library("libjemalloc.so.2", "libjemalloc2");
const PERL: Need = Need::Program("perl", "perl");
const REDIS: Need = Need::Program("redis-server", "redis-server");

/// A Perl program whose malloc is jemalloc, with 100 MB in strings.
fn perl(settings: &str) -> Workload {
    let jemalloc = needs::library("libjemalloc.so.2").expect("the test needs it");
    let mut command = Command::new("perl");
    command
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/perl/strings.pl"
        ))
        .env("LD_PRELOAD", jemalloc)
        .env("MALLOC_CONF", settings);
    without_huge_pages(&mut command);
    Workload::start_command(&mut command)
}

#[test]
fn without_decay_jemalloc_gives_back_at_once_and_refaults_all() {
    needs!(Need::Tracing, JEMALLOC, PERL);
    let mut workload = perl("dirty_decay_ms:0,muzzy_decay_ms:0");
    let faults_before = workload.counters();
    let full = Memory::of(workload.pid);
    let trace = Trace::attach(workload.pid, &[]);
    workload.go();
    let empty = Memory::of(workload.pid);
    workload.say("again");
    let refilled = Memory::of(workload.pid);
    let faults = workload.counters() - faults_before;
    // Before the interpreter ends, which frees everything once more.
    trace.signal(libc::SIGINT);
    let run = trace.finish();
    workload.end();

    let left = full.rss_bytes - empty.rss_bytes;
    let back = refilled.rss_bytes - empty.rss_bytes;
    assert!(left > 90 << 20, "{full:?} {empty:?}");
    let summary = run.summary();
    // Nothing leaves RSS unasked. Extents may hold pages that were never written.
    is_percent(
        summary.count("advice.MADV_DONTNEED.requested_bytes"),
        100,
        110,
        left,
    );
    // Filling again frees a little on the way, which goes and comes once more.
    is_percent(
        summary.count("advice.MADV_DONTNEED.refaulted_bytes"),
        95,
        105,
        back,
    );
    assert_eq!(
        summary.count_or_none("advice.MADV_FREE.calls"),
        0,
        "{summary}"
    );
    // A single thread that mostly touches memory from user mode: the counts agree to the last fault.
    summary.expect(&[("faults.total", faults.all())]);
}

#[test]
fn with_endless_muzzy_decay_jemalloc_frees_lazily_and_nothing_refaults() {
    needs!(Need::Tracing, JEMALLOC, PERL);
    let mut workload = perl("dirty_decay_ms:1,muzzy_decay_ms:-1");
    let full = Memory::of(workload.pid);
    let trace = Trace::attach(workload.pid, &[]);
    workload.go();
    let lazy = Memory::of(workload.pid);
    trace.signal(libc::SIGINT);
    let run = trace.finish();
    workload.say("again");
    workload.end();

    is_percent(lazy.rss_bytes, 95, 105, full.rss_bytes);
    assert!(lazy.lazyfree_bytes > 80 << 20, "{lazy:?}");
    let summary = run.summary();
    let requested = summary.count("advice.MADV_FREE.requested_bytes");
    assert!(requested >= lazy.lazyfree_bytes, "{lazy:?} {summary}");
    assert!(requested <= full.rss_bytes * 2, "{full:?} {summary}");
    assert_eq!(summary.count("faults.refault_free"), 0, "{summary}");
    assert_eq!(
        summary.count_or_none("advice.MADV_DONTNEED.calls"),
        0,
        "{summary}"
    );
    // The state at the interrupt, when the program held still, where it was sampled.
    if !summary.at("rss.lazyfree_bytes").is_null() {
        is_percent(
            summary.count("rss.lazyfree_bytes"),
            95,
            105,
            lazy.lazyfree_bytes,
        );
    }
}

/// A private redis-server without persistence, which ends with its guard.
struct Redis {
    child: Child,
    stream: BufReader<UnixStream>,
    _dir: TempDir,
}

impl Redis {
    fn start(settings: &str) -> Self {
        let dir = TempDir::new();
        let socket = dir.join("socket");
        let program = needs::program("redis-server").expect("the test needs it");
        let mut command = Command::new(program);
        command
            .args(["--port", "0", "--save", "", "--appendonly", "no"])
            .args([
                "--enable-debug-command",
                "yes",
                "--jemalloc-bg-thread",
                "no",
            ])
            .arg("--unixsocket")
            .arg(&socket)
            .arg("--dir")
            .arg(dir.path())
            .env("MALLOC_CONF", settings)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        without_huge_pages(&mut command);
        let child = command.spawn().expect("redis-server starts");
        let stream = connect(&socket);
        let mut redis = Self {
            child,
            stream: BufReader::new(stream),
            _dir: dir,
        };
        redis.fill();
        redis
    }

    fn fill(&mut self) {
        self.ask("DEBUG POPULATE 50000 key 2000");
    }

    /// Sends one command and waits for the answer, which must be OK.
    fn ask(&mut self, command: &str) {
        writeln!(self.stream.get_mut(), "{command}").expect("redis listens");
        let mut answer = String::new();
        self.stream.read_line(&mut answer).expect("redis answers");
        assert_eq!(answer.trim_end(), "+OK", "to {command}");
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // Killing by pid is safe: it has not been reaped.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn connect(socket: &Path) -> UnixStream {
    wait::until("redis to listen", || UnixStream::connect(socket).ok())
}

#[test]
fn a_flushed_redis_gives_all_back_at_once() {
    needs!(Need::Tracing, REDIS);
    // The first is jemalloc's default. With the second it first frees lazily what the flush then
    // purges: the later give-back owns the refaults.
    for settings in [
        "dirty_decay_ms:10000,muzzy_decay_ms:10000",
        "dirty_decay_ms:1,muzzy_decay_ms:-1",
    ] {
        let mut redis = Redis::start(settings);
        let full = Memory::of(redis.pid());
        let trace = Trace::attach(redis.pid(), &[]);
        redis.ask("FLUSHALL SYNC");
        redis.ask("MEMORY PURGE");
        let empty = Memory::of(redis.pid());
        redis.fill();
        let refilled = Memory::of(redis.pid());
        trace.signal(libc::SIGINT);
        let run = trace.finish();

        let left = full.rss_bytes - empty.rss_bytes;
        let back = refilled.rss_bytes - empty.rss_bytes;
        assert!(left > 90 << 20, "{full:?} {empty:?}");
        let summary = run.summary();
        is_percent(
            summary.count("advice.MADV_DONTNEED.requested_bytes"),
            100,
            110,
            left,
        );
        is_percent(
            summary.count("advice.MADV_DONTNEED.refaulted_bytes"),
            90,
            105,
            back,
        );
        assert_eq!(summary.count_or_none("faults.refault_free"), 0, "{summary}");
        if settings.contains(":-1") {
            let lazily = summary.count("advice.MADV_FREE.requested_bytes");
            assert!(lazily > left / 2, "{summary}");
        }
    }
}
