//! Allocators and runtimes in real processes: recognised with version and settings, and held against what they do.

use std::fs;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use memtrace_tests::golang::{self, GO};
use memtrace_tests::needs;
use memtrace_tests::needs::Need;
use memtrace_tests::programs::{JEMALLOC, PERL, REDIS, Redis, jemalloc, perl};
use memtrace_tests::record::Record;
use memtrace_tests::run::Run;
use memtrace_tests::runtimes::{
    LAZILY, attach, glibc_version, is_noted, jemalloc_version, look_at_work, runtime, set,
    settings, start_go,
};
use memtrace_tests::wait;

/// Some of the programs are large: one at a time.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    // Another test's failure is no reason to fail this one.
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn built() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

/// What the header says of the only target.
#[track_caller]
fn in_header(run: &Run) -> String {
    run.header.list("targets")[0].text("runtime").to_owned()
}

/// The header's words: recognising is given 100 ms, and a busy machine may take longer.
#[track_caller]
fn expect_in_header(run: &Run, words: &str) {
    let target = &run.header.list("targets")[0];
    if !target.at("runtime").is_null() {
        assert!(in_header(run).contains(words), "{target}");
    }
}

/// How many calls there were, as sentences have it.
fn calls(summary: &Record, advice: &str) -> String {
    let number = summary.count(&format!("advice.{advice}.calls")).to_string();
    let mut text = String::new();
    for (at, digit) in number.chars().enumerate() {
        if at > 0 && (number.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    let plural = if number == "1" { "" } else { "s" };
    format!("{text} {advice} call{plural}")
}

#[test]
fn a_go_program_is_shown_with_its_version_its_setting_and_what_it_does() {
    needs!(Need::Tracing, GO);
    let _alone = alone();
    let program = golang::build("bigmap", built());
    let version = golang::version(built());
    for (setting, gives_back, seen) in [
        (Some("madvdontneed=0"), "MADV_FREE", "were seen"),
        (
            Some("madvdontneed=1"),
            "MADV_DONTNEED",
            "and no MADV_FREE were seen",
        ),
        (None, "MADV_DONTNEED", "and no MADV_FREE were seen"),
    ] {
        let mut workload = start_go(&program, setting);
        let (_, run) = look_at_work(&mut workload);
        workload.kill();

        let summary = run.summary();
        let go = runtime(summary, "Go");
        assert_eq!(go.text("version"), version);
        assert_eq!(go.text("gives_back"), gives_back);
        assert_eq!(go.text("linkage"), "static");
        let (words, how) = match setting {
            Some(setting) => {
                assert_eq!(settings(&go), set("GODEBUG", setting));
                (
                    format!("Go {version} (GODEBUG={setting})"),
                    format!(
                        "GODEBUG={setting} is set, with which Go {version} gives back by {gives_back}"
                    ),
                )
            }
            None => {
                assert_eq!(settings(&go), []);
                (
                    format!("Go {version}"),
                    format!("Go {version} gives back by {gives_back} by default"),
                )
            }
        };
        expect_in_header(&run, &words);
        let effect = format!("{how}, and so it is: {} {seen}", calls(summary, gives_back));
        assert_eq!(summary.texts("runtime_effects"), [effect]);
    }
}

#[test]
fn a_setting_that_others_do_not_heed_is_contradicted() {
    needs!(Need::Tracing, GO);
    let program = golang::build("advises", built());
    let version = golang::version(built());
    let mut workload = start_go(&program, Some("madvdontneed=1"));
    let (truth, run) = look_at_work(&mut workload);
    workload.end();
    let summary = run.summary();
    summary.expect(&[
        ("advice.MADV_FREE.calls", truth.count("calls")),
        ("advice.MADV_FREE.requested_bytes", truth.count("bytes")),
    ]);
    let effect = format!(
        "GODEBUG=madvdontneed=1 is set, with which Go {version} gives back by MADV_DONTNEED, \
         yet {} MADV_FREE calls were seen",
        truth.count("calls")
    );
    assert_eq!(summary.texts("runtime_effects"), [effect]);
}

#[test]
fn a_go_program_that_runs_itself_anew_has_the_settings_of_each_image() {
    needs!(Need::Tracing, GO);
    let program = golang::build("advises", built());
    let version = golang::version(built());
    let mut workload = start_go(&program, Some("madvdontneed=0"));
    let pid = u64::from(workload.pid);
    let trace = attach(workload.pid);
    workload.go();
    workload.run_anew("exec madvdontneed=1,sbrk=0");
    workload.go();
    // The next status line comes a while after the exec was taken in, and so the look at it.
    let shown = || trace.output().matches("{\"type\":\"status\"").count();
    let before = shown();
    wait::until("two status lines", || (shown() > before + 1).then_some(()));
    trace.signal(libc::SIGINT);
    let run = trace.finish();
    workload.end();

    let (first, second) = (run.summary_of(pid, 0), run.summary_of(pid, 1));
    for summary in [first, second] {
        assert_eq!(runtime(summary, "Go").text("version"), version);
        summary.expect(&[("advice.MADV_FREE.calls", 5)]);
    }
    let go = runtime(first, "Go");
    assert_eq!(settings(&go), set("GODEBUG", "madvdontneed=0"));
    assert_eq!(go.text("gives_back"), "MADV_FREE");
    let effects = first.texts("runtime_effects");
    assert!(
        effects[0].ends_with("and so it is: 5 MADV_FREE calls were seen"),
        "{effects:?}"
    );
    let go = runtime(second, "Go");
    let [dropping] = set("GODEBUG", "madvdontneed=1");
    let [break_off] = set("GODEBUG", "sbrk=0");
    assert_eq!(settings(&go), [dropping, break_off]);
    assert_eq!(go.text("gives_back"), "MADV_DONTNEED");
    let effects = second.texts("runtime_effects");
    assert!(
        effects[0].ends_with("yet 5 MADV_FREE calls were seen"),
        "{effects:?}"
    );
}

#[test]
fn a_preloaded_jemalloc_is_shown_with_its_setting_and_what_it_does() {
    needs!(Need::Tracing, JEMALLOC, PERL);
    let version = jemalloc_version();
    for (setting, gives_back) in [
        (LAZILY, "MADV_FREE"),
        ("dirty_decay_ms:0,muzzy_decay_ms:0", "MADV_DONTNEED"),
    ] {
        let mut workload = perl(setting);
        let (_, run) = look_at_work(&mut workload);
        workload.say("again");
        workload.end();

        let summary = run.summary();
        let found = runtime(summary, "jemalloc");
        assert_eq!(found.text("version"), version);
        assert_eq!(found.text("gives_back"), gives_back);
        assert_eq!(settings(&found), set("MALLOC_CONF", setting));
        let linkage = Path::new(found.text("linkage"));
        assert_eq!(
            fs::canonicalize(linkage).ok(),
            fs::canonicalize(jemalloc()).ok()
        );
        let glibc = runtime(summary, "glibc malloc");
        assert_eq!(glibc.text("version"), glibc_version());
        let words = format!("jemalloc {version} (MALLOC_CONF={setting}), glibc malloc");
        expect_in_header(&run, &words);
        let seen = match gives_back {
            "MADV_FREE" => "were seen",
            _ => "and no MADV_FREE were seen",
        };
        let effect = format!(
            "MALLOC_CONF={setting} is set, with which jemalloc {version} gives back by {gives_back}, \
             and so it is: {} {seen}",
            calls(summary, gives_back)
        );
        assert_eq!(summary.texts("runtime_effects"), [effect]);
        if gives_back == "MADV_FREE" {
            assert_eq!(summary.text("verdict.kind"), "lazily_free");
            let remedy =
                "jemalloc: MALLOC_CONF=muzzy_decay_ms:0 makes RSS fall when dirty_decay_ms is over";
            assert!(
                summary.texts("verdict.advice").contains(&remedy),
                "{summary}"
            );
        }
    }
}

#[test]
fn a_redis_has_jemalloc_and_the_c_librarys_malloc() {
    needs!(Need::Tracing, JEMALLOC, REDIS);
    let redis = Redis::start("dirty_decay_ms:-1");
    let trace = attach(redis.pid());
    trace.signal(libc::SIGINT);
    let run = trace.finish();
    let summary = run.summary();
    let names: Vec<String> = summary
        .list("runtimes")
        .iter()
        .map(|one| one.text("name").to_owned())
        .collect();
    assert_eq!(names, ["jemalloc", "glibc malloc"]);
    let found = runtime(summary, "jemalloc");
    assert_eq!(found.text("version"), jemalloc_version());
    // Its title lies where its environment was: no setting is to be seen there, and so the default
    // is not to be claimed.
    assert_eq!(settings(&found), []);
    found.expect_null("gives_back");
    assert_eq!(summary.texts("runtime_effects"), [""; 0]);
    is_noted(summary, "its environment is overwritten");
    let glibc = runtime(summary, "glibc malloc");
    assert_eq!(glibc.text("version"), glibc_version());
}
