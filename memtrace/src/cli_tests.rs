//! Tests of command lines: what each means, and which are refused with exit status 2.

use proptest::prelude::*;

use super::*;
use crate::attach;
use crate::config::{Config, Sink, Target};

const PLAIN: Surroundings = Surroundings {
    stdout_is_terminal: false,
    stderr_is_terminal: false,
    no_color: false,
};
const TERMINAL: Surroundings = Surroundings {
    stdout_is_terminal: true,
    stderr_is_terminal: true,
    no_color: false,
};

fn action(args: &[&str], surroundings: &Surroundings) -> Result<Action, clap::Error> {
    let args = std::iter::once("memtrace").chain(args.iter().copied());
    action_from(args.map(OsString::from), surroundings)
}

fn trace_in(args: &[&str], surroundings: &Surroundings) -> Config {
    match action(args, surroundings) {
        Ok(Action::Trace(config)) => config,
        other => panic!("{args:?}: {other:?}"),
    }
}

fn trace(args: &[&str]) -> Config {
    trace_in(args, &PLAIN)
}

/// The text of a refusal; its exit status must be 2.
fn refusal(args: &[&str]) -> String {
    let error = action(args, &PLAIN).expect_err(&format!("{args:?}"));
    assert_eq!(error.exit_code(), 2, "{args:?}");
    error.to_string()
}

#[test]
fn the_definition_of_the_command_line_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn pids_may_come_in_any_usual_form() {
    for args in [
        &["-p", "1,2,3"][..],
        &["-p", "1 2 3"],
        &["-p", "1, 2\n3 "],
        &["-p1", "-p", "2,3"],
        &["--pid", "1", "--pid=2", "-p", "3"],
        &["-p", "1,2,2,3,1"],
    ] {
        assert_eq!(trace(args).target, Target::Pids(vec![1, 2, 3]), "{args:?}");
    }
}

#[test]
fn what_is_no_pid_is_refused_with_a_hint() {
    for word in [
        "0",
        "-1",
        "x",
        "1,x",
        "2147483648",
        "99999999999999999999",
        "+-1",
    ] {
        assert!(refusal(&["-p", word]).contains("pid"), "{word}");
    }
    assert!(refusal(&["-p", ""]).contains("did pidof"));
    assert!(refusal(&["-p", " , "]).contains("did pidof"));
    assert!(refusal(&["-p", "1", "2"]).contains("in quotes"));
}

#[test]
fn everything_behind_two_dashes_is_the_command() {
    let config = trace(&["--user", "www", "--", "ls", "-p", "--", "demo"]);
    assert_eq!(
        config.target,
        Target::Launch {
            argv: ["ls", "-p", "--", "demo"].map(OsString::from).to_vec(),
            user: Some("www".to_owned()),
        }
    );
    assert!(config.follow_forks);
    assert!(matches!(
        trace(&["--", "doctor"]).target,
        Target::Launch { .. }
    ));
}

#[test]
fn a_command_without_two_dashes_is_refused_with_them() {
    let text = refusal(&["ls"]);
    assert!(text.contains("memtrace -- ls"), "{text}");
}

#[test]
fn one_run_has_one_kind_of_target() {
    assert!(refusal(&[]).contains("nothing to trace"));
    assert!(refusal(&["-q", "--duration", "1"]).contains("nothing to trace"));
    assert!(refusal(&["-p", "1", "--", "ls"]).contains("cannot be combined"));
    assert!(refusal(&["--user", "x"]).contains("--user"));
    assert!(refusal(&["--user", "x", "-p", "1"]).contains("--user"));
    assert!(refusal(&["-f"]).contains("nothing to trace"));
    refusal(&["--"]);
    for sub in ["demo", "doctor"] {
        for args in [&["-p", "1"][..], &["-f"], &["--user", "x"]] {
            let mut args = args.to_vec();
            args.push(sub);
            assert!(refusal(&args).contains("takes no"), "{args:?}");
        }
        refusal(&[sub, "-p", "1"]);
        refusal(&[sub, "--", "ls"]);
    }
}

