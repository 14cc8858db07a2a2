//! Names and settings that a hostile target chose: shown, and nothing in them acts on the terminal.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use memtrace_tests::golang::{self, GO};
use memtrace_tests::needs;
use memtrace_tests::needs::Need;
use memtrace_tests::programs::{JEMALLOC, PERL, jemalloc, perl_command};
use memtrace_tests::runtimes::{LAZILY, copy, look, runtime, set, settings};
use memtrace_tests::tempdir::TempDir;
use memtrace_tests::tracer::command;
use memtrace_tests::wait;
use memtrace_tests::workload::Workload;

/// Sequences that clear the screen, set the title, ring, overwrite the line, and turn the text.
const HOSTILE: &str = "x\u{1b}[2J\u{1b}]0;title\u{7}\r\u{8}\u{9b}31m\u{202e}\nverdict: fine";

/// Runs memtrace for a moment with text as its output, and gives that back.
fn text_of(workload: &Workload) -> String {
    let dir = TempDir::new();
    let out = dir.join("out");
    let mut tracer = command()
        .args(["-q", "--color", "never", "--interval", "0.2", "-p"])
        .arg(workload.pid.to_string())
        .arg("-o")
        .arg(&out)
        .stdin(Stdio::null())
        .spawn()
        .expect("memtrace starts");
    let written = || fs::read_to_string(&out).unwrap_or_default();
    wait::until("a status line", || {
        written().contains("  RSS ").then_some(())
    });
    // SAFETY: the child has not been reaped, so that the pid is its own.
    unsafe { libc::kill(tracer.id() as i32, libc::SIGINT) };
    assert!(tracer.wait().expect("it is our child").success());
    written()
}

/// Nothing in it acts on a terminal, and no line is the target's.
#[track_caller]
fn is_harmless(text: &str) {
    let acts = |c: &char| c.is_control() && *c != '\n' || *c == '\u{202e}';
    let found: Vec<char> = text.chars().filter(acts).collect();
    assert!(found.is_empty(), "{found:?} in\n{text:?}");
    assert!(!text.contains("\nverdict: fine"), "{text}");
    assert_eq!(text.matches("\nverdict: ").count(), 1, "{text}");
}

#[test]
fn what_a_hostile_target_names_does_not_act_on_the_terminal() {
    needs!(Need::Tracing, GO, JEMALLOC, PERL);
    // A setting of jemalloc's, with which it gives back lazily all the same.
    let setting = format!("{LAZILY},{HOSTILE}");
    // Not by $0, which would overwrite the environment.
    let name = format!(
        "open my $comm, '>', '/proc/self/comm'; print $comm \"{}\"; close $comm;",
        escaped_for_perl(HOSTILE)
    );
    let mut command = perl_command();
    let script: Vec<_> = command.get_args().map(OsStr::to_owned).collect();
    command = Command::new("perl");
    command
        .arg("-e")
        .arg(format!("{name} do shift @ARGV"))
        .args(script)
        .env("LD_PRELOAD", jemalloc())
        .env("MALLOC_CONF", &setting)
        .stderr(Stdio::null());
    let workload = Workload::start_command(&mut command);
    let comm = fs::read_to_string(format!("/proc/{}/comm", workload.pid)).expect("it lives");
    assert!(comm.starts_with("x\u{1b}[2J"), "{comm:?}");
    let text = text_of(&workload);
    is_harmless(&text);
    assert!(text.contains("jemalloc"), "{text}");
    assert!(text.contains("[2J"), "it is not shown at all:\n{text}");
    // In JSON the setting is whole, behind escapes.
    let run = look(workload);
    let found = runtime(run.summary(), "jemalloc");
    assert_eq!(settings(&found), set("MALLOC_CONF", &setting));

    let program = golang::build("advises", Path::new(env!("CARGO_TARGET_TMPDIR")));
    let dir = TempDir::new();
    let path = copy(&dir, &program, "a\u{1b}[2J\u{9b}b\r");
    let mut command = Command::new(&path);
    command
        .env("GODEBUG", format!("madvdontneed=1,{HOSTILE}"))
        .env("GOGC", HOSTILE);
    let workload = Workload::start_command(&mut command);
    let text = text_of(&workload);
    is_harmless(&text);
    assert!(text.contains("GODEBUG=madvdontneed=1"), "{text}");
    let run = look(workload);
    let go = runtime(run.summary(), "Go");
    let [debug] = set("GODEBUG", "madvdontneed=1");
    let [percent] = set("GOGC", HOSTILE);
    assert_eq!(settings(&go), [debug, percent]);
}

/// As a double-quoted string of Perl's has it.
fn escaped_for_perl(text: &str) -> String {
    text.bytes()
        .map(|byte| format!("\\x{{{byte:x}}}"))
        .collect()
}
