//! Allocators and runtimes in real processes: recognised with version and settings, wherever their files are, and held against what they do.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use memtrace_tests::golang::{self, GO};
use memtrace_tests::needs::Need;
use memtrace_tests::programs::{JEMALLOC, PERL, REDIS, Redis, jemalloc, perl, perl_command};
use memtrace_tests::record::Record;
use memtrace_tests::run::{Rules, Run};
use memtrace_tests::tempdir::TempDir;
use memtrace_tests::tracer::{Trace, command};
use memtrace_tests::wait;
use memtrace_tests::workload::{Workload, without_huge_pages};
use memtrace_tests::{exe, needs};

const UNSHARE: Need = Need::Program("unshare", "util-linux");
/// Gives all back by MADV_FREE, and never by MADV_DONTNEED.
const LAZILY: &str = "dirty_decay_ms:1,muzzy_decay_ms:-1";

/// Some of the programs are large: one at a time.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    // Another test's failure is no reason to fail this one.
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn built() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

/// Starts a Go program with that GODEBUG, or without any.
fn start_go(program: &Path, setting: Option<&str>) -> Workload {
    let mut command = Command::new(program);
    command
        .env_remove("GODEBUG")
        .env_remove("GOGC")
        .env_remove("GOMEMLIMIT");
    if let Some(setting) = setting {
        command.env("GODEBUG", setting);
    }
    without_huge_pages(&mut command);
    Workload::start_command(&mut command)
}

/// Attaches without a stream.
fn attach(pid: u32) -> Trace {
    let mut trace = Trace::attach(pid, &["-q", "--interval", "0.2"]);
    trace.rules = Rules {
        whole_stream: false,
        ..Rules::default()
    };
    trace
}

/// Looks at a program that holds still.
fn look(workload: Workload) -> Run {
    let trace = attach(workload.pid);
    trace.signal(libc::SIGINT);
    let run = trace.finish();
    workload.kill();
    run
}

/// The entry of that name.
#[track_caller]
fn runtime(summary: &Record, name: &str) -> Record {
    let all = summary.list("runtimes");
    let mut found = all.into_iter().filter(|one| one.text("name") == name);
    match (found.next(), found.next()) {
        (Some(one), None) => one,
        (first, _) => panic!("{name}: {first:?} and perhaps others in\n{summary}"),
    }
}

/// An entry's settings: name, value and origin.
fn settings(runtime: &Record) -> Vec<(String, String, String)> {
    let all = runtime.list("settings").into_iter();
    let text = |one: &Record, key| one.text(key).to_owned();
    all.map(|one| {
        (
            text(&one, "name"),
            text(&one, "value"),
            text(&one, "origin"),
        )
    })
    .collect()
}

