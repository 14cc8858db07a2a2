//! On a terminal: the status stays below a stream that can be read, and nothing of it is left behind.

use std::fs;
use std::process::{Command, Stdio};

use memtrace_tests::needs::Need;
use memtrace_tests::pty::{CTRL_C, Session};
use memtrace_tests::screen::Screen;
use memtrace_tests::tempdir::TempDir;
use memtrace_tests::tracer::command;
use memtrace_tests::wait;
use memtrace_tests::workload::Workload;
use memtrace_tests::{exe, needs};

/// More than any line takes.
const WIDE: u16 = 200;
const HIGH: u16 = 24;
/// Columns behind a status that is cut.
const FREE: usize = 3;
/// What takes a status off the screen.
const CLEAR: &str = "\r\u{1b}[J";

/// memtrace on a process, with a status every so often.
fn tracing(pid: u32, extra: &[&str]) -> Command {
    let mut tracer = command();
    tracer
        .args(["--interval", "0.1", "-p", &pid.to_string()])
        .args(extra);
    tracer
}

/// How the status of a workload begins, as no other line does.
fn status_of(workload: &Workload) -> String {
    format!("{} workload", workload.pid)
}

/// A line of the stream: it begins with the time of a call or a fault.
fn is_of_stream(line: &str) -> bool {
    seconds(line).is_some() && !line.contains(" LOST ")
}

/// The time that a line begins with, in whole seconds.
fn seconds(line: &str) -> Option<u64> {
    let (whole, part) = line.split_whitespace().next()?.split_once('.')?;
    part.strip_suffix('s')?.parse::<u64>().ok()?;
    whole.parse().ok()
}

#[test]
fn the_status_stays_below_the_stream_and_is_gone_before_the_summary() {
    needs!(Need::Tracing);
    // The header and four lines of the stream are one more than there is room for above the status.
    let rows = 6;
    let mut workload = Workload::start(&exe!("dontneed_touch"), &[]);
    let status = status_of(&workload);
    let mut session = Session::start(tracing(workload.pid, &[]), WIDE, rows);
    session.until("the first status", |screen| {
        screen.last().starts_with(&status)
    });
    workload.go();
    let screen = session.until("a refault and the status below it", |screen| {
        let mut lines = screen.lines().into_iter();
        lines.any(|line| line.contains("refault DONTNEED")) && screen.last().starts_with(&status)
    });
    assert!(screen.is_at_bottom(), "{:#?}", screen.lines());
    session.press(CTRL_C);
    assert_eq!(
        session.wait().code(),
        Some(0),
        "{:#?}",
        session.screen().lines()
    );
    workload.end();

    // Wherever a line ends, it is above the status or the status is not there.
    let bytes = session.bytes();
    let screen = Screen::replay(&bytes, WIDE.into(), rows.into(), |screen| {
        let mut lines = screen.lines().into_iter();
        let row = lines.find(|line| line.starts_with(&status));
        assert_eq!(row, None, "{:#?}", screen.lines());
    });
    // Nothing of it stays, and the summary follows the stream.
    let lines = screen.lines();
    let summary = lines
        .iter()
        .position(|line| line.starts_with("workload (pid "));
    let summary = summary.unwrap_or_else(|| panic!("no summary in {lines:#?}"));
    assert!(
        lines[summary].ends_with("complete, nothing lost"),
        "{lines:#?}"
    );
    assert_eq!(lines[summary - 1], "");
    let (header, stream) = lines[..summary - 1].split_at(2);
    assert!(header[0].starts_with("memtrace "), "{lines:#?}");
    assert!(
        header[1].starts_with("tracing workload (pid "),
        "{lines:#?}"
    );
    assert!(stream.len() >= 4, "{lines:#?}");
    assert!(stream.iter().all(|line| is_of_stream(line)), "{lines:#?}");
    // The cursor is left at the beginning of a line.
    assert_eq!(screen.last(), "");
}

#[test]
fn several_processes_have_a_row_each() {
    needs!(Need::Tracing);
    let workloads = [(); 2].map(|()| Workload::start(&exe!("waits"), &[]));
    let [first, second] = [&workloads[0], &workloads[1]].map(status_of);
    let both = tracing(workloads[0].pid, &["-p", &workloads[1].pid.to_string()]);
    let mut session = Session::start(both, WIDE, HIGH);
    let redrawn = "\r\u{1b}[1A\u{1b}[J";
    session.until("rows that were drawn again", |screen| {
        let again = String::from_utf8_lossy(&session.bytes()).contains(redrawn);
        again && screen.last().starts_with(&second)
    });
    let rows_of = |screen: &Screen, status: &str| -> usize {
        let lines = screen.lines();
        lines.iter().filter(|line| line.starts_with(status)).count()
    };
    let screen = session.until("both rows", |screen| screen.last().starts_with(&second));
    let lines = screen.lines();
    assert!(lines[lines.len() - 2].starts_with(&first), "{lines:#?}");
    assert_eq!(rows_of(&screen, &first), 1, "{lines:#?}");
    assert_eq!(rows_of(&screen, &second), 1, "{lines:#?}");
    session.signal(libc::SIGINT);
    assert_eq!(session.wait().code(), Some(0));
    let screen = session.screen();
    let left = rows_of(&screen, &first) + rows_of(&screen, &second);
    assert_eq!(left, 0, "{:#?}", screen.lines());
}

