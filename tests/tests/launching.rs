//! `memtrace -- CMD`: the program keeps its stdin, stdout and exit status, and is traced from its first instruction.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use memtrace_tests::needs::Need;
use memtrace_tests::run::{Rules, Run};
use memtrace_tests::tempdir::TempDir;
use memtrace_tests::tracer::{Trace, command};
use memtrace_tests::wait;
use memtrace_tests::{exe, needs};

/// Launches a program and waits for both to end; the JSON goes to a file.
fn launch(dir: &TempDir, program: &[&str]) -> (Output, String) {
    let out = dir.join("out");
    let output = command()
        .args(["--format", "json", "-o"])
        .arg(&out)
        .arg("--")
        .args(program)
        .stdin(Stdio::null())
        .output()
        .expect("memtrace starts");
    (output, fs::read_to_string(out).unwrap_or_default())
}

#[test]
fn the_programs_exit_status_is_ours() {
    needs!(Need::Tracing);
    for (program, status) in [
        (&["true"][..], 0),
        (&["false"], 1),
        (&["sh", "-c", "exit 7"], 7),
        (&["sh", "-c", "kill -TERM $$"], 128 + libc::SIGTERM),
        (&["sh", "-c", "kill -KILL $$"], 128 + libc::SIGKILL),
    ] {
        let (output, json) = launch(&TempDir::new(), program);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{program:?}: {stderr}");
        let run = Run::parse(&json, &Rules::default());
        // Even `true` has to be mapped and run.
        assert!(run.summary().count("faults.total") > 0, "{program:?}");
    }
}

#[test]
fn a_program_that_cannot_be_run_is_told_as_a_shell_would() {
    needs!(Need::Tracing);
    let dir = TempDir::new();
    let plain = dir.join("not-executable");
    fs::write(&plain, "text").expect("the directory is ours");
    fs::set_permissions(&plain, fs::Permissions::from_mode(0o644)).expect("the file is ours");
    for (program, status) in [
        (Path::new("/nonexistent"), 127),
        (Path::new("no-such-program-on-the-path"), 127),
        (&plain, 126),
    ] {
        let name = program.to_str().expect("ASCII");
        let (output, _) = launch(&dir, &[name]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{name}: {stderr}");
        assert!(stderr.contains(name), "{stderr}");
        assert!(!stderr.contains("panicked"), "{stderr}");
    }
}

#[test]
fn json_beside_a_program_needs_a_file() {
    let dir = TempDir::new();
    let trail = dir.join("was-run");
    let output = command()
        .args(["--format", "json", "--", "touch"])
        .arg(&trail)
        .output()
        .expect("memtrace starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("-o"), "the remedy is not named: {stderr}");
    assert!(!trail.exists(), "the program was run");
}

#[test]
fn the_program_owns_stdout_and_our_text_goes_to_stderr() {
    needs!(Need::Tracing);
    let output = command()
        .args(["--", "echo", "hello"])
        .stdin(Stdio::null())
        .output()
        .expect("memtrace starts");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "hello\n");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("faults"), "no summary in {stderr}");
}

#[test]
fn a_launched_program_is_counted_from_its_first_instruction() {
    needs!(Need::Tracing);
    let (trace, mut voice) = Trace::launch(&exe!("dontneed_touch").words(), &[]);
    let pid = voice.ready();
    let at_ready = memtrace_tests::counters::Counters::of(pid);
    voice.say("go");
    let truth = voice.truth();
    let at_end = memtrace_tests::counters::Counters::of(pid);
    voice.say("end");
    let run = trace.finish();

    let summary = run.summary();
    let pages = truth.count("pages");
    summary.expect(&[
        ("pid", u64::from(pid)),
        ("image", 0),
        ("advice.MADV_DONTNEED.calls", 1),
        ("advice.MADV_DONTNEED.refaults", pages),
        ("faults.refault_dontneed", pages),
    ]);
    // All of its life counts, not only the measured part: the loader's and libc's start make
    // faults. The kernel's counter has more, since it begins at the fork and counts the pages that
    // the workload populates without a fault (SEMANTICS §3).
    let total = summary.count("faults.total");
    let measured = (at_end - at_ready).all();
    assert!(total > measured, "{total} is not more than {measured}");
    assert!(total <= at_end.all(), "{total} is more than {at_end:?}");
    assert!(summary.count("faults.file") > 0, "in\n{summary}");
    assert!(summary.count("faults.first_touch") > pages, "in\n{summary}");
    // Nothing was there before it, so that anonymous memory is never of unknown origin.
    assert!(summary.count("map.mmap.calls") > 1, "in\n{summary}");
}