/// One that the environment made.
fn set(name: &str, value: &str) -> [(String, String, String); 1] {
    [(name.to_owned(), value.to_owned(), "environment".to_owned())]
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
        let trace = attach(workload.pid);
        workload.go();
        trace.signal(libc::SIGINT);
        let run = trace.finish();
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
    let trace = attach(workload.pid);
    let truth = workload.go();
    trace.signal(libc::SIGINT);
    let run = trace.finish();
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

/// A copy of a file under another name.
fn copy(dir: &TempDir, from: &Path, name: &str) -> PathBuf {
    let to = dir.join(name);
    fs::copy(from, &to).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    to
}

#[test]
fn a_program_whose_file_is_gone_or_another_one_now_is_recognised_all_the_same() {
    needs!(Need::Tracing, GO, PERL);
    let program = golang::build("advises", built());
    let version = golang::version(built());
    for replaced_by in [None, Some("perl")] {
        let dir = TempDir::new();
        let path = copy(&dir, &program, "service");
        let workload = start_go(&path, None);
        fs::remove_file(&path).expect("the directory is ours");
        if let Some(other) = replaced_by {
            let other = needs::program(other).expect("the test needs it");
            copy(&dir, &other, "service");
        }
        let run = look(workload);
        let go = runtime(run.summary(), "Go");
        assert_eq!(go.text("version"), version);
        assert_eq!(go.text("linkage"), "static");
        // What lies there now has the C library's malloc in it.
        assert_eq!(run.summary().list("runtimes").len(), 1);
    }
}

#[test]
fn a_library_whose_file_is_gone_or_another_one_now_is_recognised_all_the_same() {
    needs!(Need::Tracing, JEMALLOC, PERL);
    let version = jemalloc_version();
    for replaced in [false, true] {
        let dir = TempDir::new();
        // Its name does not tell.
        let path = copy(&dir, &jemalloc(), "liballoc.so");
        let mut command = perl_command();
        command.env("LD_PRELOAD", &path).env("MALLOC_CONF", LAZILY);
        let workload = Workload::start_command(&mut command);
        fs::remove_file(&path).expect("the directory is ours");
        if replaced {
            fs::write(&path, "no library").expect("the directory is ours");
        }
        let run = look(workload);
        let found = runtime(run.summary(), "jemalloc");
        assert_eq!(found.text("version"), version);
        let linkage = format!("{} (deleted)", path.display());
        assert_eq!(found.text("linkage"), linkage);
        runtime(run.summary(), "glibc malloc");
    }
}

/// Runs a command in a mount namespace of its own, with an empty file system over the directory
/// and those files copied into it.
fn in_namespace(dir: &Path, files: &[&Path], program: &Path) -> Command {
    let script = r#"
        dir=$1; shift
        mount -t tmpfs tmpfs "$dir"
        while [ "$1" != -- ]; do cp "$1" "$dir"; shift; done
        shift
        exec "$@"
    "#;
    let mut command = Command::new("unshare");
    command
        .args([
            "--mount",
            "--propagation",
            "private",
            "--",
            "sh",
            "-ec",
            script,
            "sh",
        ])
        .arg(dir)
        .args(files)
        .arg("--")
        .arg(program);
    command
}

#[test]
fn files_of_another_mount_namespace_are_the_targets_and_not_ours() {
    needs!(Need::Tracing, Need::Mounting, UNSHARE, GO, JEMALLOC, PERL);
    let program = golang::build("advises", built());
    let dir = TempDir::new();
    // What is at the same paths here must not be looked at.
    copy(&dir, Path::new("/bin/true"), "advises");
    copy(&dir, Path::new("/bin/true"), "libjemalloc.so.2");

    let mut command = in_namespace(dir.path(), &[&program], &dir.join("advises"));
    command.env("GODEBUG", "madvdontneed=0");
    let run = look(Workload::start_command(&mut command));
    let go = runtime(run.summary(), "Go");
    assert_eq!(go.text("version"), golang::version(built()));
    assert_eq!(settings(&go), set("GODEBUG", "madvdontneed=0"));
    assert_eq!(run.summary().list("runtimes").len(), 1);

    let library = dir.join("libjemalloc.so.2");
    let mut command = in_namespace(dir.path(), &[&jemalloc()], Path::new("env"));
    command
        .arg(preload(&library))
        .arg(perl_command().get_program())
        .args(perl_command().get_args())
        .env("MALLOC_CONF", LAZILY);
    let run = look(Workload::start_command(&mut command));
    let found = runtime(run.summary(), "jemalloc");
    assert_eq!(found.text("version"), jemalloc_version());
    assert_eq!(found.text("linkage"), library.to_str().expect("ASCII"));
    assert_eq!(settings(&found), set("MALLOC_CONF", LAZILY));
}

/// As env(1) sets it.
fn preload(library: &Path) -> String {
    format!("LD_PRELOAD={}", library.display())
}

/// What jemalloc says of itself: `5.3.0` of `5.3.0-0-g54eaed1d...`.
fn jemalloc_version() -> String {
    let output = Command::new("true")
        .env("LD_PRELOAD", jemalloc())
        .env("MALLOC_CONF", "stats_print:true")
        .output()
        .expect("true runs");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let version = text.lines().find_map(|line| {
        let version = line.trim().strip_prefix("Version: ")?.trim_matches('"');
        version.split_once("-0-g").map(|(release, _)| release)
    });
    version
        .unwrap_or_else(|| panic!("jemalloc told no version:\n{text}"))
        .to_owned()
}

/// What the C library says of itself.
fn glibc_version() -> String {
    // SAFETY: it returns a string that lives as long as the program.
    let version = unsafe { std::ffi::CStr::from_ptr(libc::gnu_get_libc_version()) };
    version.to_str().expect("ASCII").to_owned()
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
        let trace = attach(workload.pid);
        workload.go();
        trace.signal(libc::SIGINT);
        let run = trace.finish();
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

/// Asserts that a note has this part.
#[track_caller]
fn is_noted(summary: &Record, part: &str) {
    let notes = summary.texts("notes");
    assert!(notes.iter().any(|note| note.contains(part)), "{notes:#?}");
}

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

    let program = golang::build("advises", built());
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

#[test]
fn mapped_files_that_are_no_libraries_disturb_nothing() {
    needs!(Need::Tracing, JEMALLOC);
    let dir = TempDir::new();
    let library = fs::read(jemalloc()).expect("it can be read");
    // The sections' table of a library is at its end.
    let headless = [&b"\x7fELF\x02\x01\x01"[..], &[0xff; 8192]].concat();
    let mut bent = library[..64 << 10].to_vec();
    // Where the program headers begin, and how many there are (elf(5): e_phoff, e_phnum).
    bent[32..40].copy_from_slice(&u64::MAX.to_le_bytes());
    bent[56..58].copy_from_slice(&u16::MAX.to_le_bytes());
    let mut paths = Vec::new();
    for (name, content) in [
        ("libjemalloc.so.2", &b"no library at all"[..]),
        ("libjemalloc.so.1", &library[..4096]),
        ("libtcmalloc.so.4", &library[..63]),
        ("libheadless.so", &headless),
        ("libbent.so", &bent),
        ("libhalf.so", &library[..library.len() / 2]),
        ("libgo.so", &[]),
    ] {
        let path = dir.join(name);
        fs::write(&path, content).expect("the directory is ours");
        paths.push(path);
    }
    let paths: Vec<&str> = paths.iter().filter_map(|path| path.to_str()).collect();
    let mut workload = Workload::start(&exe!("maps_code"), &paths);
    let trace = attach(workload.pid);
    let truth = workload.go();
    trace.signal(libc::SIGINT);
    let run = trace.finish();
    workload.end();
    let summary = run.summary();
    summary.expect(&[
        ("faults.first_touch", truth.count("pages")),
        ("faults.total", truth.count("pages")),
    ]);
    // After all of that, the real one. A part of jemalloc may be recognised as what it is.
    let glibc = runtime(summary, "glibc malloc");
    assert_eq!(glibc.text("version"), glibc_version());
    for one in summary.list("runtimes") {
        let name = one.text("name");
        assert!(name == "glibc malloc" || name == "jemalloc", "{summary}");
        // Neither its name nor a few bytes make a file a library.
        let linkage = one.text("linkage");
        for broken in ["libjemalloc.so.2", "libtcmalloc.so.4", "libheadless.so"] {
            assert!(!linkage.ends_with(broken), "{summary}");
        }
    }
    // What ends before its own end is said to, and there is nothing else to say.
    is_noted(summary, "libhalf.so was not looked through to its end");
    for note in summary.texts("notes") {
        assert!(note.contains("was not looked through"), "{note}");
    }
}