#[test]
fn common_options_go_before_and_after_demo() {
    for args in [
        &["--duration", "0.5", "--format", "json", "-vv", "-q", "demo"][..],
        &["demo", "--duration", "0.5", "--format", "json", "-vv", "-q"],
        &[
            "--duration",
            "0.5",
            "-q",
            "demo",
            "--format=json",
            "-v",
            "-v",
        ],
    ] {
        let config = trace(args);
        assert_eq!(config.target, Target::Demo, "{args:?}");
        assert_eq!(
            config.duration,
            Some(Duration::from_millis(500)),
            "{args:?}"
        );
        assert_eq!(config.report.format, Format::Json, "{args:?}");
        assert_eq!((config.verbose, config.stream), (2, false), "{args:?}");
    }
}

#[test]
fn doctor_takes_a_format_and_a_file() {
    let Ok(Action::Doctor(report)) = action(&["doctor", "--format", "json", "-o", "x"], &PLAIN)
    else {
        panic!("not a doctor");
    };
    assert_eq!(
        (report.format, report.sink),
        (Format::Json, Sink::File("x".into()))
    );
    assert_eq!(
        action(&["demo-workload"], &PLAIN).unwrap(),
        Action::DemoWorkload
    );
}

#[test]
fn options_of_a_trace_are_refused_where_they_would_do_nothing() {
    for (args, option) in [
        (&["doctor", "--duration", "5"][..], "--duration"),
        (&["-e", "fault", "doctor"], "--events"),
        (&["reclaim", "-p", "1", "-q"], "--quiet"),
        (&["--exact-bytes", "reclaim", "-p", "1"], "--exact-bytes"),
    ] {
        let error = action(args, &PLAIN).unwrap_err().to_string();
        let words = format!("{option} is not valid for `memtrace ");
        assert!(error.contains(&words), "{args:?}: {error}");
    }
    assert!(action(&["doctor", "-v", "--color", "never"], &PLAIN).is_ok());
    assert!(action(&["reclaim", "-p", "1", "--all-lines"], &PLAIN).is_ok());
}

fn reclaim_in(args: &[&str], surroundings: &Surroundings) -> crate::config::Reclaim {
    match action(args, surroundings) {
        Ok(Action::Reclaim(config)) => config,
        other => panic!("{args:?}: {other:?}"),
    }
}

#[test]
fn reclaim_takes_pids_on_either_side_and_its_own_options() {
    for args in [
        &["reclaim", "-p", "1,2"][..],
        &["reclaim", "-p1", "--pid", "2 1"],
        &["-p", "1", "reclaim", "-p", "2"],
        &["-p", "1 2", "reclaim"],
    ] {
        let config = reclaim_in(args, &PLAIN);
        assert_eq!(config.pids, [1, 2], "{args:?}");
        assert!(!config.dry_run && !config.allow_swap && !config.list_all);
    }
    let args = [
        "reclaim",
        "-p1",
        "--dry-run",
        "--allow-swap",
        "-v",
        "--format",
        "json",
        "-o",
        "x",
    ];
    let config = reclaim_in(&args, &PLAIN);
    assert!(config.dry_run && config.allow_swap && config.list_all);
    assert_eq!(config.report.sink, Sink::File("x".into()));
    assert_eq!(config.report.format, Format::Json);
}

#[test]
fn reclaim_shows_progress_on_a_terminal_or_when_asked_to() {
    use crate::config::ProgressStyle;
    let style = |args: &[&str], surroundings| reclaim_in(args, surroundings).progress;
    assert_eq!(style(&["reclaim", "-p1"], &PLAIN), ProgressStyle::Silent);
    assert_eq!(
        style(&["reclaim", "-p1", "-v"], &PLAIN),
        ProgressStyle::Lines
    );
    assert_eq!(
        style(&["reclaim", "-p1"], &TERMINAL),
        ProgressStyle::InPlace
    );
}

