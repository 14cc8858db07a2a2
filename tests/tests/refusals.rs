//! What cannot be done is said in one clear line, with the exit status that the contract names.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use memtrace_tests::binary;
use memtrace_tests::needs::{Need, not_run};
use memtrace_tests::tempdir::TempDir;
use memtrace_tests::tracer::command;
use memtrace_tests::workload::Workload;
use memtrace_tests::{exe, needs};

const UNSHARE: Need = Need::Program("unshare", "util-linux");
const NOBODY: u32 = 65534;
/// include/uapi/linux/capability.h
const CAP_SYS_ADMIN: u64 = 21;
const CAP_PERFMON: u64 = 38;
const CAP_BPF: u64 = 39;

fn run(args: &[&str]) -> Output {
    command()
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("memtrace starts")
}

/// Asserts a status and a single line on stderr that names something, and nothing on stdout.
#[track_caller]
fn refused(output: &Output, status: i32, named: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{stderr}");
    assert!(stderr.contains(named), "{named} is not named in: {stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    assert!(output.stdout.is_empty());
}

/// As [`refused`], for the command line's own errors, which end with a hint at the help.
#[track_caller]
fn misused(output: &Output, named: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains(named), "{named} is not named in: {stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    assert!(output.stdout.is_empty());
}

#[test]
fn a_process_that_does_not_exist() {
    needs!(Need::Tracing);
    let mut child = Command::new("true").spawn().expect("true runs");
    child.wait().expect("it is our child");
    let pid = child.id().to_string();
    refused(&run(&["-p", &pid]), 1, &pid);
}

#[test]
fn a_file_keeps_what_it_holds_when_there_is_nobody_to_trace() {
    needs!(Need::Tracing);
    let dir = TempDir::new();
    let path = dir.join("out");
    fs::write(&path, "of the last run").expect("the directory is ours");
    let output = run(&["-p", "2147483647", "-o", path.to_str().expect("ASCII")]);
    refused(&output, 1, "2147483647");
    assert_eq!(
        fs::read_to_string(&path).ok().as_deref(),
        Some("of the last run")
    );
}

#[test]
fn a_kernel_thread() {
    needs!(Need::Tracing);
    let comm = fs::read_to_string("/proc/2/comm").unwrap_or_default();
    if comm.trim() != "kthreadd" {
        let why = "process 2 is no kernel thread in this pid namespace";
        return not_run("refusals::a_kernel_thread", why, "run on the host");
    }
    refused(&run(&["-p", "2"]), 1, "kernel thread");
}

#[test]
fn a_size_that_is_none() {
    for size in ["12Q", "many", ""] {
        misused(&run(&["-p", "1", "--min-size", size]), "--min-size");
    }
    misused(&run(&["-p", "1", "--ringbuf-size", "1X"]), "--ringbuf-size");
}

#[test]
fn nothing_to_trace() {
    misused(&run(&[]), "memtrace");
    misused(&run(&["-p", "self"]), "self");
    misused(&run(&["-p", "1", "--format", "yaml"]), "yaml");
}

#[test]
fn a_file_that_cannot_be_written() {
    needs!(Need::Tracing);
    let workload = Workload::start(&exe!("waits"), &[]);
    let dir = TempDir::new();
    let path = dir.join("missing").join("out");
    let path = path.to_str().expect("ASCII");
    refused(
        &run(&["-p", &workload.pid.to_string(), "-o", path]),
        1,
        path,
    );
}

#[test]
fn a_user_without_rights_is_told_which_capability_is_missing() {
    needs!(Need::Tracing);
    // Where the tests were built, another user may not be allowed to look.
    let dir = TempDir::new();
    let copy = dir.join("memtrace");
    fs::copy(binary::memtrace(), &copy).expect("the directory is ours");
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).expect("the file is ours");
    let mut target = Command::new("cat")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .uid(NOBODY)
        .gid(NOBODY)
        .spawn()
        .expect("cat runs");
    let output = run_copy(&copy, target.id());
    // cat ends with its input.
    drop(target.stdin.take());
    target.wait().expect("it is our child");

    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("CAP_BPF"), "{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
}

