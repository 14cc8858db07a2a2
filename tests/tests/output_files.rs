//! -o FILE: what a file holds is lost to a run only that has something to put there, and to no other file.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use memtrace_tests::binary;
use memtrace_tests::needs::Need;
use memtrace_tests::tempdir::TempDir;
use memtrace_tests::tracer::command;
use memtrace_tests::workload::Workload;
use memtrace_tests::{exe, needs};

const NOBODY: u32 = 65534;
/// include/uapi/linux/capability.h
const CAP_SYS_ADMIN: u64 = 21;
const CAP_BPF: u64 = 39;
/// No process has it: the largest pid there can be is 4194304.
const NO_PID: &str = "2147483647";
const OLD: &str = "of the last run";

fn run(args: &[&str]) -> Output {
    command()
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("memtrace starts")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("ASCII")
}

/// A file from before, that others may read.
fn old_file(dir: &TempDir, name: &str) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, OLD).expect("the directory is ours");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("the file is ours");
    path
}

#[track_caller]
fn assert_old(path: &Path) {
    let content = fs::read_to_string(path).expect("it is there");
    assert_eq!(content, OLD, "{}", path.display());
    assert_eq!(mode(path), 0o644);
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it is there").mode() & 0o7777
}

#[test]
fn a_run_that_comes_to_nothing_leaves_a_file_as_it_was_and_makes_none() {
    needs!(Need::Tracing);
    let dir = TempDir::new();
    let workload = Workload::start(&exe!("waits"), &[]);
    let pid = workload.pid.to_string();
    let plain = old_file(&dir, "not-executable");
    let missing = dir.join("missing");
    for (args, status) in [
        (&["-p", NO_PID][..], 1),
        (&["reclaim", "-p", NO_PID], 1),
        (&["reclaim", "--watch", "1", "-p", NO_PID], 1),
        (&["reclaim", "--format", "json", "-p", "2"], 1),
        (&["-p", &pid, "--gctrace", text(&missing)], 1),
        (&["--", "no-such-program-on-the-path"], 127),
        (&["--", text(&missing)], 127),
        (&["--", text(&plain)], 126),
        (&["--user", "no-such-user-here", "--", "true"], 1),
    ] {
        let (old, new) = (old_file(&dir, "old"), dir.join("new"));
        for file in [&old, &new] {
            let all = [&["-o", text(file)], args].concat();
            let output = run(&all);
            assert_eq!(
                output.status.code(),
                Some(status),
                "{all:?}: {}",
                stderr(&output)
            );
            assert_eq!(stderr(&output).lines().count(), 1, "{}", stderr(&output));
        }
        assert_old(&old);
        assert!(!new.exists(), "{args:?} made a file");
    }
    assert_old(&plain);
}

#[test]
fn a_file_is_as_it_was_where_nothing_can_be_attached() {
    needs!(Need::Tracing);
    let dir = TempDir::new();
    let workload = Workload::start(&exe!("waits"), &[]);
    let pid = workload.pid.to_string();
    for args in [
        &["-p", &pid][..],
        &["--", "true"],
        &["demo"],
        &["reclaim", "--watch", "1", "-p", &pid],
    ] {
        let (old, new) = (old_file(&dir, "old"), dir.join("new"));
        for file in [&old, &new] {
            let mut tracer = command();
            // Before a command's own words.
            let (at, sub) = args.split_at(usize::from(!args[0].starts_with('-')));
            tracer
                .args(at)
                .arg("-o")
                .arg(file)
                .args(sub)
                .stdin(Stdio::null());
            // SAFETY: prctl is async-signal-safe; what leaves the bounding set is gone with the exec.
            unsafe {
                tracer.pre_exec(|| {
                    for capability in [CAP_BPF, CAP_SYS_ADMIN] {
                        libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0);
                    }
                    Ok(())
                });
            }
            let output = tracer.output().expect("memtrace starts");
            assert_eq!(
                output.status.code(),
                Some(1),
                "{args:?}: {}",
                stderr(&output)
            );
            assert!(stderr(&output).contains("CAP_BPF"), "{}", stderr(&output));
        }
        assert_old(&old);
        assert!(!new.exists(), "{args:?} made a file");
    }
}