#[test]
fn reclaim_needs_a_pid_and_traces_nothing() {
    assert!(refusal(&["reclaim"]).contains("needs -p PID"));
    assert!(refusal(&["reclaim", "-p", "x"]).contains("pid"));
    assert!(refusal(&["-f", "reclaim", "-p1"]).contains("takes -p PID, but no -f"));
    assert!(refusal(&["--user", "x", "reclaim", "-p1"]).contains("takes -p PID"));
    refusal(&["reclaim", "-p1", "-f"]);
    refusal(&["-p1", "--dry-run"]);
    let help = action(&["reclaim", "--help"], &PLAIN).unwrap_err();
    assert_eq!(help.exit_code(), 0);
    for word in [
        "--dry-run",
        "--allow-swap",
        "CAP_SYS_NICE",
        "--verbose",
        "--method",
        "--whole-cgroup",
        "--max",
        "--watch",
    ] {
        assert!(help.to_string().contains(word), "{word}");
    }
    assert!(help.to_string().lines().all(|line| line.len() <= 110));
}

#[test]
fn reclaim_has_three_methods_and_each_option_belongs_to_one() {
    use crate::config::Method;
    let of = |more: &[&str]| {
        let config = reclaim_in(&[&["reclaim", "-p1"], more].concat(), &PLAIN);
        (config.method, config.watch)
    };
    assert_eq!(of(&[]), (Method::Pageout, None));
    assert_eq!(of(&["--method", "pageout"]).0, Method::Pageout);
    assert_eq!(
        of(&["--method", "cgroup"]).0,
        Method::Cgroup { whole: false }
    );
    assert_eq!(
        of(&["--method", "cgroup", "--whole-cgroup", "--watch", "1.5"]),
        (
            Method::Cgroup { whole: true },
            Some(Duration::from_millis(1500))
        )
    );
    assert_eq!(
        of(&["--method=balloon", "--max", "4G"]).0,
        Method::Balloon { max_bytes: 4 << 30 }
    );
    for (args, said) in [
        (&["--whole-cgroup"][..], "requires --method cgroup"),
        (
            &["--method=balloon", "--max=1M", "--whole-cgroup"],
            "requires --method cgroup",
        ),
        (&["--max", "1G"], "requires --method balloon"),
        (
            &["--method=cgroup", "--max=1G"],
            "requires --method balloon",
        ),
        (&["--method=balloon"], "needs --max BYTES"),
        (&["--method=balloon", "--max=0"], "more than 0"),
        (
            &["--dry-run", "--watch", "3"],
            "cannot be used with --dry-run",
        ),
        (&["--watch", "0"], "0.001 seconds"),
        (&["--method", "magic"], "pageout"),
    ] {
        let refusal = refusal(&[&["reclaim", "-p1"], args].concat());
        assert!(refusal.contains(said), "{args:?}: {refusal}");
    }
    refusal(&["-p1", "--method=cgroup"]);
}

#[test]
fn the_defaults_are_those_of_the_contract() {
    let config = trace(&["-p", "7"]);
    assert_eq!(config.interval, Duration::from_secs(1));
    assert_eq!(
        (config.duration, config.follow_forks, config.verbose),
        (None, false, 0)
    );
    assert!(config.stream && config.status && config.notes.is_empty());
    assert_eq!((config.ringbuf_bytes, config.fault_source), (8 << 20, None));
    assert_eq!(
        (config.report.sink, config.filter.min_bytes),
        (Sink::Stdout, 0)
    );
    assert!(
        Kind::ALL
            .into_iter()
            .all(|kind| config.filter.kinds.contains(kind))
    );
}

