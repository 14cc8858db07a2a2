//! Go's own books beside the RSS: real servers, whose memory is known, and servers that lie.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use memtrace_tests::compare::is_percent;
use memtrace_tests::golang::{self, GO};
use memtrace_tests::needs::Need;
use memtrace_tests::record::Record;
use memtrace_tests::run::Run;
use memtrace_tests::tracer::{Trace, command};
use memtrace_tests::wait;
use memtrace_tests::workload::{Workload, without_huge_pages};
use memtrace_tests::{exe, needs};

const MIB: u64 = 1 << 20;

/// The programs take half a gigabyte: one at a time.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    // Another test's failure is no reason to fail this one.
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serves() -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
    golang::build_of("serves", &["serves", "serves_alone"], dir)
}

fn serves_with_c() -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
    golang::build_of("serves_with_c", &["serves", "serves_c"], dir)
}

fn start(program: PathBuf, arg: &str, setting: &str) -> Workload {
    let mut command = Command::new(program);
    command.arg(arg).env("GODEBUG", setting).env_remove("GOGC");
    without_huge_pages(&mut command);
    Workload::start_command(&mut command)
}

/// Waits for an answer about a state that has just been reached.
fn until_asked(trace: &Trace, holds: impl Fn(&Record) -> bool) {
    wait::until("MemStats of that state", || {
        trace
            .output()
            .lines()
            .filter_map(|line| Record::parse(line).ok())
            .rfind(|line| line.kind() == "memstats")
            .filter(|last| holds(last))
            .map(drop)
    });
}

fn row(summary: &Record, name: &str) -> i64 {
    summary
        .list("go.table.rows")
        .iter()
        .find(|row| row.text("name") == name)
        .unwrap_or_else(|| panic!("no row {name} in {summary}"))
        .signed("bytes")
}

fn bytes(summary: &Record, name: &str) -> u64 {
    u64::try_from(row(summary, name)).unwrap_or_else(|_| panic!("{name} < 0 in {summary}"))
}

/// The rows sum to the RSS, whatever they are.
fn expect_sum(summary: &Record) {
    let sum: i64 = summary
        .list("go.table.rows")
        .iter()
        .map(|row| row.signed("bytes"))
        .sum();
    assert_eq!(sum, summary.count("go.table.rss_bytes") as i64, "{summary}");
}

/// What neither side accounts for is little in a program that uses all it has.
fn expect_little_unexplained(summary: &Record) {
    let unexplained = row(summary, "unexplained").unsigned_abs();
    is_percent(unexplained, 0, 4, summary.count("go.table.rss_bytes"));
}

fn sentences(summary: &Record) -> String {
    summary.texts("go.sentences").join("\n")
}

#[test]
fn memory_given_back_lazily_is_a_row_and_a_sentence() {
    needs!(Need::Tracing, GO);
    let _alone = alone();
    let mut server = start(serves(), "", "madvdontneed=0");
    let address = server.go().text("address").to_owned();
    server.say("peak");
    let trace = Trace::attach(server.pid, &["--go-pprof", &address, "--interval", "0.2"]);
    until_asked(&trace, |said| said.count("heap_in_use_bytes") > 460 * MIB);
    server.say("idle");
    let truth = server.say("release");
    until_asked(&trace, |said| said.count("heap_released_bytes") > 390 * MIB);
    trace.signal(libc::SIGINT);
    let run = trace.finish();
    server.end();

    let summary = run.summary();
    expect_sum(summary);
    expect_little_unexplained(summary);
    let lazy = bytes(summary, "heap_lazily_free");
    is_percent(lazy, 95, 101, truth.count("released_bytes"));
    is_percent(
        bytes(summary, "heap_in_use"),
        99,
        103,
        truth.count("in_use_bytes"),
    );
    is_percent(
        summary.count("go.memstats.pprof_in_use_bytes"),
        99,
        103,
        64 * MIB,
    );
    assert!(
        summary.count("go.heap_in_use_peak_bytes") > 460 * MIB,
        "{summary}"
    );
    assert!(
        summary.count("go.heap_released_at_start_bytes") < 64 * MIB,
        "{summary}"
    );
    let said = sentences(summary);
    for part in [
        "still counts in RSS",
        "MADV_FREE",
        "pprof says 6",
        "HeapReleased changed by +",
    ] {
        assert!(said.contains(part), "{part:?} in {said}");
    }
}

