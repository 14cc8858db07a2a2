//! `--gctrace`: what a real Go runtime says of itself is read, added up and held against RSS, and a command's stderr stays what it is.

use std::ffi::CString;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Stdio};

use memtrace_tests::compare::is_percent;
use memtrace_tests::golang::{self, GO};
use memtrace_tests::needs::Need;
use memtrace_tests::run::{Rules, Run};
use memtrace_tests::tempdir::TempDir;
use memtrace_tests::tracer::{Trace, command};
use memtrace_tests::wait;
use memtrace_tests::workload::{Workload, without_huge_pages};
use memtrace_tests::{exe, needs};

const MIB: u64 = 1 << 20;

fn built() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

/// The lines of a text that begin with a word.
fn lines<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = &'a str> {
    text.lines().filter(move |line| line.starts_with(word))
}

/// The figure before a unit, in the last line of that kind.
fn last_figure(text: &str, word: &str, unit: &str) -> u64 {
    let line = lines(text, word).last().expect("there is a line");
    let before = line.split(unit).next().expect("a split has a first part");
    let figure = before
        .rsplit(' ')
        .next()
        .and_then(|figure| figure.parse().ok());
    figure.unwrap_or_else(|| panic!("no {unit} in {line}"))
}

/// The third size of a collection: what was alive.
fn live_mib(line: &str) -> u64 {
    let sizes = line
        .split(" MB, ")
        .next()
        .expect("a split has a first part");
    let live = sizes.rsplit("->").next().and_then(|live| live.parse().ok());
    live.unwrap_or_else(|| panic!("no sizes in {line}"))
}

#[test]
fn a_commands_stderr_is_passed_on_byte_for_byte_and_its_lines_are_counted() {
    needs!(Need::Tracing, GO);
    let program = golang::build("collects", built());
    let dir = TempDir::new();
    let (out, written) = (dir.join("out"), dir.join("written"));
    // What tee writes to its file is what comes to the command's stderr.
    let script = r#"{ "$0" 2>&1 >&3 | tee "$1" >&2; } 3>&1; true; exit 7"#;
    let output = command()
        .args(["--format", "json", "--gctrace", "stderr", "-o"])
        .arg(&out)
        .args(["--", "sh", "-c", script])
        .args([&program, &written])
        .env("GODEBUG", "gctrace=1,scavtrace=1")
        .stdin(Stdio::null())
        .output()
        .expect("memtrace starts");
    assert_eq!(output.status.code(), Some(7));
    let bytes = fs::read(&written).expect("tee wrote it");
    assert!(bytes.len() > 10_500 && bytes.ends_with(b"no end"));
    assert_eq!(output.stderr.len(), bytes.len());
    assert!(output.stderr == bytes, "the bytes differ");

    let text = String::from_utf8_lossy(&bytes);
    // Ours ends otherwise.
    let collections: Vec<&str> = lines(&text, "gc ")
        .filter(|line| line.ends_with(" P") || line.ends_with("(forced)"))
        .collect();
    let cycles = collections.len() as u64;
    let last = collections.last().expect("it collects");
    assert!(last.starts_with(&format!("gc {cycles} @")), "{last}");
    let scavenger = lines(&text, "scav ").count() as u64;
    let others = bytes.iter().filter(|byte| **byte == b'\n').count() as u64 - cycles - scavenger;

    let json = fs::read_to_string(&out).expect("it was written");
    let rules = Rules {
        whole_stream: false,
        ..Rules::default()
    };
    let run = Run::parse(&json, &rules);
    let heard: Vec<_> = run
        .summaries
        .iter()
        .filter(|summary| !summary.at("gctrace").is_null())
        .collect();
    let [summary] = heard[..] else {
        panic!("{} processes were listened to", heard.len());
    };
    // The shell was launched, and yet it is not Go.
    assert_eq!(summary.text("comm"), "collects");
    let forced = collections
        .iter()
        .filter(|line| line.ends_with("(forced)"))
        .count() as u64;
    assert!(forced >= 3, "{text}");
    summary.expect(&[
        ("gctrace.cycles", cycles),
        ("gctrace.cycles_before", 0),
        ("gctrace.forced", forced),
        ("gctrace.last_cycle", cycles),
        ("gctrace.scavenger_lines", scavenger),
        // With the line that has no end.
        ("gctrace.lines_passed_over", others + 1),
        ("gctrace.lines_too_long", 1),
        ("gctrace.steps_back", 0),
    ]);
    assert_eq!(
        summary.count("gctrace.heap_live_bytes"),
        live_mib(last) * MIB
    );
    let peak = summary.count("gctrace.heap_live_peak_bytes");
    is_percent(peak, 95, 110, 30_000 * 4096);
    // `total` up to Go 1.20, then `now`.
    let unit = if text.contains(" KiB now") {
        " KiB now"
    } else {
        " KiB total"
    };
    let released = last_figure(&text, "scav ", unit);
    assert_eq!(summary.count("gctrace.released_bytes"), released << 10);

    let streamed: Vec<_> = run.lines("gctrace").collect();
    assert_eq!(streamed.len() as u64, cycles + scavenger);
    let numbers = streamed
        .iter()
        .filter(|line| line.text("event") == "gc")
        .map(|line| line.count("cycle"));
    assert!(numbers.eq(1..=cycles), "{streamed:#?}");
}