#[test]
fn gos_lines_come_from_a_file_stdin_or_the_commands_stderr() {
    use crate::config::GcSource;
    let source = |args: &[&str]| trace(args).gctrace;
    assert_eq!(source(&["-p", "7"]), None);
    assert_eq!(
        source(&["-p", "7", "--gctrace", "gc.log"]),
        Some(GcSource::File("gc.log".into()))
    );
    assert_eq!(
        source(&["-p", "7", "--gctrace", "-"]),
        Some(GcSource::Stdin)
    );
    assert_eq!(
        source(&["--gctrace", "stderr", "--", "server"]),
        Some(GcSource::CommandStderr)
    );
    assert_eq!(
        source(&["--gctrace", "./stderr", "-p", "7"]),
        Some(GcSource::File("./stderr".into()))
    );
    let text = refusal(&["-p", "7", "--gctrace", "stderr"]);
    assert!(text.contains("/proc/PID/fd/2"), "{text}");
    let text = refusal(&["--gctrace", "-", "--", "server"]);
    assert!(text.contains("--gctrace stderr"), "{text}");
    for sub in [&["demo"][..], &["doctor"], &["reclaim", "-p", "7"]] {
        let args = [&["--gctrace", "gc.log"], sub].concat();
        assert!(refusal(&args).contains("--gctrace goes with"), "{args:?}");
    }
    // What the command loses by it is said with -v.
    let notes = |surroundings| {
        let config = trace_in(&["--gctrace", "stderr", "--", "server"], surroundings);
        config.notes.len()
    };
    assert_eq!((notes(&PLAIN), notes(&TERMINAL)), (0, 1));
}

#[test]
fn times_have_fractions_and_are_more_than_nothing() {
    let config = trace(&["-p", "7", "--interval", "0.25", "--duration", "90"]);
    assert_eq!(config.interval, Duration::from_millis(250));
    assert_eq!(config.duration, Some(Duration::from_secs(90)));
    for word in ["0", "-1", "nan", "inf", "1e300", "1e-9", "x", ""] {
        refusal(&["-p", "7", "--interval", word]);
        refusal(&["-p", "7", "--duration", word]);
    }
}

#[test]
fn events_and_sizes_filter_the_stream() {
    let config = trace(&[
        "-p",
        "7",
        "-e",
        "madvise,fault",
        "-e",
        "brk",
        "--min-size",
        "64K",
    ]);
    let shown: Vec<_> = Kind::ALL
        .into_iter()
        .filter(|&k| config.filter.kinds.contains(k))
        .collect();
    assert_eq!(shown, [Kind::Madvise, Kind::Brk, Kind::Fault]);
    assert_eq!(config.filter.min_bytes, 64 * 1024);
    assert!(refusal(&["-p", "7", "-e", "madvise,nonsense"]).contains("munmap"));
    refusal(&["-p", "7", "-e", ""]);
    refusal(&["-p", "7", "--min-size", "many"]);
}

#[test]
fn a_thousand_programs_that_have_ended_keep_a_summary_or_as_many_as_are_asked_for() {
    assert_eq!(trace(&["-p", "7"]).summaries, 1000);
    assert_eq!(trace(&["--summaries", "0", "--", "make"]).summaries, 0);
    assert_eq!(trace(&["demo", "--summaries", "5"]).summaries, 5);
    refusal(&["-p", "7", "--summaries", "-1"]);
    assert!(
        refusal(&["doctor", "--summaries", "5"]).contains("is not valid for `memtrace doctor`")
    );
}

#[test]
fn a_command_keeps_stdout_and_json_needs_a_file_then() {
    assert_eq!(trace(&["--", "ls"]).report.sink, Sink::Stderr);
    assert_eq!(
        trace(&["-o", "x", "--", "ls"]).report.sink,
        Sink::File("x".into())
    );
    assert!(refusal(&["--format", "json", "--", "ls"]).contains("-o FILE"));
    let config = trace(&["--format", "json", "-o", "x", "--", "ls"]);
    assert_eq!(config.report.sink, Sink::File("x".into()));
    // The demo's program prints nothing.
    assert_eq!(
        trace(&["--format", "json", "demo"]).report.sink,
        Sink::Stdout
    );
}

