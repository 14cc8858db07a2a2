//! A memtrace whose file has rights that its user has not: it traces with them, and opens what the user names without.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use memtrace_tests::needs::{Need, not_run};
use memtrace_tests::tempdir::TempDir;
use memtrace_tests::tracer::command;
use memtrace_tests::wait;
use memtrace_tests::workload::Workload;
use memtrace_tests::{exe, needs};

const NOBODY: u32 = 65534;
/// include/uapi/linux/capability.h: CAP_DAC_READ_SEARCH, CAP_SYS_PTRACE, CAP_PERFMON and CAP_BPF, as `memtrace doctor` advises.
const ADVISED: u64 = 1 << 2 | 1 << 19 | 1 << 38 | 1 << 39;
/// CAP_DAC_OVERRIDE, CAP_SETGID and CAP_SETUID: more than anybody should give.
const MORE: u64 = 1 << 1 | 1 << 6 | 1 << 7;

/// What makes the copy more than its user.
#[derive(Clone, Copy, Debug)]
enum Rights {
    Capabilities(u64),
    Setuid,
}

/// Files of root's, a folder of nobody's, and memtrace with rights of its own.
struct Scene {
    dir: TempDir,
    memtrace: PathBuf,
    workload: Workload,
}

impl Scene {
    /// `None`, having said so, where a file's rights mean nothing here.
    fn new(test: &str, rights: Rights) -> Option<Self> {
        let dir = TempDir::new();
        let memtrace = dir.join("memtrace");
        fs::copy(command().get_program(), &memtrace).expect("the directory is ours");
        if is_nosuid(dir.path()) {
            not_run(
                test,
                "the folder for temporary files is mounted nosuid",
                "set TMPDIR to another",
            );
            return None;
        }
        match rights {
            Rights::Capabilities(bits) => {
                set_mode(&memtrace, 0o755);
                give(&memtrace, bits);
            }
            Rights::Setuid => set_mode(&memtrace, 0o4755),
        }
        let secret = dir.join("secret");
        fs::write(&secret, "root only\n").expect("the directory is ours");
        set_mode(&secret, 0o600);
        let closed = dir.join("closed");
        fs::create_dir(&closed).expect("the directory is ours");
        fs::copy("/bin/true", closed.join("true")).expect("true is a program");
        set_mode(&closed, 0o700);
        let theirs = dir.join("theirs");
        fs::create_dir(&theirs).expect("the directory is ours");
        chown(&theirs, Some(NOBODY), Some(NOBODY)).expect("we are root");
        Some(Self {
            dir,
            memtrace,
            // Root's own.
            workload: Workload::start(&exe!("waits"), &[]),
        })
    }

    /// Runs it as nobody, where tracefs is mounted.
    fn run(&self, args: &[&str]) -> Output {
        wait::until("the copy to be free", || {
            let mut tracer = Command::new(&self.memtrace);
            tracer
                .args(args)
                .stdin(Stdio::null())
                .current_dir(self.dir.join("theirs"));
            // SAFETY: these are system calls only, on constants.
            unsafe { tracer.pre_exec(become_nobody) };
            match tracer.output() {
                Err(error) if error.raw_os_error() == Some(libc::ETXTBSY) => None,
                output => Some(output.expect("memtrace starts")),
            }
        })
    }

    fn traced(&self, args: &[&str]) -> Output {
        let pid = self.workload.pid.to_string();
        let all = [
            &["-q", "--no-status", "--duration", "0.1", "-p", &pid],
            args,
        ]
        .concat();
        self.run(&all)
    }

    fn path(&self, name: &str) -> String {
        self.dir.join(name).to_str().expect("ASCII").to_owned()
    }
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("the file is ours");
}

fn is_nosuid(path: &Path) -> bool {
    let name = std::ffi::CString::new(path.as_os_str().as_bytes()).expect("no NUL");
    // SAFETY: a zeroed statvfs is a valid one; the name ends in NUL.
    let (done, status) = unsafe {
        let mut status: libc::statvfs = std::mem::zeroed();
        (libc::statvfs(name.as_ptr(), &mut status), status)
    };
    done == 0 && status.f_flag & libc::ST_NOSUID != 0
}

