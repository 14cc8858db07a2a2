//! The verdict on real processes whose memory does what is known: its kind, what it rests on, what it doubts and what it advises.

use std::fs;
use std::process::Stdio;

use memtrace_tests::area::now_ns;
use memtrace_tests::compare::is_percent;
use memtrace_tests::needs::{Need, not_run};
use memtrace_tests::paced::{attach, quiet, steps};
use memtrace_tests::record::Record;
use memtrace_tests::run::{Rules, Run};
use memtrace_tests::tempdir::TempDir;
use memtrace_tests::tracer::command;
use memtrace_tests::wait;
use memtrace_tests::workload::Workload;
use memtrace_tests::{exe, needs};

const PAGE: u64 = 4096;
const MIB: u64 = 1 << 20;
/// A step of the workload for each status line, and more of them than make the 5 s from which on
/// the course of RSS is told.
const LONG_STEPS: u64 = 30;

const POPULATE: Need = Need::Advice(23, "MADV_POPULATE_WRITE");

fn grows(steps: u64, growing: u64, pages: u64, lazy_pages: u64) -> Workload {
    let args = [steps, growing, pages, lazy_pages].map(|number| number.to_string());
    Workload::start(&exe!("grows"), &args.each_ref().map(String::as_str))
}

/// Asserts the kind and the confidence.
#[track_caller]
fn expect_verdict(summary: &Record, kind: &str, confidence: &str) {
    let found = (
        summary.text("verdict.kind"),
        summary.text("verdict.confidence"),
    );
    assert_eq!(found, (kind, confidence), "{}", summary.at("verdict"));
}

/// Asserts that one of the sentences has all of these parts, in their order, and returns it.
#[track_caller]
fn sentence<'a>(summary: &'a Record, list: &str, parts: &[&str]) -> &'a str {
    let has_all = |text: &&str| {
        let mut rest = *text;
        parts.iter().all(|part| match rest.split_once(part) {
            Some((_, after)) => {
                rest = after;
                true
            }
            None => false,
        })
    };
    let all = summary.texts(&format!("verdict.{list}"));
    let found = all.into_iter().find(has_all);
    found.unwrap_or_else(|| panic!("no {parts:?} in {list} of {}", summary.at("verdict")))
}

/// Asserts that none of the sentences has this part.
#[track_caller]
fn no_sentence(summary: &Record, list: &str, part: &str) {
    let all = summary.texts(&format!("verdict.{list}"));
    assert!(!all.iter().any(|text| text.contains(part)), "{all:#?}");
}

/// Bytes as they are shown: `512`, `1.50M`.
fn shown_bytes(text: &str) -> u64 {
    let letter = text.chars().next_back().expect("it is not empty");
    let power = "BKMGT".find(letter).expect("it ends in a unit");
    let number: f64 = text[..text.len() - 1].parse().expect("it is a number");
    (number * 1024f64.powi(power as i32)) as u64
}

/// What stands between two parts of a sentence.
#[track_caller]
fn between<'a>(text: &'a str, before: &str, after: &str) -> &'a str {
    let rest = text.split_once(before).map(|(_, rest)| rest);
    let found = rest.and_then(|rest| rest.split_once(after));
    found
        .unwrap_or_else(|| panic!("no {before:?} … {after:?} in {text}"))
        .0
}

#[test]
fn a_leak_is_growth() {
    needs!(Need::Tracing);
    let pages = 512;
    let workload = grows(LONG_STEPS, LONG_STEPS, pages, 0);
    let run = steps(workload, LONG_STEPS, &[], quiet());
    let summary = run.summary();
    // Not seen for a minute, nor from its start.
    expect_verdict(summary, "growth", "low");
    let leaked = LONG_STEPS * pages;
    summary.expect(&[("faults.first_touch", leaked)]);
    let grown = sentence(
        summary,
        "evidence",
        &["RSS grew by ", " in ", "still grows"],
    );
    let grown = shown_bytes(between(grown, "grew by ", " in"));
    is_percent(grown, 97, 103, leaked * PAGE);
    sentence(
        summary,
        "evidence",
        &["60.0M of first touches (15,360 faults), nothing given back"],
    );
    sentence(summary, "evidence", &["nothing of it is lazily free"]);
    sentence(summary, "doubts", &["it may be a passing phase"]);
    sentence(summary, "doubts", &["before tracing began is not known"]);
    sentence(summary, "advice", &["a cache levels off, a leak does not"]);
    no_sentence(summary, "advice", "LazyFree");
}

