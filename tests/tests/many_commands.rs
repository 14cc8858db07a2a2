//! A command that runs thousands of others: what is kept is bounded, and no sum changes by it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Stdio;

use memtrace_tests::needs::Need;
use memtrace_tests::record::Record;
use memtrace_tests::run::{Rules, Run};
use memtrace_tests::tempdir::TempDir;
use memtrace_tests::tracer::{Trace, command};
use memtrace_tests::{exe, needs};

/// A run under `memtrace -- runs_many ARGS`, without a stream, and what the workload says of it.
fn run(tracer: &[&str], args: &[&str]) -> (Run, Record) {
    let program = exe!("runs_many").words();
    let args = args.iter().map(|arg| (*arg).into());
    let program: Vec<_> = program.into_iter().chain(args).collect();
    let (mut trace, mut voice) =
        Trace::launch(&program, &[&["-q", "--no-status"], tracer].concat());
    trace.rules = Rules {
        whole_stream: false,
        ..Rules::default()
    };
    voice.ready();
    voice.say("go");
    let truth = voice.truth();
    voice.say("end");
    (trace.finish(), truth)
}

fn images(run: &Run) -> u64 {
    run.folded.iter().map(|line| line.count("images")).sum()
}

fn total(run: &Run) -> &Record {
    run.total.as_ref().expect("there were many")
}

#[test]
fn of_thousands_of_children_the_largest_are_kept_and_the_total_is_of_all() {
    needs!(Need::Tracing, Need::Btf, Need::CountedForks);
    let children = 2000;
    let (run, truth) = run(&["--summaries", "50"], &["2000"]);
    // The command itself lived to the end and is no part of the 50.
    assert_eq!(run.summaries.len(), 51);
    assert_eq!(run.summaries[0].text("comm"), "workload");
    // Its children are of its name; 31 or 32 of them have 64 pages, which is the most, and as many 63.
    assert_eq!(run.folded.len(), 1);
    let folded = &run.folded[0];
    assert_eq!(folded.text("comm"), "workload");
    folded.expect(&[("images", children - 50)]);
    for summary in &run.summaries[1..] {
        let given_back = summary.count("advice.MADV_DONTNEED.requested_bytes");
        assert!(given_back >= 63 * 4096, "in\n{summary}");
    }
    let total = total(&run);
    let own = run.summaries[0].count("faults.total");
    let pages = truth.count("pages");
    total.expect(&[
        ("processes", children + 1),
        (
            "faults.total",
            own + truth.count("children_minflt") + truth.count("children_majflt"),
        ),
        ("faults.refault_dontneed", pages),
        ("advice.MADV_DONTNEED.calls", children),
        ("advice.MADV_DONTNEED.requested_bytes", pages * 4096),
        ("advice.MADV_DONTNEED.refaults", pages),
    ]);
    assert_eq!(
        total.texts("notes"),
        [
            "1,950 of 2,001 address spaces have no summary, the smallest of those that have ended: \
             they are summed up by name (--summaries keeps more)"
        ]
    );
}

#[test]
fn without_an_option_a_thousand_are_kept() {
    needs!(Need::Tracing, Need::Btf, Need::CountedForks);
    let (run, _) = run(&[], &["1200"]);
    assert_eq!((run.summaries.len(), images(&run)), (1001, 200));
}

#[test]
fn few_are_all_kept_and_nothing_is_said_of_it() {
    needs!(Need::Tracing, Need::Btf, Need::CountedForks);
    let (run, _) = run(&["--summaries", "30"], &["30"]);
    assert_eq!((run.summaries.len(), run.folded.len()), (31, 0));
    assert!(total(&run).texts("notes").is_empty());
}

#[test]
fn names_that_a_target_invents_are_bounded() {
    needs!(Need::Tracing, Need::Btf);
    let dir = TempDir::new();
    let [workload, _] = exe!("runs_many").words();
    let workload = fs::canonicalize(workload).expect("the workload is there");
    for n in 0..300 {
        symlink(&workload, dir.join(&format!("name{n}"))).expect("the directory is ours");
    }
    let folder = dir.join("");
    let folder = folder.to_str().expect("ASCII");
    let (run, truth) = run(&["--summaries", "0"], &["600", folder, "300"]);
    // The command itself, and for each child what it was before and after its exec.
    assert_eq!((run.summaries.len(), images(&run)), (1, 1200));
    let (last, named) = run.folded.split_last().expect("all are folded");
    last.expect_null("comm");
    let names: BTreeSet<&str> = named.iter().map(|line| line.text("comm")).collect();
    assert_eq!((named.len(), names.len()), (256, 256));
    for line in named {
        let expected = if line.text("comm") == "workload" {
            600
        } else {
            2
        };
        line.expect(&[("images", expected)]);
        // Where it could be read in time it is the same file for all.
        if let Some(path) = line.at("exe").as_str() {
            assert_eq!(path, workload.to_str().expect("ASCII"));
        }
    }
    // 300 names and that of the command, of which 256 have a line.
    last.expect(&[("images", 2 * (301 - 256))]);
    let pages = truth.count("pages");
    total(&run).expect(&[
        ("processes", 601),
        ("advice.MADV_DONTNEED.calls", 600),
        ("advice.MADV_DONTNEED.requested_bytes", pages * 4096),
        ("advice.MADV_DONTNEED.refaults", pages),
    ]);
}

/// What `memtrace OPTIONS -- sh -c SCRIPT` writes as a text.
fn text(options: &[&str], script: &str) -> String {
    let dir = TempDir::new();
    let out = dir.join("out");
    let output = command()
        .args(["-q", "--no-status", "-o"])
        .arg(&out)
        .args(options)
        .args(["--", "sh", "-c", script])
        .stdin(Stdio::null())
        .output()
        .expect("memtrace starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    fs::read_to_string(out).expect("it was written")
}

fn pages(text: &str) -> Vec<&str> {
    text.lines()
        .filter(|line| line.contains(" (pid ") && !line.starts_with("tracing"))
        .collect()
}

#[test]
fn a_script_of_many_commands_is_a_table_and_the_scripts_own_page() {
    needs!(Need::Tracing, Need::Btf);
    let text = text(
        &["--summaries", "20"],
        "i=0; while [ $i -lt 60 ]; do /bin/true; i=$((i+1)); done",
    );
    let pages = pages(&text);
    assert_eq!(pages.len(), 1, "{text}");
    assert!(pages[0].starts_with("sh (pid "), "{text}");
    let table: Vec<&str> = text
        .lines()
        .skip_while(|line| !line.starts_with("commands · "))
        .take_while(|line| !line.is_empty())
        .collect();
    let row = table
        .iter()
        .find(|line| line.starts_with("true "))
        .unwrap_or_else(|| panic!("no row of true in\n{text}"));
    assert_eq!(row.split_whitespace().nth(1), Some("60"), "{text}");
    for line in &table {
        assert!(line.chars().count() < 80, "{line}");
    }
    assert!(
        table
            .last()
            .is_some_and(|line| line.starts_with("20 have no page here")),
        "{text}"
    );
    assert!(text.contains("\nnote: "), "{text}");
    assert!(text.lines().count() < 60, "{text}");
}

#[test]
fn a_few_commands_have_a_page_each() {
    needs!(Need::Tracing, Need::Btf);
    let text = text(&[], "/bin/true; /bin/true; exit 0");
    assert!(pages(&text).len() >= 3, "{text}");
    assert!(!text.contains("commands · "), "{text}");
}