#[test]
fn a_terminal_gets_no_more_lines_than_can_be_read_and_is_told_of_the_rest() {
    needs!(Need::Tracing);
    for all in [false, true] {
        let mut workload = Workload::start(&exe!("threads_churn"), &[]);
        let mut tracer = tracing(workload.pid, &["-e", "madvise,mmap,munmap"]);
        if all {
            tracer.arg("--all-lines");
        }
        let mut session = Session::start(tracer, WIDE, HIGH);
        let status = status_of(&workload);
        session.until("the first status", |screen| {
            screen.last().starts_with(&status)
        });
        let maps = workload.go().count("maps");
        // A key that is pressed would be shown in the middle of a line.
        session.signal(libc::SIGINT);
        assert_eq!(session.wait().code(), Some(0));
        workload.end();

        let lines = session.screen().lines();
        let complete = |line: &String| line.ends_with("complete, nothing lost");
        let summary = &lines[lines.len().saturating_sub(40)..];
        assert!(summary.iter().any(complete), "{summary:#?}");
        let shown: Vec<u64> = lines.iter().filter_map(|line| seconds(line)).collect();
        let told = lines.iter().filter_map(|line| hidden(line));
        let told: Vec<u64> = told.collect();
        // A map, two give-backs and an unmap each.
        let counted = shown.len() as u64 + told.iter().sum::<u64>();
        assert_eq!(counted, 4 * maps, "{told:?} of {maps} maps");
        assert_eq!(told.is_empty(), all, "{told:?}");
        // A second of the clock meets no more than two of the cap's own, of 50 lines each.
        let most = shown.chunk_by(|a, b| a == b).map(<[u64]>::len).max();
        assert!(all || most <= Some(100), "{most:?} lines in a second");
    }
}

/// How many lines were left out, of a line that tells.
fn hidden(line: &str) -> Option<u64> {
    let told = line.strip_suffix(" not shown (--all-lines shows them)")?;
    let number = told.split_whitespace().nth(1)?.replace(',', "");
    Some(number.parse().expect("a number"))
}

#[test]
fn a_narrow_terminal_cuts_the_status_instead_of_wrapping_it() {
    needs!(Need::Tracing);
    let columns = 20;
    let workload = Workload::start(&exe!("waits"), &[]);
    let status = status_of(&workload);
    let mut session = Session::start(tracing(workload.pid, &["-q"]), columns, HIGH);
    let screen = session.until("a status that was drawn again and again", |screen| {
        let cleared = String::from_utf8_lossy(&session.bytes())
            .matches(CLEAR)
            .count();
        cleared >= 3 && screen.last().starts_with(&status)
    });
    let lines = screen.lines();
    let drawn: Vec<&String> = lines
        .iter()
        .filter(|line| line.starts_with(&status))
        .collect();
    assert_eq!(drawn, [&screen.last()], "{lines:#?}");
    // The last column stays empty, for some terminals would wrap, and so does room for a key before it.
    assert_eq!(
        drawn[0].chars().count(),
        usize::from(columns) - FREE,
        "{lines:#?}"
    );
    assert!(drawn[0].ends_with('…'), "{lines:#?}");
    session.signal(libc::SIGINT);
    assert_eq!(session.wait().code(), Some(0));
    let lines = session.screen().lines();
    assert!(
        !lines.iter().any(|line| line.starts_with(&status)),
        "{lines:#?}"
    );
}

#[test]
fn the_key_that_ends_the_trace_is_shown_and_leaves_nothing_of_the_status_behind() {
    needs!(Need::Tracing);
    for columns in [20, 80] {
        let workload = Workload::start(&exe!("waits"), &[]);
        let status = status_of(&workload);
        let mut session = Session::start(tracing(workload.pid, &["-q"]), columns, HIGH);
        // Cut, and so as wide as one can be.
        session.until("a status", |screen| {
            let last = screen.last();
            last.starts_with(&status) && last.ends_with('…')
        });
        session.press(CTRL_C);
        assert_eq!(session.wait().code(), Some(0));
        assert!(session.bytes().windows(2).any(|two| two == b"^C"));
        let lines = session.screen().lines();
        assert!(
            !lines.iter().any(|line| line.starts_with(&status)),
            "{lines:#?}"
        );
    }
}