#[test]
fn a_leak_larger_than_what_is_lazily_free_is_growth_all_the_same() {
    needs!(Need::Tracing);
    let (pages, lazy_pages) = (512, 4096);
    let workload = grows(LONG_STEPS, LONG_STEPS, pages, lazy_pages);
    let run = steps(workload, LONG_STEPS, &[], quiet());
    let summary = run.summary();
    expect_verdict(summary, "growth", "low");
    // There was enough of it to be taken for the reason otherwise.
    let lazy = summary.count("rss.lazyfree_bytes");
    is_percent(lazy, 95, 100, lazy_pages * PAGE);
    assert!(lazy > summary.count("rss.end_bytes") / 10, "{summary}");
    let told = sentence(summary, "evidence", &[" of it is lazily free"]);
    let told = shown_bytes(told.split(' ').next().expect("it begins so"));
    is_percent(told, 99, 101, lazy);
}

#[test]
fn a_cache_that_has_filled_is_retained() {
    needs!(Need::Tracing);
    let (growing, pages) = (7, 2048);
    let workload = grows(LONG_STEPS, growing, pages, 0);
    let run = steps(workload, LONG_STEPS, &[], quiet());
    let summary = run.summary();
    expect_verdict(summary, "retained", "low");
    let steady = sentence(
        summary,
        "evidence",
        &["RSS is ", " and has stayed within ", " for the last "],
    );
    let told = shown_bytes(between(steady, "RSS is ", " and"));
    is_percent(told, 99, 101, summary.count("rss.end_bytes"));
    assert!(told > growing * pages * PAGE, "{steady}");
    sentence(summary, "evidence", &["nothing given back while traced"]);
    sentence(summary, "evidence", &["anonymous memory, 0B lazily free"]);
    // glibc's malloc is in it, and it is asked what it holds.
    sentence(summary, "advice", &["glibc malloc: malloc_trim(0)"]);
}

#[test]
fn memory_given_back_and_touched_over_and_over_is_churn() {
    needs!(Need::Tracing);
    let (count, pages, rounds) = (8, 2048, 4);
    let args = [count, pages, rounds].map(|number: u64| number.to_string());
    let workload = Workload::start(&exe!("churns"), &args.each_ref().map(String::as_str));
    let run = steps(workload, count, &[], quiet());
    let summary = run.summary();
    let long = summary.count("duration_ns") >= 10_000_000_000;
    expect_verdict(summary, "churn", if long { "high" } else { "medium" });
    let refaults = count * pages * rounds;
    summary.expect(&[
        ("advice.MADV_DONTNEED.refaults", refaults),
        ("advice.MADV_DONTNEED.refaulted_bytes", refaults * PAGE),
    ]);
    let rate = sentence(
        summary,
        "evidence",
        &[
            "100% of what MADV_DONTNEED gave back (256M of 256M released)",
            "again: ",
        ],
    );
    let told = shown_bytes(between(&format!("{rate}\n"), "again: ", "/s\n"));
    let seconds = summary.count("duration_ns") as f64 / 1e9;
    let expected = (refaults * PAGE) as f64 / seconds;
    is_percent(told, 99, 101, expected as u64);
    sentence(
        summary,
        "evidence",
        &[
            "65,536 refaults at about ",
            " each (measured here) took about ",
            "% of one core",
        ],
    );
    sentence(summary, "doubts", &["seen for ", " only"]);
    sentence(summary, "advice", &["MALLOC_TRIM_THRESHOLD_"]);
}