#[test]
fn an_output_that_the_run_reads_is_refused_before_anything_is_touched() {
    let dir = TempDir::new();
    let input = old_file(&dir, "input");
    symlink("input", dir.join("link")).expect("the directory is ours");
    fs::hard_link(&input, dir.join("hard")).expect("the directory is ours");
    let pid = std::process::id().to_string();
    let dotted = dir.join("./input");
    let of_gctrace = ["-p", &pid, "--gctrace", text(&input)];
    let hard = dir.join("hard");
    let link = dir.join("link");
    let refused = |stdin: Option<&Path>, args: &[&str], named: &str| {
        let stdin = stdin.map_or(Stdio::null(), |path| {
            File::open(path).expect("it is there").into()
        });
        let output = command()
            .args(args)
            .stdin(stdin)
            .output()
            .expect("memtrace starts");
        assert_eq!(
            output.status.code(),
            Some(2),
            "{args:?}: {}",
            stderr(&output)
        );
        let words = format!("-o names {named}");
        assert!(
            stderr(&output).contains(&words),
            "{args:?}: {}",
            stderr(&output)
        );
        assert_old(&input);
    };
    for output in [&input, &link, &hard, &dotted] {
        let all = [&["-o", text(output)][..], &of_gctrace].concat();
        refused(None, &all, "the file that --gctrace reads");
    }
    let stdin = Some(&*input);
    refused(
        stdin,
        &["-o", text(&link), "--gctrace", "-", "-p", &pid],
        "the file that stdin comes from",
    );
    refused(
        stdin,
        &["-o", text(&link), "--", "sort"],
        "the file that the command's stdin comes from",
    );
    refused(
        None,
        &["-o", text(&link), "--", text(&hard)],
        "the command's own program",
    );
    // As what the shell's >> has opened.
    let append = OpenOptions::new()
        .append(true)
        .open(&input)
        .expect("it is ours");
    let output = command()
        .args(["-o", "/dev/stdout"])
        .args(of_gctrace)
        .stdin(Stdio::null())
        .stdout(append)
        .output()
        .expect("memtrace starts");
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert_old(&input);
    // A program that is found by its name alone.
    fs::set_permissions(&input, fs::Permissions::from_mode(0o755)).expect("the file is ours");
    let output = command()
        .args(["-o", text(&link), "--", "input"])
        .env("PATH", dir.path())
        .stdin(Stdio::null())
        .output()
        .expect("memtrace starts");
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert_eq!(fs::read_to_string(&input).expect("it is there"), OLD);
}