#[test]
fn children_of_a_launched_program_are_traced_too() {
    needs!(Need::Tracing);
    let (trace, mut voice) = Trace::launch(&exe!("fork_inherited").words(), &[]);
    let pid = u64::from(voice.ready());
    voice.say("go");
    let truth = voice.truth();
    voice.say("end");
    let run = trace.finish();
    let pages = truth.count("pages");
    for pid in [pid, truth.count("child_pid")] {
        let summary = run.summary_of(pid, 0);
        summary.expect(&[("faults.refault_dontneed", pages)]);
    }
}

#[test]
fn what_a_shell_runs_is_traced_under_its_own_name() {
    needs!(Need::Tracing);
    let dir = TempDir::new();
    // Not the last command, so that the shell stays itself.
    let (output, json) = launch(&dir, &["sh", "-c", "cat /dev/null; exit 3"]);
    assert_eq!(output.status.code(), Some(3));
    let run = Run::parse(&json, &Rules::default());
    let named = |name: &str| -> Vec<_> {
        let all = run.summaries.iter();
        all.filter(|summary| summary.text("comm") == name).collect()
    };
    let (shells, cats) = (named("sh"), named("cat"));
    assert!(!shells.is_empty(), "{:#?}", run.summaries);
    assert_eq!(cats.len(), 1, "{:#?}", run.summaries);
    assert_ne!(cats[0].count("pid"), shells[0].count("pid"));
    // However the shell began it, cat is the image after the child's one exec.
    cats[0].expect(&[("image", 1)]);
    assert!(cats[0].count("faults.total") > 0);
}

#[test]
fn an_interrupt_reaches_the_program_which_decides() {
    needs!(Need::Tracing);
    let dir = TempDir::new();
    let out = dir.join("out");
    let up = dir.join("up");
    // It must not wait in a read: an interrupt that comes just before would be handled after it only.
    let script = format!(
        "trap 'exit 9' INT; : > '{}'; i=0; while [ $i -lt 10000000 ]; do i=$((i+1)); done; exit 1",
        up.display()
    );
    // A terminal sends its interrupt to the whole group in the foreground.
    let mut tracer = command()
        .args(["--format", "json", "-o"])
        .arg(&out)
        .args(["--", "sh", "-c", &script])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .expect("memtrace starts");
    wait::until("the program's start", || up.exists().then_some(()));
    let group = i32::try_from(tracer.id()).expect("pids are small");
    // SAFETY: the group is the child's own, which has not been reaped.
    assert_eq!(unsafe { libc::kill(-group, libc::SIGINT) }, 0);
    let status = wait::until("memtrace's end", || {
        tracer.try_wait().expect("it is our child")
    });
    let output = tracer.wait_with_output().expect("it is our child");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(status.code(), Some(9), "{stderr}");
    let json = fs::read_to_string(out).expect("it was written");
    Run::parse(&json, &Rules::default());
}

#[test]
fn after_its_duration_the_program_runs_on() {
    needs!(Need::Tracing);
    let (trace, mut voice) = Trace::launch(&exe!("waits").words(), &["--duration", "1"]);
    let pid = voice.ready();
    let run = trace.finish();
    run.summary().expect(&[("pid", u64::from(pid))]);
    voice.say("go");
    voice.truth();
    voice.say("end");
}

#[test]
fn another_user_can_be_the_programs() {
    needs!(Need::Tracing, Need::Program("id", "coreutils"));
    let output = command()
        .args(["-q", "--user", "nobody", "--", "id", "-u"])
        .stdin(Stdio::null())
        .output()
        .expect("memtrace starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    let expected = Command::new("id").args(["-u", "nobody"]).output();
    assert_eq!(output.stdout, expected.expect("id runs").stdout);
}