#[test]
fn colours_follow_the_option_then_no_color_then_the_terminal() {
    let no_color = Surroundings {
        no_color: true,
        ..TERMINAL
    };
    let color = |args: &[&str], surroundings| {
        let mut args = args.to_vec();
        args.extend(["-p", "7"]);
        trace_in(&args, surroundings).report.color
    };
    assert!(color(&[], &TERMINAL));
    assert!(!color(&[], &PLAIN));
    assert!(!color(&[], &no_color));
    assert!(color(&["--color", "always"], &no_color));
    assert!(color(&["--color=always"], &PLAIN));
    assert!(!color(&["--color", "never"], &TERMINAL));
    assert!(!color(&["-o", "x"], &TERMINAL));
    assert!(!color(
        &["--color", "always", "--format", "json"],
        &TERMINAL
    ));
}

#[test]
fn only_text_on_a_terminal_is_capped() {
    let cap = |args: &[&str], surroundings| trace_in(args, surroundings).lines_per_second;
    assert_eq!(cap(&["-p", "7"], &TERMINAL), Some(50));
    assert_eq!(cap(&["--", "ls"], &TERMINAL), Some(50));
    assert_eq!(cap(&["-p", "7"], &PLAIN), None);
    assert_eq!(cap(&["-p", "7", "--all-lines"], &TERMINAL), None);
    assert_eq!(cap(&["-p", "7", "--format", "json"], &TERMINAL), None);
    assert_eq!(cap(&["-p", "7", "-o", "x"], &TERMINAL), None);
}

#[test]
fn the_ring_buffer_is_rounded_up_and_that_is_said() {
    let size = |word: &str| trace(&["-p", "7", "--ringbuf-size", word]);
    assert_eq!(
        (size("64M").ringbuf_bytes, size("64M").notes.len()),
        (64 << 20, 0)
    );
    let odd = size("5M");
    assert_eq!(odd.ringbuf_bytes, 8 << 20);
    assert!(odd.notes[0].contains("rounded up"), "{:?}", odd.notes);
    assert_eq!(
        u64::from(size("1").ringbuf_bytes),
        crate::proc::page_bytes()
    );
    assert_eq!(size("2G").ringbuf_bytes, 1 << 31);
    assert!(refusal(&["-p", "7", "--ringbuf-size", "3G"]).contains("at most"));
    assert!(refusal(&["-p", "7", "--ringbuf-size", "0"]).contains("more than 0"));
}

#[test]
fn fault_sources_have_the_names_that_the_header_shows() {
    for source in attach::FaultSource::ALL {
        let config = trace(&["-p", "7", "--fault-source", source.name()]);
        assert_eq!(config.fault_source, Some(source));
    }
    refusal(&["-p", "7", "--fault-source", "kprobe"]);
}

#[test]
fn help_shows_the_examples_and_every_option() {
    for flag in ["-h", "--help"] {
        let help = action(&[flag], &PLAIN).unwrap_err();
        assert_eq!(help.exit_code(), 0);
        let text = help.to_string();
        for word in [
            "sudo memtrace demo",
            "--pid",
            "--follow-forks",
            "--user",
            "--gctrace",
            "--duration",
            "--interval",
            "--quiet",
            "--no-status",
            "--events",
            "--min-size",
            "--summaries",
            "--format",
            "--output",
            "--color",
            "--verbose",
            "--ringbuf-size",
            "--all-lines",
            "--fault-source",
            "doctor",
            "reclaim",
        ] {
            assert!(text.contains(word), "{flag}: {word}");
        }
        assert!(!text.contains("demo-workload") && !text.contains("balloon-worker"));
        assert!(text.lines().all(|line| line.len() <= 110), "{text}");
    }
}

proptest! {
    #[test]
    fn any_words_are_survived(words in proptest::collection::vec("(-p|-e|-o|--|--interval|demo|[ -~]{0,8})", 0..8)) {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let _ = action(&words, &PLAIN);
    }
}