#[test]
fn a_device_is_read_and_written_in_one_run() {
    needs!(Need::Tracing);
    // It may have to be built, for which no workload waits.
    binary::memtrace();
    let workload = Workload::start(&exe!("waits"), &[]);
    let pid = workload.pid.to_string();
    let output = run(&[
        "-q",
        "--duration",
        "0.1",
        "-o",
        "/dev/null",
        "--gctrace",
        "-",
        "-p",
        &pid,
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

fn fifo(dir: &TempDir) -> PathBuf {
    let path = dir.join("fifo");
    let name = std::ffi::CString::new(path.as_os_str().as_bytes()).expect("no NUL");
    // SAFETY: the name ends in NUL.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    path
}

/// Starts it, and waits until it says that it waits.
fn waiting(args: &[&str]) -> (Child, BufReader<std::process::ChildStderr>) {
    let mut tracer = command()
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("memtrace starts");
    let mut stderr = BufReader::new(tracer.stderr.take().expect("stderr is piped"));
    let mut line = String::new();
    stderr.read_line(&mut line).expect("it writes text");
    assert!(line.contains("waiting for a reader"), "{line}");
    (tracer, stderr)
}

#[test]
fn the_first_signal_ends_the_wait_for_a_fifos_reader() {
    needs!(Need::Tracing);
    let dir = TempDir::new();
    let fifo = fifo(&dir);
    let workload = Workload::start(&exe!("waits"), &[]);
    let pid = workload.pid.to_string();
    let trail = dir.join("was-run");
    for args in [
        &["-p", &pid][..],
        &["--", "touch", text(&trail)],
        &["reclaim", "-p", &pid],
        &["reclaim", "--watch", "1", "-p", &pid],
        &["demo"],
    ] {
        for (signal, name) in [
            (libc::SIGTERM, "SIGTERM"),
            (libc::SIGINT, "SIGINT"),
            (libc::SIGHUP, "SIGHUP"),
        ] {
            let (mut tracer, mut stderr) = waiting(&[&["-o", text(&fifo)], args].concat());
            // SAFETY: the child has not been reaped, so that the pid is its own.
            unsafe { libc::kill(tracer.id() as i32, signal) };
            let mut said = String::new();
            stderr.read_to_string(&mut said).expect("it writes text");
            let status = tracer.wait().expect("it is our child");
            assert_eq!(status.code(), Some(128 + signal), "{args:?}: {said}");
            assert!(
                said.contains(&format!("ended by {name}")),
                "{args:?}: {said}"
            );
            assert_eq!(said.lines().count(), 1, "{said}");
        }
    }
    assert!(!trail.exists(), "the command was run");
    // It handles none, and so the signal itself ends it.
    let (mut doctor, _) = waiting(&["doctor", "-o", text(&fifo)]);
    // SAFETY: as above.
    unsafe { libc::kill(doctor.id() as i32, libc::SIGTERM) };
    let status = doctor.wait().expect("it is our child");
    assert_eq!(status.signal(), Some(libc::SIGTERM));
}

#[test]
fn a_fifo_is_written_whether_its_reader_comes_early_or_late() {
    needs!(Need::Tracing);
    let dir = TempDir::new();
    let fifo = fifo(&dir);
    let workload = Workload::start(&exe!("waits"), &[]);
    let args = [
        "-q",
        "--duration",
        "0.1",
        "-o",
        text(&fifo),
        "-p",
        &workload.pid.to_string(),
    ];
    let (mut late, _stderr) = waiting(&args);
    let got = fs::read_to_string(&fifo).expect("it is text");
    assert!(late.wait().expect("it is our child").success());
    assert!(got.contains("verdict: "), "{got}");

    // One that reads and writes needs not wait for anybody.
    let early = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&fifo)
        .expect("it is ours");
    let output = run(&args);
    assert_eq!((output.status.code(), &*stderr(&output)), (Some(0), ""));
    let mut line = String::new();
    BufReader::new(early)
        .read_line(&mut line)
        .expect("it is text");
    assert!(line.starts_with("memtrace "), "{line}");
}

#[test]
fn stdout_by_its_name_is_what_the_shell_made_it() {
    needs!(Need::Tracing);
    let dir = TempDir::new();
    let workload = Workload::start(&exe!("waits"), &[]);
    let traced = |stdout: Stdio| {
        let output = command()
            .args([
                "-q",
                "--duration",
                "0.1",
                "-o",
                "/dev/stdout",
                "-p",
                &workload.pid.to_string(),
            ])
            .stdin(Stdio::null())
            .stdout(stdout)
            .output()
            .expect("memtrace starts");
        assert_eq!((output.status.code(), &*stderr(&output)), (Some(0), ""));
        String::from_utf8(output.stdout).expect("it is text")
    };
    assert!(traced(Stdio::piped()).contains("verdict: "));
    // With >> it goes on behind what is there.
    let log = old_file(&dir, "log");
    let append = OpenOptions::new()
        .append(true)
        .open(&log)
        .expect("it is ours");
    traced(append.into());
    let logged = fs::read_to_string(&log).expect("it is text");
    assert!(logged.starts_with(&format!("{OLD}memtrace ")), "{logged}");
    assert!(logged.contains("verdict: "), "{logged}");
    // A socket cannot be opened by any name.
    let (mut ours, theirs) = UnixStream::pair().expect("sockets");
    traced(OwnedFd::from(theirs).into());
    let mut got = String::new();
    ours.read_to_string(&mut got).expect("it is text");
    assert!(got.contains("verdict: "), "{got}");
}

#[test]
fn a_command_whose_report_cannot_be_written_is_not_run() {
    needs!(Need::Tracing);
    let dir = TempDir::new();
    let trail = dir.join("was-run");
    let output = run(&["-o", "/dev/full", "--", "touch", text(&trail)]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("No space left"),
        "{}",
        stderr(&output)
    );
    assert!(!trail.exists(), "the command was run");
}

#[test]
fn an_error_of_writing_names_the_file_in_every_mode() {
    needs!(Need::Tracing, Need::Reclaiming);
    let workload = Workload::start(&exe!("waits"), &[]);
    let pid = workload.pid.to_string();
    let dir = TempDir::new();
    for args in [
        &["-p", &pid][..],
        &["reclaim", "-p", &pid],
        &["doctor"],
        &["demo"],
    ] {
        for (file, words) in [
            ("/dev/full", "No space left"),
            (text(dir.path()), "is a folder"),
            (text(&dir.join("no/file")), "no such folder"),
        ] {
            let output = run(&[&["-o", file], args].concat());
            let said = stderr(&output);
            assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
            assert!(
                said.contains(words) && said.contains(file),
                "{args:?}: {said}"
            );
            assert_eq!(said.lines().count(), 1, "{said}");
        }
    }
}

#[test]
fn a_new_file_is_its_callers_alone_and_an_old_one_stays_as_it_is() {
    needs!(Need::Tracing);
    let dir = TempDir::new();
    let workload = Workload::start(&exe!("waits"), &[]);
    let traced = |caller: Option<&str>, file: &Path| {
        let mut tracer = command();
        tracer
            .args([
                "-q",
                "--duration",
                "0.1",
                "-p",
                &workload.pid.to_string(),
                "-o",
            ])
            .arg(file)
            .stdin(Stdio::null());
        for name in ["SUDO_UID", "SUDO_GID"] {
            match caller {
                Some(id) => tracer.env(name, id),
                None => tracer.env_remove(name),
            };
        }
        let output = tracer.output().expect("memtrace starts");
        assert_eq!((output.status.code(), &*stderr(&output)), (Some(0), ""));
        let made = fs::metadata(file).expect("it was written");
        assert!(made.len() > 100);
        (made.mode() & 0o7777, made.uid(), made.gid())
    };
    let us = fs::metadata(dir.path()).expect("it is ours");
    assert_eq!(traced(None, &dir.join("own")), (0o600, us.uid(), us.gid()));
    if us.uid() != 0 {
        return;
    }
    assert_eq!(
        traced(Some("1234"), &dir.join("callers")),
        (0o600, 1234, 1234)
    );
    assert_eq!(
        traced(Some("4294967295"), &dir.join("nobodys")),
        (0o600, 0, 0)
    );
    assert_eq!(traced(Some("1234 "), &dir.join("odd")), (0o600, 0, 0));
    let old = old_file(&dir, "old");
    assert_eq!(traced(Some("1234"), &old), (0o644, 0, 0));
}

#[test]
fn nothing_that_another_user_put_into_an_open_folder_is_written() {
    needs!(Need::Tracing);
    if !Path::new("/proc/self")
        .metadata()
        .is_ok_and(|own| own.uid() == 0)
    {
        return memtrace_tests::needs::not_run(
            "output_files::nothing_that_another_user_put",
            "no root",
            "run the tests as root",
        );
    }
    let dir = TempDir::new();
    let victim = old_file(&dir, "victim");
    let shared = dir.join("shared");
    fs::create_dir(&shared).expect("the directory is ours");
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o1777)).expect("it is ours");
    let (link, theirs, hard) = (
        shared.join("link"),
        shared.join("theirs"),
        shared.join("hard"),
    );
    symlink(&victim, &link).expect("it is ours");
    lchown(&link, Some(NOBODY), None).expect("we are root");
    fs::write(&theirs, OLD).expect("it is ours");
    chown(&theirs, Some(NOBODY), None).expect("we are root");
    fs::hard_link(&victim, &hard).expect("it is ours");
    let workload = Workload::start(&exe!("waits"), &[]);
    let pid = workload.pid.to_string();
    for (file, words) in [
        (&link, "symbolic link of user 65534"),
        (&theirs, "belongs to user 65534"),
        (&hard, "2 names"),
    ] {
        for args in [
            &["--duration", "0.1", "-p", &pid][..],
            &["reclaim", "-p", &pid],
            &["doctor"],
        ] {
            let output = run(&[&["-o", text(file)], args].concat());
            assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
            assert!(stderr(&output).contains(words), "{}", stderr(&output));
        }
    }
    assert_old(&victim);
    assert_eq!(fs::read_to_string(&theirs).expect("it is there"), OLD);
    // Its own are written there.
    let own = shared.join("own");
    for expected in [0o600, 0o600] {
        let output = run(&["-q", "--duration", "0.1", "-o", text(&own), "-p", &pid]);
        assert_eq!((output.status.code(), &*stderr(&output)), (Some(0), ""));
        assert_eq!(mode(&own), expected);
    }
}

#[test]
fn who_may_not_write_a_file_is_told_so() {
    let dir = TempDir::new();
    let copy = dir.join("memtrace");
    fs::copy(command().get_program(), &copy).expect("the directory is ours");
    let output = memtrace_tests::wait::until("the copy to be free", || {
        let mut doctor = Command::new(&copy);
        doctor
            .args(["doctor", "-o"])
            .arg(dir.join("new"))
            .stdin(Stdio::null());
        if fs::metadata(dir.path()).is_ok_and(|own| own.uid() == 0) {
            doctor.uid(NOBODY).gid(NOBODY);
        } else {
            fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o555)).expect("it is ours");
        }
        match doctor.output() {
            Err(error) if error.raw_os_error() == Some(libc::ETXTBSY) => None,
            output => Some(output.expect("memtrace starts")),
        }
    });
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("Permission denied"),
        "{}",
        stderr(&output)
    );
    assert!(!dir.join("new").exists());
}