#[test]
fn a_terminal_that_changes_its_size_has_the_next_status_cut_to_that() {
    needs!(Need::Tracing);
    let workload = Workload::start(&exe!("waits"), &[]);
    let status = status_of(&workload);
    let mut session = Session::start(tracing(workload.pid, &["-q"]), WIDE, HIGH);
    let screen = session.until("a whole status", |screen| {
        let last = screen.last();
        last.starts_with(&status) && last.ends_with("lost 0")
    });
    assert!(screen.last().chars().count() > 40, "{}", screen.last());
    session.resize(40, HIGH);
    session.until("a status of the new size", |screen| {
        let last = screen.last();
        last.starts_with(&status) && last.ends_with('…') && last.chars().count() == 40 - FREE
    });
    session.resize(WIDE, HIGH);
    session.until("a whole status again", |screen| {
        let last = screen.last();
        last.starts_with(&status) && last.ends_with("lost 0")
    });
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    needs!(Need::Tracing);
    /// Refaults stand out.
    const BOLD_YELLOW: &str = "\u{1b}[1m\u{1b}[33mrefault DONTNEED";
    let in_colour = |extra: &[&str], environment: (&str, &str)| -> String {
        let mut workload = Workload::start(&exe!("dontneed_touch"), &[]);
        let mut tracer = tracing(workload.pid, extra);
        // Inherited by the terminal's own settings, which come after.
        let (name, value) = environment;
        let mut shell = Command::new("env");
        shell
            .arg(format!("{name}={value}"))
            .arg(tracer.get_program());
        shell.args(tracer.get_args());
        tracer = shell;
        let mut session = Session::start(tracer, WIDE, HIGH);
        let status = status_of(&workload);
        session.until("the first status", |screen| {
            screen.last().starts_with(&status)
        });
        workload.go();
        session.signal(libc::SIGINT);
        assert_eq!(session.wait().code(), Some(0));
        workload.end();
        String::from_utf8(session.bytes()).expect("it is UTF-8")
    };
    let text = in_colour(&[], ("TERM", "xterm"));
    assert!(text.contains(BOLD_YELLOW), "{text:?}");
    for (extra, environment) in [
        (&[][..], ("NO_COLOR", "1")),
        (&[], ("TERM", "dumb")),
        (&["--color", "never"], ("TERM", "xterm")),
    ] {
        let text = in_colour(extra, environment);
        assert!(text.contains("refault DONTNEED"), "{text:?}");
        let screen = Screen::of(text.as_bytes(), WIDE.into(), HIGH.into());
        assert!(!screen.styled, "{environment:?}: {text:?}");
    }
}

#[test]
fn a_file_and_a_pipe_get_whole_lines_without_escapes() {
    needs!(Need::Tracing);
    for to_file in [true, false] {
        let mut workload = Workload::start(&exe!("dontneed_touch"), &[]);
        let status = format!("  {}", status_of(&workload));
        let dir = TempDir::new();
        let out = dir.join("out");
        let written = || fs::read_to_string(&out).unwrap_or_default();
        let is_status = |line: &str| line.contains(&status) && line.ends_with("lost 0");
        let statuses = || written().lines().filter(|line| is_status(line)).count();
        let wait_for_more = || {
            let before = statuses();
            wait::until("a status line", || (statuses() > before).then_some(()));
        };
        let mut tracer = tracing(workload.pid, &[]);
        let text = if to_file {
            // Its own stdout is a terminal all the same.
            tracer.arg("-o").arg(&out);
            let mut session = Session::start(tracer, WIDE, HIGH);
            wait_for_more();
            workload.go();
            wait_for_more();
            session.signal(libc::SIGINT);
            assert_eq!(session.wait().code(), Some(0));
            assert_eq!(String::from_utf8_lossy(&session.bytes()), "");
            written()
        } else {
            // A pipe that cat empties into the file.
            let file = fs::File::create(&out).expect("the directory is ours");
            let mut tracer = tracer
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .spawn()
                .expect("memtrace starts");
            let pipe = tracer.stdout.take().expect("stdout is piped");
            let mut cat = Command::new("cat")
                .stdin(pipe)
                .stdout(file)
                .spawn()
                .expect("cat starts");
            wait_for_more();
            workload.go();
            wait_for_more();
            // SAFETY: the child has not been reaped, so that the pid is its own.
            unsafe { libc::kill(tracer.id() as i32, libc::SIGINT) };
            assert!(tracer.wait().expect("it is our child").success());
            assert!(cat.wait().expect("it is our child").success());
            written()
        };
        workload.end();
        let acts = |c: &char| c.is_control() && *c != '\n';
        assert_eq!(text.chars().find(acts), None, "{text:?}");
        let lines: Vec<&str> = text.lines().collect();
        let statuses = lines.iter().filter(|line| is_status(line)).count();
        assert!(statuses >= 2, "{text}");
        assert!(text.contains("refault DONTNEED"), "{text}");
        assert!(text.contains("\nworkload (pid "), "{text}");
    }
}