/// Runs a copy of memtrace as nobody. The copy may still be open for writing in a child that
/// another test is about to start, which passes.
fn run_copy(copy: &Path, pid: u32) -> Output {
    memtrace_tests::wait::until("the copy to be free", || {
        let output = Command::new(copy)
            .args(["-p", &pid.to_string()])
            .stdin(Stdio::null())
            .uid(NOBODY)
            .gid(NOBODY)
            .current_dir("/")
            .output();
        match output {
            Err(error) if error.raw_os_error() == Some(libc::ETXTBSY) => None,
            output => Some(output.expect("memtrace starts")),
        }
    })
}

#[test]
fn a_root_without_one_capability_is_told_which() {
    needs!(Need::Tracing);
    let workload = Workload::start(&exe!("waits"), &[]);
    for (missing, name) in [(CAP_PERFMON, "CAP_PERFMON"), (CAP_BPF, "CAP_BPF")] {
        let mut tracer = command();
        tracer
            .args(["-p", &workload.pid.to_string()])
            .stdin(Stdio::null());
        // SAFETY: prctl is async-signal-safe; what leaves the bounding set is gone with the exec.
        // CAP_SYS_ADMIN stands in for all of them, and so goes too.
        unsafe {
            tracer.pre_exec(move || {
                for capability in [missing, CAP_SYS_ADMIN] {
                    if libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) != 0 {
                        return Err(io::Error::last_os_error());
                    }
                }
                Ok(())
            });
        }
        let output = tracer.output().expect("memtrace starts");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "without {name}: {stderr}");
        assert!(stderr.contains(name), "without {name}: {stderr}");
        assert!(!stderr.contains("panicked"), "{stderr}");
    }
}

#[test]
fn a_full_disk_is_said_and_not_a_panic() {
    needs!(Need::Tracing);
    if File::options().write(true).open("/dev/full").is_err() {
        return not_run(
            "refusals::a_full_disk",
            "no /dev/full",
            "mknod /dev/full c 1 7",
        );
    }
    let workload = Workload::start(&exe!("waits"), &[]);
    let pid = workload.pid.to_string();
    let output = run(&["-p", &pid, "--duration", "1", "-o", "/dev/full"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("No space left"), "{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
}

#[test]
fn a_proc_that_shows_the_pids_of_others() {
    needs!(Need::Tracing, Need::Mounting, UNSHARE);
    // Its pid 1 is itself; that of /proc is another.
    let output = Command::new("unshare")
        .args(["--pid", "--fork"])
        .arg(command().get_program())
        .args(["-p", "1"])
        .stdin(Stdio::null())
        .output()
        .expect("unshare runs");
    refused(&output, 1, "another pid namespace");
}

/// Runs a script as the first process of a pid namespace of its own, with memtrace as `$1`.
fn in_pid_namespace(script: &str) -> Output {
    Command::new("unshare")
        .args(["--pid", "--fork", "--mount-proc", "sh", "-c", script, "sh"])
        .arg(command().get_program())
        .stdin(Stdio::null())
        .output()
        .expect("unshare runs")
}

#[test]
fn a_process_of_a_pid_namespace_below_ours() {
    needs!(Need::Tracing, Need::Mounting, UNSHARE);
    let script = r#"
        unshare --pid --kill-child sleep 60 & between=$!
        while below=$(cat /proc/$between/task/$between/children) && [ -z "$below" ]; do :; done
        "$1" -p $below
        status=$?
        kill -9 $between
        exit $status
    "#;
    refused(&in_pid_namespace(script), 1, "in a pid namespace below");

    // That no process has the pid that doctor tries is no such case.
    let output = in_pid_namespace(r#""$1" doctor --format json"#);
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(report.contains(r#""works":true"#), "{report}");
}