/// A program that has filled and deleted its map, with its stderr in a file.
fn bigmap(log: &Path, setting: &str) -> Workload {
    let mut program = Command::new(golang::build("bigmap", built()));
    program
        .env("GODEBUG", format!("gctrace=1,scavtrace=1,{setting}"))
        .env_remove("GOGC")
        .stderr(File::create(log).expect("the directory is ours"));
    without_huge_pages(&mut program);
    Workload::start_command(&mut program)
}

#[test]
fn a_running_programs_log_tells_the_live_heap_from_rss() {
    needs!(Need::Tracing, GO);
    let dir = TempDir::new();
    let log = dir.join("log");
    let mut workload = bigmap(&log, "madvdontneed=0");
    // It holds still, and collects nothing.
    let before = lines(&fs::read_to_string(&log).expect("it is there"), "gc ").count() as u64;
    assert!(before > 3, "{before} collections");
    let log_name = log.to_str().expect("ASCII");
    let mut trace = Trace::attach(workload.pid, &["--gctrace", log_name, "-e", "gc"]);
    trace.rules.whole_stream = false;
    let truth = workload.go();
    trace.signal(libc::SIGINT);
    let run = trace.finish();

    let text = fs::read_to_string(&log).expect("it is there");
    let cycles = lines(&text, "gc ").count() as u64;
    let summary = run.summary();
    summary.expect(&[
        ("gctrace.cycles", cycles),
        ("gctrace.cycles_before", before),
        ("gctrace.last_cycle", cycles),
        ("gctrace.lines_passed_over", 0),
    ]);
    // -e gc: nothing else is streamed, and nothing from before.
    let shown = run
        .lines("gctrace")
        .filter(|line| line.text("event") == "gc");
    assert_eq!(shown.count() as u64, cycles - before);
    assert_eq!(run.lines("gctrace").count(), run.events.len());
    for line in run.lines("gctrace") {
        line.expect(&[("pid", u64::from(workload.pid))]);
    }
    let peak = lines(&text, "gc ")
        .map(live_mib)
        .max()
        .expect("it collects");
    assert!(peak > 200, "{peak} MiB alive at the most");
    summary.expect(&[("gctrace.heap_live_peak_bytes", peak * MIB)]);
    assert!(
        summary.count("gctrace.heap_live_bytes") < 20 * MIB,
        "{summary}"
    );
    // What the runtime counts is what its lines say.
    let released = summary.count("gctrace.released_bytes");
    is_percent(released, 95, 105, truth.count("released_after_bytes"));

    // The same in words, from the log of a program that does nothing any more.
    let pid = workload.pid.to_string();
    let output = command()
        .args([
            "-q",
            "--no-status",
            "--duration",
            "0.3",
            "--gctrace",
            log_name,
            "-p",
            &pid,
        ])
        .output()
        .expect("memtrace starts");
    let words = String::from_utf8_lossy(&output.stdout);
    let told = lines(&words, "gctrace: ").next().expect("a sentence");
    assert!(
        told.contains(&format!(
            "{cycles} GC cycles (before the trace); live heap "
        )),
        "{told}"
    );
    assert!(told.contains("; the scavenger has "), "{told}");
    let beside = lines(&words, "    RSS is ")
        .next()
        .unwrap_or_else(|| panic!("{words}"));
    assert!(beside.contains("is not live heap: "), "{beside}");
    assert!(
        beside.contains("is lazily free (given back, and still resident)"),
        "{beside}"
    );
    workload.say("again");
    workload.end();
}