#[test]
fn a_short_look_tells_nothing_and_says_so() {
    needs!(Need::Tracing);
    let mut workload = Workload::start(&exe!("dontneed_touch"), &[]);
    let trace = attach(workload.pid, &[]);
    let truth = workload.go();
    trace.signal(libc::SIGINT);
    let run = trace.finish();
    workload.end();
    let summary = run.summary();
    if summary.count("duration_ns") >= 5_000_000_000 {
        let why = "the look was not short";
        return not_run("verdicts::a_short_look", why, "run on a faster machine");
    }
    expect_verdict(summary, "not_enough_data", "low");
    // A slow machine gives it the time, but not the looks.
    let evidence = summary.texts("verdict.evidence");
    if !evidence.contains(&"RSS could not be read often enough") {
        let short = ": how RSS goes can be told from 5.0 s on";
        sentence(summary, "evidence", &["traced for ", short]);
    }
    let faults = 2 * truth.count("pages");
    summary.expect(&[("faults.total", faults)]);
    sentence(
        summary,
        "evidence",
        &["RSS ", &format!("{faults} page faults"), " given back"],
    );
    sentence(summary, "advice", &["trace longer"]);
}

#[test]
fn memory_freed_while_traced_is_lazily_free() {
    needs!(Need::Tracing);
    let mut workload = Workload::start(&exe!("lazy_holds"), &[]);
    let pid = workload.pid;
    let trace = attach(pid, &[]);
    let truth = workload.go();
    trace.signal(libc::SIGINT);
    let run = trace.finish();
    workload.end();
    let summary = run.summary();
    check_lazily_free(summary, &truth);
    let calls = "1 call of MADV_FREE on 16.0M; 0B of it came back by a fault";
    sentence(summary, "evidence", &[calls]);
    no_sentence(summary, "evidence", "before tracing began");
    let remedy = format!("memtrace reclaim -p {pid}");
    sentence(summary, "advice", &["RSS fall now", &remedy]);
}

#[test]
fn memory_freed_before_the_trace_is_lazily_free_all_the_same() {
    needs!(Need::Tracing);
    let mut workload = Workload::start(&exe!("lazy_before"), &[]);
    let trace = attach(workload.pid, &[]);
    let truth = workload.go();
    trace.signal(libc::SIGINT);
    let run = trace.finish();
    workload.end();
    let summary = run.summary();
    check_lazily_free(summary, &truth);
    sentence(
        summary,
        "evidence",
        &["it was marked before tracing began: no MADV_FREE was seen"],
    );
    assert_eq!(summary.count_or_none("advice.MADV_FREE.calls"), 0);
    let before = summary.count("lazy_balance.before_bytes");
    is_percent(before, 98, 102, truth.count("lazyfree_bytes"));
}

/// Most of RSS is lazily free, as the process itself has read.
#[track_caller]
fn check_lazily_free(summary: &Record, truth: &Record) {
    expect_verdict(summary, "lazily_free", "high");
    assert_eq!(summary.texts("verdict.doubts"), [""; 0], "{summary}");
    let (rss, lazy) = (truth.count("rss_bytes"), truth.count("lazyfree_bytes"));
    assert!(lazy > 15 * MIB, "{truth}");
    let told = sentence(
        summary,
        "evidence",
        &[" of ", " RSS (", "%) is lazily free"],
    );
    let told_lazy = shown_bytes(told.split(' ').next().expect("it begins so"));
    is_percent(told_lazy, 98, 102, lazy);
    is_percent(shown_bytes(between(told, " of ", " RSS")), 98, 102, rss);
    let effective = sentence(summary, "evidence", &["without it the RSS is "]);
    let effective = effective.rsplit(' ').next().expect("it ends so");
    is_percent(shown_bytes(effective), 90, 110, rss - lazy);
    sentence(summary, "advice", &["watch RSS less LazyFree"]);
}

