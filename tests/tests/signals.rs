//! Signals: whom they reach, what a second one does, and what is told afterwards.

use std::fs::{self, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use memtrace_tests::bpf;
use memtrace_tests::needs::Need;
use memtrace_tests::pty::{CTRL_C, Session};
use memtrace_tests::run::{Rules, Run};
use memtrace_tests::tempdir::TempDir;
use memtrace_tests::tracer::command;
use memtrace_tests::wait;
use memtrace_tests::workload::{Voice, Workload};
use memtrace_tests::{exe, needs};

/// Sends a child of ours a signal.
fn signal(child: &Child, number: i32) {
    // SAFETY: the child has not been reaped, so that the pid is its own.
    assert_eq!(unsafe { libc::kill(child.id() as i32, number) }, 0);
}

/// A shell that does something at a signal, and until then works: an interrupt that comes just before a
/// wait would be handled after it only.
fn shell(at_signal: &str, up: &Path) -> String {
    let up = up.display();
    let work = "i=0; while [ $i -lt 10000000 ]; do i=$((i+1)); done; exit 1";
    format!("{at_signal}; : > '{up}'; {work}")
}

/// Fills a pipe that a child writes to, so that its next write waits.
fn fill(pipe: &impl AsRawFd) {
    let mut other = OpenOptions::new()
        .write(true)
        // Opened anew, for the setting is not the child's.
        .custom_flags(libc::O_NONBLOCK)
        .open(format!("/proc/self/fd/{}", pipe.as_raw_fd()))
        .expect("a pipe can be opened anew");
    for block in [&[0; 4096][..], &[0]] {
        loop {
            match other.write(block) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => panic!("filling a pipe: {error}"),
            }
        }
    }
}

/// True where a process's first thread is inside write(2) on its stdout.
fn is_writing(pid: u32) -> bool {
    let call = fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
    call.starts_with(&format!("{} 0x1 ", libc::SYS_write))
}

/// True where a signal was sent to a process and has not reached it yet.
fn is_pending(pid: u32, signal: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let pending = status.lines().find_map(|line| line.strip_prefix("ShdPnd:"));
    let pending = pending.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    pending.expect("proc tells") >> (signal - 1) & 1 == 1
}

