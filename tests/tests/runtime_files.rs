//! The files of allocators and runtimes, wherever they are: gone, replaced, in another mount namespace, or no libraries at all.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use memtrace_tests::golang::{self, GO};
use memtrace_tests::needs::Need;
use memtrace_tests::programs::{JEMALLOC, PERL, jemalloc, perl_command};
use memtrace_tests::runtimes::{
    LAZILY, copy, glibc_version, is_noted, jemalloc_version, look, look_at_work, runtime, set,
    settings, start_go,
};
use memtrace_tests::tempdir::TempDir;
use memtrace_tests::tracer::Trace;
use memtrace_tests::wait;
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

/// A copy of the workloads' program that runs as before, but whose table of sections has 4,000 tables
/// of symbols, each of 64 MB at one place that takes no room on the disk. Nothing of that is loaded.
fn hostile(dir: &TempDir) -> PathBuf {
    const HUGE: u64 = 64 << 20;
    const SECTIONS: u16 = 4000;
    let [program, _] = exe!("waits").words();
    let path = copy(dir, Path::new(&program), "hostile");
    let file = fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .expect("the directory is ours");
    let names = fs::metadata(&path).expect("it is there").len();
    let table = names + 2 * HUGE;
    file.set_len(table).expect("the directory is ours");
    // elf(5): Elf64_Shdr, for the names (SHT_STRTAB) and for symbols (SHT_DYNSYM) that refer to them.
    let section = |kind: u32, place: u64, link: u32| {
        let mut header = [0u8; 64];
        header[4..8].copy_from_slice(&kind.to_le_bytes());
        header[24..32].copy_from_slice(&place.to_le_bytes());
        header[32..40].copy_from_slice(&HUGE.to_le_bytes());
        header[40..44].copy_from_slice(&link.to_le_bytes());
        header[56..64].copy_from_slice(&24u64.to_le_bytes());
        header
    };
    let mut headers = vec![[0u8; 64], section(3, names, 0)];
    headers.resize(SECTIONS.into(), section(11, names + HUGE, 1));
    // The name that a program is asked for stands where the look for it ends.
    let put = |bytes: &[u8], at: u64| file.write_all_at(bytes, at).expect("the directory is ours");
    put(b"\0node_module_register\0", names + HUGE - 64);
    put(headers.as_flattened(), table);
    // Elf64_Ehdr: e_shoff; e_shentsize, e_shnum, e_shstrndx.
    put(&table.to_le_bytes(), 40);
    let counts = [64, SECTIONS, 1].map(u16::to_le_bytes);
    put(counts.as_flattened(), 58);
    path
}

/// The threads of a process: their names, and whether each sleeps.
fn threads(pid: u32) -> Vec<(String, bool)> {
    let threads = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten();
    threads
        .filter_map(|thread| {
            let stat = fs::read_to_string(thread.ok()?.path().join("stat")).ok()?;
            let (name, rest) = stat.split_once('(')?.1.rsplit_once(") ")?;
            Some((name.to_owned(), rest.starts_with('S')))
        })
        .collect()
}

#[test]
fn a_file_made_to_keep_us_busy_is_given_up_and_others_are_recognised_meanwhile() {
    needs!(Need::Tracing, GO);
    let dir = TempDir::new();
    let program = golang::build("advises", built());
    let busy = Workload::start_command(Command::new(hostile(&dir)).arg("waits"));
    let harmless = start_go(&program, Some("madvdontneed=0"));
    // The harmless one waits behind the other.
    let pids = format!("{},{}", busy.pid, harmless.pid);
    let trace = Trace::with(&["-q", "--no-status", "-p", &pids]);
    // The quick looks are done once their thread sleeps after it has passed one on.
    wait::until("both quick looks", || {
        let threads = threads(trace.pid());
        let is = |wanted: &str| threads.iter().find(|(name, _)| name == wanted);
        (is("recognise-big").is_some() && is("recognise")?.1).then_some(())
    });
    trace.signal(libc::SIGTERM);
    let run = trace.finish();

    let [busy_pid, harmless_pid] = [busy.pid, harmless.pid].map(u64::from);
    let summary = run.summary_of(harmless_pid, 0);
    let go = runtime(summary, "Go");
    assert_eq!(go.text("version"), golang::version(built()));
    assert_eq!(settings(&go), set("GODEBUG", "madvdontneed=0"));
    assert_eq!(summary.texts("notes"), [""; 0]);
    let summary = run.summary_of(busy_pid, 0);
    is_noted(summary, "hostile was not looked through to its end");
    // Its library is another file.
    let glibc = runtime(summary, "glibc malloc");
    assert_eq!(glibc.text("version"), glibc_version());
    busy.kill();
    harmless.kill();
}

#[test]
fn a_thorough_look_at_such_a_file_ends_by_itself() {
    needs!(Need::Tracing);
    let dir = TempDir::new();
    let busy = Workload::start_command(Command::new(hostile(&dir)).arg("waits"));
    let trace = Trace::with(&["-q", "--no-status", "-p", &busy.pid.to_string()]);
    wait::until("the end of the thorough look", || {
        let threads = threads(trace.pid());
        let big = threads.iter().find(|(name, _)| name == "recognise-big");
        big?.1.then_some(())
    });
    trace.signal(libc::SIGTERM);
    let run = trace.finish();
    busy.kill();
    is_noted(run.summary(), "more than 512M would have to be read");
    assert_eq!(
        runtime(run.summary(), "glibc malloc").text("version"),
        glibc_version()
    );
}