#[test]
fn of_a_process_that_died_the_last_look_stands_with_its_age() {
    // Where in a task its exit status lies, BTF tells.
    needs!(Need::Tracing, Need::Btf);
    let mut workload = Workload::start(&exe!("lazy_holds"), &[]);
    let trace = attach(workload.pid, &[]);
    let before_ns = now_ns() as u64;
    let truth = workload.go();
    let lazy = truth.count("lazyfree_bytes");
    // The process holds still until it is killed: any look that shows this is as good as another.
    wait::until("a status line with what is lazily free", || {
        let output = trace.output();
        let lines = output.lines().filter_map(|line| Record::parse(line).ok());
        let mut seen = lines.filter(|line| line.count_or_none("lazyfree_bytes") >= lazy);
        seen.next_back()
    });
    let killed_ns = now_ns() as u64;
    workload.kill();
    let run = trace.finish();
    let summary = run.summary();
    summary.expect(&[("exit_signal", libc::SIGKILL as u64)]);
    // CPUs hold a batch of pages each back, and let them go sooner or later.
    let freed = truth.count("pages") * PAGE;
    let seen = summary.count("rss.lazyfree_bytes");
    assert!(
        (lazy..=freed).contains(&seen),
        "{seen}, not in {lazy}..={freed}"
    );
    expect_verdict(summary, "lazily_free", "high");
    // When that look was: after the memory was freed, and before the end.
    let end_ns = summary.count("start_ns") + summary.count("duration_ns");
    assert!(end_ns >= killed_ns, "{summary}");
    for age in ["rss.lazyfree_age_ns", "rss.end_age_ns"] {
        let at_ns = end_ns - summary.count(age);
        let possible = before_ns..=end_ns;
        assert!(
            possible.contains(&at_ns),
            "{age}: {at_ns}, not in {possible:?}"
        );
        assert!(summary.count(age) > 0, "{summary}");
    }
    // There is nothing left to be reclaimed.
    no_sentence(summary, "advice", "memtrace reclaim");
    summary.expect(&[("lazy_balance.still_lazy_bytes", 0)]);
}

#[test]
fn memory_populated_ahead_is_regrowth_without_faults() {
    needs!(Need::Tracing, POPULATE);
    let (run, _) = populated_ahead(&[]);
    let summary = run.summary();
    summary.expect_null("unfaulted_bytes");
    let most = "its 0 page faults can have brought 0B at the most";
    sentence(summary, "evidence", &[most]);
}

#[test]
fn memory_populated_ahead_is_measured_where_every_byte_is() {
    needs!(Need::Tracing, Need::ReclaimCount, POPULATE);
    let (run, bytes) = populated_ahead(&["--exact-bytes"]);
    let summary = run.summary();
    summary.expect(&[("unfaulted_bytes", bytes)]);
    sentence(summary, "evidence", &["without a page fault (measured)"]);
}

/// The run, and how many bytes were populated.
fn populated_ahead(extra: &[&str]) -> (Run, u64) {
    let pages = 512;
    let args = [LONG_STEPS, pages].map(|number| number.to_string());
    let workload = Workload::start(&exe!("populates"), &args.each_ref().map(String::as_str));
    let run = steps(workload, LONG_STEPS, extra, quiet());
    let summary = run.summary();
    expect_verdict(summary, "regrowth_without_faults", "low");
    sentence(summary, "evidence", &["RSS grew by ", "still grows"]);
    sentence(summary, "advice", &["AnonHugePages", "max_ptes_none"]);
    summary.expect(&[("faults.total", 0)]);
    (run, LONG_STEPS * pages * PAGE)
}

/// A run that loses faults.
fn lossy() -> Rules {
    Rules {
        exact: false,
        whole_stream: false,
        quiet_stderr: false,
    }
}