/// Gives a file capabilities, as setcap's +ep does (include/uapi/linux/capability.h:vfs_cap_data).
fn give(path: &Path, bits: u64) {
    const REVISION_2_EFFECTIVE: u32 = 0x0200_0001;
    let words = [REVISION_2_EFFECTIVE, bits as u32, 0, (bits >> 32) as u32, 0];
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let name = std::ffi::CString::new(path.as_os_str().as_bytes()).expect("no NUL");
    // SAFETY: the names end in NUL, and the value has the length that is said.
    let done = unsafe {
        libc::setxattr(
            name.as_ptr(),
            c"security.capability".as_ptr(),
            bytes.as_ptr().cast(),
            bytes.len(),
            0,
        )
    };
    assert_eq!(
        done,
        0,
        "{}: {}",
        path.display(),
        io::Error::last_os_error()
    );
}

/// Gives root up for good, in a mount namespace where tracefs is mounted.
fn become_nobody() -> io::Result<()> {
    let done = |result: libc::c_int| match result {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    };
    let none = std::ptr::null();
    // SAFETY: strings that end in NUL, and integers.
    unsafe {
        done(libc::unshare(libc::CLONE_NEWNS))?;
        let private = libc::MS_REC | libc::MS_PRIVATE;
        done(libc::mount(none, c"/".as_ptr(), none, private, none.cast()))?;
        let (tracefs, place) = (c"tracefs".as_ptr(), c"/sys/kernel/tracing".as_ptr());
        // EBUSY: it is there.
        libc::mount(tracefs, place, tracefs, 0, none.cast());
        // Before Linux 5.11 BPF is charged to this; where it may not be raised it is hardly low.
        let unlimited = libc::rlimit {
            rlim_cur: libc::RLIM_INFINITY,
            rlim_max: libc::RLIM_INFINITY,
        };
        libc::setrlimit(libc::RLIMIT_MEMLOCK, &unlimited);
        done(libc::setgroups(0, std::ptr::null()))?;
        done(libc::setresgid(NOBODY, NOBODY, NOBODY))?;
        done(libc::setresuid(NOBODY, NOBODY, NOBODY))
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
fn refused(output: &Output, status: i32, words: &str) {
    let said = stderr(output);
    assert_eq!(output.status.code(), Some(status), "{said}");
    assert!(said.contains(words), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

/// Everything that is asked of a memtrace with more rights than its user's.
fn names_are_opened_with_the_users_rights(test: &str, rights: Rights) {
    let Some(scene) = Scene::new(test, rights) else {
        return;
    };
    // Tracing works, of root's process too, and the report is the user's.
    let output = scene.traced(&["-o", "run"]);
    assert_eq!(
        (output.status.code(), &*stderr(&output)),
        (Some(0), ""),
        "{rights:?}"
    );
    let report = scene.dir.join("theirs/run");
    let made = fs::metadata(&report).expect("it was written");
    assert_eq!(
        (made.mode() & 0o7777, made.uid(), made.gid()),
        (0o600, NOBODY, NOBODY)
    );
    let report = fs::read_to_string(&report).expect("we are root");
    assert!(
        report.contains(&format!("(pid {})", scene.workload.pid)),
        "{report}"
    );

    let yours = "opens what you name with your rights";
    let secret = scene.path("secret");
    refused(&scene.traced(&["--gctrace", &secret]), 1, yours);
    // Read by anybody who may trace it.
    let environ = format!("/proc/{}/environ", scene.workload.pid);
    refused(&scene.traced(&["--gctrace", &environ]), 1, yours);
    refused(&scene.traced(&["-o", &secret]), 1, yours);
    refused(&scene.traced(&["-o", &scene.path("closed/new")]), 1, yours);
    refused(&scene.traced(&["-o", &scene.path("new")]), 1, yours);
    assert_eq!(
        fs::read_to_string(&secret).expect("we are root"),
        "root only\n"
    );
    assert!(!scene.dir.join("new").exists() && !scene.dir.join("closed/new").exists());

    // So is the command, which has no more than its user either.
    let program = scene.path("closed/true");
    refused(
        &scene.run(&["-q", "-o", "run", "--", &program]),
        126,
        "Permission denied",
    );
    refused(
        &scene.run(&["-q", "-o", "run", "--user", "root", "--", "true"]),
        1,
        "--user needs root",
    );
    let output = scene.run(&[
        "-q",
        "-o",
        "run",
        "--",
        "sh",
        "-c",
        "id -u; cat /proc/self/status",
    ]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    for line in [
        "65534\n",
        "\nUid:\t65534\t65534\t65534\t65534\n",
        "\nGid:\t65534\t65534\t65534\t65534\n",
        "\nCapEff:\t0000000000000000\n",
        "\nCapPrm:\t0000000000000000\n",
    ] {
        assert!(said.contains(line), "no {line:?} in {said}");
    }

    // Its own stdout is there for it by any name.
    let output = scene.traced(&["-o", "/dev/stdout"]);
    assert_eq!((output.status.code(), &*stderr(&output)), (Some(0), ""));
    assert!(String::from_utf8_lossy(&output.stdout).contains("verdict: "));

    let output = scene.run(&["doctor"]);
    let said = String::from_utf8_lossy(&output.stdout);
    for words in ["root's too", "chmod 0750"] {
        assert!(
            said.contains(words) || matches!(rights, Rights::Setuid),
            "{said}"
        );
    }
    assert!(said.contains("\nnote  own file "), "{said}");
}

#[test]
fn with_the_capabilities_that_doctor_advises() {
    needs!(Need::Tracing, Need::Mounting);
    names_are_opened_with_the_users_rights(
        "privileges::with_the_capabilities_that_doctor_advises",
        Rights::Capabilities(ADVISED),
    );
}

#[test]
fn with_capabilities_that_nobody_should_give() {
    needs!(Need::Tracing, Need::Mounting);
    names_are_opened_with_the_users_rights(
        "privileges::with_capabilities_that_nobody_should_give",
        Rights::Capabilities(ADVISED | MORE),
    );
}

#[test]
fn with_a_setuid_bit() {
    needs!(Need::Tracing, Need::Mounting);
    names_are_opened_with_the_users_rights("privileges::with_a_setuid_bit", Rights::Setuid);
}

#[test]
fn a_log_that_is_replaced_is_opened_anew_with_the_users_rights() {
    needs!(Need::Tracing, Need::Mounting);
    let test = "privileges::a_log_that_is_replaced";
    let Some(scene) = Scene::new(test, Rights::Capabilities(ADVISED)) else {
        return;
    };
    let (log, report) = (scene.dir.join("theirs/log"), scene.dir.join("theirs/run"));
    fs::write(&log, "").expect("we are root");
    let mut tracer = Command::new(&scene.memtrace);
    tracer
        .args([
            "-q",
            "-o",
            "run",
            "--gctrace",
            "log",
            "-p",
            &scene.workload.pid.to_string(),
        ])
        .stdin(Stdio::null())
        .current_dir(scene.dir.join("theirs"));
    // SAFETY: these are system calls only, on constants.
    unsafe { tracer.pre_exec(become_nobody) };
    let mut tracer = wait::until("the copy to be free", || match tracer.spawn() {
        Err(error) if error.raw_os_error() == Some(libc::ETXTBSY) => None,
        tracer => Some(tracer.expect("memtrace starts")),
    });
    wait::until("the header", || {
        fs::read_to_string(&report)
            .is_ok_and(|text| text.contains("tracing "))
            .then_some(())
    });
    fs::rename(scene.dir.join("secret"), &log).expect("we are root");
    // A look at the file ends each wait of the thread that reads it.
    let looks = waits_of(tracer.id(), "gctrace");
    wait::until("a whole look after that", || {
        (waits_of(tracer.id(), "gctrace") >= looks + 2).then_some(())
    });
    // SAFETY: the child has not been reaped, so that the pid is its own.
    unsafe { libc::kill(tracer.id() as i32, libc::SIGINT) };
    assert!(tracer.wait().expect("it is our child").success());
    let report = fs::read_to_string(&report).expect("we are root");
    assert!(
        report.contains("was replaced, and cannot be opened: Permission denied"),
        "{report}"
    );
}

/// How often a thread of a process has waited.
fn waits_of(pid: u32, name: &str) -> u64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("it lives");
    let statuses = threads
        .flatten()
        .filter_map(|one| fs::read_to_string(one.path().join("status")).ok());
    let mut named = statuses.filter(|status| status.starts_with(&format!("Name:\t{name}\n")));
    let status = named.next().expect("there is such a thread");
    let count = status
        .lines()
        .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    count
        .and_then(|count| count.trim().parse().ok())
        .expect("proc tells")
}