#[test]
fn a_log_without_a_line_of_gos_says_what_to_set() {
    needs!(Need::Tracing);
    let dir = TempDir::new();
    let log = dir.join("log");
    let binary: Vec<u8> = (0..100_000u32)
        .map(|i| (i.wrapping_mul(i) >> 3) as u8)
        .collect();
    fs::write(&log, &binary).expect("the directory is ours");
    let workload = Workload::start(&exe!("waits"), &[]);
    let pid = workload.pid.to_string();
    let output = command()
        .args([
            "-q",
            "--no-status",
            "--duration",
            "0.3",
            "-p",
            &pid,
            "--gctrace",
        ])
        .arg(&log)
        .output()
        .expect("memtrace starts");
    assert!(output.status.success(), "{output:?}");
    let words = String::from_utf8_lossy(&output.stdout);
    let told = lines(&words, "gctrace: ")
        .next()
        .unwrap_or_else(|| panic!("{words}"));
    assert!(told.starts_with("gctrace: no gc line in "), "{told}");
    assert!(told.contains("GODEBUG=gctrace=1"), "{told}");
    drop(workload);
}

#[test]
fn a_source_that_cannot_be_read_ends_the_run_before_it_begins() {
    let dir = TempDir::new();
    let (none, trail) = (dir.join("none"), dir.join("trail"));
    let output = command()
        .arg("--gctrace")
        .arg(&none)
        .args(["--", "touch"])
        .arg(&trail)
        .output()
        .expect("memtrace starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.contains("none\" (--gctrace): No such file"),
        "{stderr}"
    );
    assert!(
        output.stdout.is_empty() && !trail.exists(),
        "the program was run"
    );
    let output = command()
        .args(["--gctrace", "stderr", "-p", "1"])
        .output()
        .expect("memtrace starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("/proc/PID/fd/2"), "{stderr}");
}

#[test]
fn a_child_that_keeps_stderr_open_holds_nobody_up_and_keeps_it() {
    needs!(Need::Tracing);
    let dir = TempDir::new();
    let (out, fifo, stderr) = (dir.join("out"), dir.join("fifo"), dir.join("stderr"));
    let name = CString::new(fifo.as_os_str().as_bytes()).expect("no NUL");
    // SAFETY: the name ends in NUL.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    let script = r#"(read line < "$0"; echo "$line" >&2) & echo first >&2"#;
    let status = command()
        .args(["-q", "--format", "json", "--gctrace", "stderr", "-o"])
        .arg(&out)
        .args(["--", "sh", "-c", script])
        .arg(&fifo)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(&stderr).expect("the directory is ours"))
        .status()
        .expect("memtrace starts");
    // It has ended, though its command's child lives.
    assert_eq!(status.code(), Some(0));
    assert_eq!(fs::read(&stderr).expect("it is there"), b"first\n");
    let json = fs::read_to_string(&out).expect("it was written");
    let rules = Rules {
        whole_stream: false,
        ..Rules::default()
    };
    let run = Run::parse(&json, &rules);
    let heard = run
        .summaries
        .iter()
        .find(|one| !one.at("gctrace").is_null());
    heard
        .expect("the command")
        .expect(&[("gctrace.lines_passed_over", 1)]);
    // And its stderr is no broken pipe.
    fs::write(&fifo, "second\n").expect("it is read");
    wait::until("the child's line", || {
        let text = fs::read(&stderr).expect("it is there");
        (text == b"first\nsecond\n").then_some(())
    });
}

#[test]
fn an_stderr_that_nobody_reads_ends_no_command() {
    needs!(Need::Tracing);
    let dir = TempDir::new();
    let mut tracer = command()
        .args(["-q", "--format", "json", "--gctrace", "stderr", "-o"])
        .arg(dir.join("out"))
        .args(["--", "sh", "-c", "echo one >&2; echo two >&2; exit 5"])
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("memtrace starts");
    drop(tracer.stderr.take());
    let status = wait::until("memtrace's end", || {
        tracer.try_wait().expect("it is our child")
    });
    assert_eq!(status.code(), Some(5));
}

#[test]
fn another_user_can_open_its_stderr_by_name() {
    needs!(Need::Tracing);
    let dir = TempDir::new();
    let output = command()
        .args([
            "-q",
            "--format",
            "json",
            "--gctrace",
            "stderr",
            "--user",
            "nobody",
            "-o",
        ])
        .arg(dir.join("out"))
        .args(["--", "sh", "-c", "echo by name > /dev/stderr"])
        .stdin(Stdio::null())
        .output()
        .expect("memtrace starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), &*stderr), (Some(0), "by name\n"));
}