#[test]
fn losses_lower_the_confidence_in_churn() {
    needs!(Need::Tracing);
    let (count, pages, rounds) = (8, 8192, 8);
    let args = [count, pages, rounds].map(|number: u64| number.to_string());
    // How much is lost depends on how fast the machine makes faults: the largest ring that loses.
    let lost = ["64K", "32K", "16K", "8K", "4K"]
        .into_iter()
        .find_map(|size| {
            let workload = Workload::start(&exe!("churns"), &args.each_ref().map(String::as_str));
            let run = steps(workload, count, &["--ringbuf-size", size], lossy());
            (run.summary().count("lost.faults") > 0).then_some(run)
        });
    let run = lost.expect("a ring of a page has no room for these faults");
    let summary = run.summary();
    // What came back while nothing was missing is churn; where too little is left of it, nobody says so.
    let kind = summary.text("verdict.kind");
    if kind == "churn" {
        let long = summary.count("duration_ns") >= 10_000_000_000;
        expect_verdict(summary, "churn", if long { "medium" } else { "low" });
        sentence(summary, "doubts", &["events were lost", "too low"]);
    } else {
        assert_ne!(summary.text("verdict.confidence"), "high", "{summary}");
    }
}

#[test]
fn faults_that_were_lost_are_not_taken_for_growth_without_faults() {
    needs!(Need::Tracing);
    let pages = 8192;
    let workload = grows(LONG_STEPS, LONG_STEPS, pages, 0);
    let run = steps(workload, LONG_STEPS, &["--ringbuf-size", "4096"], lossy());
    let summary = run.summary();
    let lost = summary.count("lost.faults");
    assert!(lost > LONG_STEPS * pages / 2, "{summary}");
    expect_verdict(summary, "growth", "low");
    sentence(summary, "doubts", &["events were lost", "too low"]);
}

#[test]
fn the_text_ends_with_the_verdict_its_evidence_and_what_to_do() {
    needs!(Need::Tracing);
    let mut workload = Workload::start(&exe!("lazy_holds"), &[]);
    let pid = workload.pid.to_string();
    let dir = TempDir::new();
    let out = dir.join("out");
    let mut tracer = command()
        .args(["-q", "-p", &pid, "-o"])
        .arg(&out)
        .stdin(Stdio::null())
        .spawn()
        .expect("memtrace starts");
    let written = || fs::read_to_string(&out).unwrap_or_default();
    wait::until("the header", || {
        written().contains("\ntracing ").then_some(())
    });
    let truth = workload.go();
    // SAFETY: the child has not been reaped, so that the pid is its own.
    unsafe { libc::kill(tracer.id() as i32, libc::SIGINT) };
    assert!(tracer.wait().expect("it is our child").success());
    workload.end();

    let text = written();
    let (_, verdict) = text
        .split_once("\nverdict: ")
        .unwrap_or_else(|| panic!("no verdict in\n{text}"));
    let mut lines = verdict.lines();
    let headline = lines.next().expect("there is a first line");
    assert_eq!(headline, "lazily free, not a leak (high confidence)");
    let rest: Vec<&str> = lines.collect();
    assert!(
        rest.iter().all(|line| line.starts_with("  ")),
        "other lines come after it:\n{verdict}"
    );
    let lazy = shown_bytes(between(rest[0], "  ", " of"));
    is_percent(lazy, 98, 102, truth.count("lazyfree_bytes"));
    assert!(rest[1].starts_with("  without it the RSS is "), "{verdict}");
    let runtime = rest
        .iter()
        .position(|line| line.starts_with("  runtime: glibc malloc "));
    let advice = rest.iter().position(|line| line.starts_with("  → "));
    assert!(runtime < advice, "{verdict}");
    let advice = &rest[advice.expect("there is some")..];
    assert!(advice.len() >= 2, "{verdict}");
    assert!(
        advice.iter().all(|line| line.starts_with("  → ")),
        "{verdict}"
    );
    let remedy = format!("memtrace reclaim -p {pid}");
    assert!(
        advice.iter().any(|line| line.ends_with(&remedy)),
        "{verdict}"
    );
}