#[test]
fn an_idle_heap_after_a_peak_is_a_row_and_a_sentence() {
    needs!(Need::Tracing, GO);
    let _alone = alone();
    let mut server = start(serves(), "", "madvdontneed=1");
    let url = format!("http://{}/debug/vars", server.go().text("address"));
    server.say("peak");
    let trace = Trace::attach(server.pid, &["--go-pprof", &url, "--interval", "0.2"]);
    until_asked(&trace, |said| said.count("heap_in_use_bytes") > 460 * MIB);
    server.say("idle");
    until_asked(&trace, |said| said.count("heap_in_use_bytes") < 80 * MIB);
    trace.signal(libc::SIGINT);
    let run = trace.finish();
    server.end();

    let summary = run.summary();
    expect_sum(summary);
    expect_little_unexplained(summary);
    // The scavenger may have given a little back by then.
    assert!(bytes(summary, "heap_idle") > 300 * MIB, "{summary}");
    assert_eq!(row(summary, "heap_lazily_free"), 0);
    // expvar has no profile.
    summary.expect_null("go.memstats.pprof_in_use_bytes");
    let said = sentences(summary);
    assert!(
        said.contains("of idle heap is not given back, after a peak of 4"),
        "{said}"
    );
}

#[test]
fn memory_of_c_is_not_gos() {
    needs!(Need::Tracing, GO);
    let _alone = alone();
    let mut server = start(serves_with_c(), "c", "");
    let url = format!("http://{}", server.go().text("address"));
    let trace = Trace::attach(server.pid, &["--go-pprof", &url, "--interval", "0.2"]);
    until_asked(&trace, |_| true);
    trace.signal(libc::SIGINT);
    let run = trace.finish();
    server.end();

    let summary = run.summary();
    expect_sum(summary);
    let of_c = bytes(summary, "c_heap") + bytes(summary, "other_anonymous");
    is_percent(of_c, 95, 105, 200 * MIB);
    let said = sentences(summary);
    assert!(said.contains("memory that Go did not allocate"), "{said}");
}

/// Traces a process that is no Go program, beside a server of ours.
fn asked(server: SocketAddr) -> (Run, String) {
    let holds = Workload::start(&exe!("lazy_holds"), &[]);
    let address = server.to_string();
    let mut trace = Trace::attach(holds.pid, &["--go-pprof", &address, "--interval", "0.1"]);
    // It has something to say.
    trace.rules.quiet_stderr = false;
    wait::until("a message on stderr", || {
        trace.stderr().contains("tracing goes on").then_some(())
    });
    trace.signal(libc::SIGINT);
    let stderr = trace.stderr();
    let run = trace.finish();
    holds.kill();
    (run, stderr)
}

/// A server that gives everyone the same answer, and does not wait for the end of it.
fn server(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let mut request = [0; 1024];
            let _ = stream.read(&mut request);
            let _ = stream.write_all(answer);
        }
    });
    address
}

#[test]
fn tracing_goes_on_whatever_a_url_gives() {
    needs!(Need::Tracing);
    let answers: [(&[u8], &str); 4] = [
        (
            b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            "which is not followed",
        ),
        (
            b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n\x1b[2J\0garbage",
            "it is no heap profile of a Go program",
        ),
        (b"\x16\x03\x01\0", "no answer that is HTTP"),
        // The figures of another process.
        (
            b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nheap profile: 0: 0 [0: 0] @ heap/1048576\n# Sys = 400\n\
              # HeapAlloc = 100\n# HeapSys = 300\n# HeapIdle = 100\n# HeapInuse = 200\n# HeapReleased = 50\n\
              # Stack = 1 / 2\n# MSpan = 3 / 4\n# MCache = 5 / 6\n# BuckHashSys = 7\n# GCSys = 8\n# OtherSys = 9\n\
              # NextGC = 10\n# NumGC = 11\n",
            "it is no Go program, or the URL leads to another one",
        ),
    ];
    for (answer, why) in answers {
        let (run, stderr) = asked(server(answer));
        assert!(stderr.contains(why), "{why:?} in {stderr}");
        assert!(!stderr.contains('\u{1b}'), "{stderr:?}");
        let summary = run.summary();
        summary.expect_null("go.table");
        assert!(summary.count("go.asked") > 0, "{summary}");
    }
}

#[test]
fn one_process_is_asked_at_a_time() {
    let output = command()
        .args(["--go-pprof", "localhost:1", "-p", "1,2"])
        .output()
        .expect("memtrace runs");
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(stderr.contains("--go-pprof asks one process"), "{stderr}");
}