#[test]
fn a_second_interrupt_ends_at_once_also_where_nobody_reads() {
    needs!(Need::Tracing);
    for (first, second) in [
        (libc::SIGINT, libc::SIGINT),
        (libc::SIGTERM, libc::SIGINT),
        (libc::SIGINT, libc::SIGTERM),
    ] {
        let mut workload = Workload::start(&exe!("dontneed_touch"), &[]);
        let mut tracer = command()
            .args(["-q", "--no-status", "-p", &workload.pid.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("memtrace starts");
        let mut stdout = BufReader::new(tracer.stdout.take().expect("stdout is piped"));
        let mut header = String::new();
        for _ in 0..2 {
            stdout.read_line(&mut header).expect("it writes text");
        }
        assert!(header.contains("\ntracing workload"), "{header}");
        let programs = bpf::programs_of(tracer.id());
        assert!(!programs.is_empty(), "nothing is attached");
        fill(stdout.get_ref());

        signal(&tracer, first);
        wait::until("the summary that nobody reads", || {
            is_writing(tracer.id()).then_some(())
        });
        assert!(tracer.try_wait().expect("it is our child").is_none());
        signal(&tracer, second);
        let status = wait::until("memtrace's end", || {
            tracer.try_wait().expect("it is our child")
        });
        assert_eq!(status.code(), Some(128 + second));
        let mut stderr = String::new();
        let read = tracer
            .stderr
            .take()
            .map(|mut pipe| pipe.read_to_string(&mut stderr));
        read.expect("stderr is piped").expect("it is text");
        assert_eq!(stderr, "");
        bpf::wait_until_gone(&programs);
        // The target never noticed.
        let truth = workload.go();
        workload.end();
        truth.expect(&[("minflt", 2 * truth.count("pages"))]);
    }
}

#[test]
fn a_signal_to_memtrace_alone_is_passed_on_and_the_command_decides() {
    needs!(Need::Tracing);
    for (number, name) in [(libc::SIGTERM, "TERM"), (libc::SIGHUP, "HUP")] {
        for (at_signal, said, status) in [
            (
                format!("trap 'echo heard {name}; exit 9' {name}"),
                format!("heard {name}\n"),
                9,
            ),
            // One that does nothing about it is ended by it.
            (":".to_owned(), String::new(), 128 + number),
        ] {
            let dir = TempDir::new();
            let (out, up) = (dir.join("out"), dir.join("up"));
            let tracer = command()
                .args(["--format", "json", "-o"])
                .arg(&out)
                .args(["--", "sh", "-c", &shell(&at_signal, &up)])
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .expect("memtrace starts");
            wait::until("the command's start", || up.exists().then_some(()));
            signal(&tracer, number);
            let output = tracer.wait_with_output().expect("it is our child");
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(status), "{at_signal}: {stderr}");
            assert_eq!(String::from_utf8_lossy(&output.stdout), said);
            assert_eq!(stderr, "");
            let run = Run::parse(
                &fs::read_to_string(&out).expect("it was written"),
                &Rules::default(),
            );
            let summary = run.summary_of(run.header.list("targets")[0].count("pid"), 0);
            match status {
                9 => summary.expect(&[("exit_status", 9)]),
                _ => summary.expect(&[("exit_signal", number as u64)]),
            }
        }
    }
}

#[test]
fn a_terminals_interrupt_is_the_commands_first_and_the_summary_follows() {
    needs!(Need::Tracing);
    let dir = TempDir::new();
    let up = dir.join("up");
    let mut tracer = command();
    let script = shell("trap 'echo heard INT; exit 9' INT", &up);
    tracer.args(["-q", "--no-status", "--", "sh", "-c", &script]);
    let mut session = Session::start(tracer, 200, 50);
    wait::until("the command's start", || up.exists().then_some(()));
    session.press(CTRL_C);
    let status = session.wait();
    let lines = session.screen().lines();
    assert_eq!(status.code(), Some(9), "{lines:#?}");
    let place = |is_it: &dyn Fn(&String) -> bool| {
        let found = lines.iter().position(is_it);
        found.unwrap_or_else(|| panic!("{lines:#?}"))
    };
    // The terminal may show the key beside it.
    let heard = place(&|line| line.contains("heard INT"));
    let summary = place(&|line| line.starts_with("sh (pid "));
    assert!(heard < summary, "{lines:#?}");
    let title = &lines[summary];
    assert!(title.contains("exited with 9"), "{title}");
    assert!(title.ends_with("complete, nothing lost"), "{title}");
}

#[test]
fn a_command_that_ignores_the_interrupt_runs_on_when_the_second_ends_the_trace() {
    needs!(Need::Tracing);
    let dir = TempDir::new();
    let out = dir.join("out");
    let mut words = exe!("dontneed_touch").words().into_iter();
    let program = words.next().expect("a program has a path");
    // What is ignored stays ignored after an exec.
    let script = r#"trap '' INT; exec "$0" "$@""#;
    let mut tracer = Command::new(command().get_program());
    tracer
        .args(["--format", "json", "-o"])
        .arg(&out)
        .args(["--", "sh", "-c", script])
        .arg(program)
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut tracer = tracer.spawn().expect("memtrace starts");
    let mut voice = Voice::of(&mut tracer);
    let pid = u64::from(voice.ready());
    signal(&tracer, libc::SIGINT);
    // It goes on, and is traced further.
    voice.say("go");
    let truth = voice.truth();
    // Two that are pending are one.
    wait::until("the first to arrive", || {
        (!is_pending(tracer.id(), libc::SIGINT)).then_some(())
    });
    assert!(tracer.try_wait().expect("it is our child").is_none());
    signal(&tracer, libc::SIGINT);
    let status = wait::until("memtrace's end", || {
        tracer.try_wait().expect("it is our child")
    });
    // Nobody knows yet what the command's will be.
    assert_eq!(status.code(), Some(0));
    let json = fs::read_to_string(&out).expect("it was written");
    let run = Run::parse(&json, &Rules::default());
    run.summary_of(pid, 1).expect(&[
        ("advice.MADV_DONTNEED.calls", 1),
        ("faults.refault_dontneed", truth.count("pages")),
    ]);
    voice.say("end");
}
