//! The files of allocators and runtimes, wherever they are: gone, replaced, in another mount namespace, or no libraries at all.

use std::fs;
use std::path::Path;
use std::process::Command;

use memtrace_tests::golang::{self, GO};
use memtrace_tests::needs::Need;
use memtrace_tests::programs::{JEMALLOC, PERL, jemalloc, perl_command};
use memtrace_tests::runtimes::{
    LAZILY, copy, glibc_version, is_noted, jemalloc_version, look, look_at_work, runtime, set,
    settings, start_go,
};
use memtrace_tests::tempdir::TempDir;
use memtrace_tests::workload::Workload;
use memtrace_tests::{exe, needs};

const UNSHARE: Need = Need::Program("unshare", "util-linux");

fn built() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
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
    let (truth, run) = look_at_work(&mut workload);
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
