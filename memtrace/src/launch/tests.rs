//! Tests of launching with real commands.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::*;
use crate::ledger::event::MappingKind;
use crate::proc::{self, is_root, not_run};

fn words(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

fn sh(script: &str) -> Vec<OsString> {
    words(&["sh", "-c", script])
}

/// Waits on the pidfd as a session does; the time is a backstop only.
fn end(launch: &mut Launch) -> ExitStatus {
    let pidfd = launch.pidfd().unwrap();
    let mut poll = libc::pollfd {
        fd: pidfd.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one structure is passed and told as one.
    let ready = unsafe { libc::poll(&mut poll, 1, 20_000) };
    assert_eq!(ready, 1, "the command did not end");
    launch.reap().unwrap().unwrap()
}

fn run(argv: &[OsString], user: Option<&str>) -> ExitStatus {
    let mut launch = Launch::prepare(argv, user).unwrap();
    launch.exec(|_| ()).unwrap();
    end(&mut launch)
}

fn kill(pid: u32, signal: i32) {
    // SAFETY: the pid is that of a child of the test.
    unsafe { libc::kill(i32::try_from(pid).unwrap(), signal) };
}

/// A file of its own for a test, removed afterwards.
struct Scratch(std::path::PathBuf);

impl Scratch {
    fn new(name: &str, text: &str, mode: u32) -> Self {
        let path = std::env::temp_dir().join(format!("memtrace-{name}-{}", std::process::id()));
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        Self(path)
    }

    fn argv(&self) -> Vec<OsString> {
        vec![self.0.clone().into_os_string()]
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn a_command_ends_with_its_own_status() {
    assert_eq!(exit_code(run(&words(&["true"]), None)), 0);
    assert_eq!(exit_code(run(&sh("exit 3"), None)), 3);
    assert_eq!(exit_code(run(&sh("kill -TERM $$"), None)), 128 + 15);
}

#[test]
fn its_end_can_be_asked_for_more_than_once() {
    let mut launch = Launch::prepare(&words(&["true"]), None).unwrap();
    launch.exec(|_| ()).unwrap();
    let status = end(&mut launch);
    assert_eq!(launch.reap().unwrap(), Some(status));
}

#[test]
fn at_the_stop_just_the_command_its_loader_and_its_stack_are_mapped() {
    let mut launch = Launch::prepare(&words(&["cat", "/dev/null"]), None).unwrap();
    let pid = launch.pid();
    assert!(!proc::stat::read(pid).unwrap().has_execed());
    let mut seen = None;
    launch
        .exec(|stopped| {
            assert_eq!(stopped, pid);
            let maps = proc::maps::read(stopped).unwrap();
            seen = Some((maps, proc::stat::read(stopped).unwrap(), proc::exe(stopped)));
        })
        .unwrap();
    assert!(end(&mut launch).success());
    let (maps, stat, exe) = seen.unwrap();
    assert_eq!((stat.state, stat.comm.as_str()), ('t', "cat"));
    let names: Vec<_> = maps
        .list
        .iter()
        .filter_map(|(_, m)| m.name.as_deref())
        .collect();
    assert!(names.contains(&exe.unwrap().as_str()), "{names:?}");
    // The C library is mapped by the loader's first instructions, which have not run.
    assert!(
        !names.iter().any(|name| name.contains("/libc.so")),
        "{names:?}"
    );
    let has = |kind| maps.list.iter().any(|(_, m)| m.kind == kind);
    assert!(has(MappingKind::Stack) && has(MappingKind::Special));
}

#[test]
fn a_command_that_does_not_exist_gives_127() {
    for (command, text) in [
        ("no-such-command-anywhere", "no such command in PATH"),
        ("/no/such/command", "no such file"),
    ] {
        let mut launch = Launch::prepare(&words(&[command]), None).unwrap();
        let error = launch.exec(|_| panic!("it did not exec")).unwrap_err();
        assert_eq!(error.exit_code(), 127);
        assert!(error.to_string().contains(text), "{error}");
        assert!(launch.reap().unwrap().is_some());
    }
}

#[test]
fn a_directory_of_path_that_may_not_be_searched_hides_no_missing_command() {
    let denied = || {
        Some((
            child::Stage::Exec,
            io::Error::from_raw_os_error(libc::EACCES),
        ))
    };
    let status = ExitStatus::from_raw(0);
    let of = |command: &str| error::exec_error(OsStr::new(command), status, denied()).exit_code();
    assert_eq!(of("no-such-command-anywhere"), 127);
    assert_eq!(of("sh"), 126);
    assert_eq!(of("/etc/passwd"), 126);
}

#[test]
fn a_script_whose_interpreter_is_missing_says_so() {
    let script = Scratch::new("interpreter", "#!/no/such/interpreter\n", 0o755);
    let mut launch = Launch::prepare(&script.argv(), None).unwrap();
    let error = launch.exec(|_| ()).unwrap_err();
    assert_eq!(error.exit_code(), 127);
    assert!(error.to_string().contains("interpreter"), "{error}");
}

#[test]
fn a_file_that_may_not_be_executed_gives_126() {
    let file = Scratch::new("plain", "exit 0\n", 0o644);
    for argv in [file.argv(), words(&["/"])] {
        let mut launch = Launch::prepare(&argv, None).unwrap();
        let error = launch.exec(|_| ()).unwrap_err();
        assert_eq!(error.exit_code(), 126, "{error}");
    }
}

#[test]
fn signals_that_come_at_the_stop_reach_the_command() {
    let mut launch = Launch::prepare(&words(&["sleep", "100"]), None).unwrap();
    launch.exec(|pid| kill(pid, libc::SIGTERM)).unwrap();
    assert_eq!(exit_code(end(&mut launch)), 128 + libc::SIGTERM as u8);
}

#[test]
fn a_command_killed_at_its_stop_is_an_ended_command() {
    let mut launch = Launch::prepare(&words(&["sleep", "100"]), None).unwrap();
    launch.exec(|pid| kill(pid, libc::SIGKILL)).unwrap();
    assert_eq!(exit_code(end(&mut launch)), 128 + libc::SIGKILL as u8);
}

#[test]
fn a_process_killed_before_it_is_let_go_is_reported_and_reaped() {
    let mut launch = Launch::prepare(&words(&["sleep", "100"]), None).unwrap();
    kill(launch.pid(), libc::SIGTERM);
    let error = launch.exec(|_| panic!("it did not exec")).unwrap_err();
    assert_eq!(error.exit_code(), 128 + libc::SIGTERM as u8);
    assert!(launch.reap().unwrap().is_some());
}

#[test]
fn a_storm_of_harmless_signals_during_exec_does_no_harm() {
    for _ in 0..20 {
        let mut launch = Launch::prepare(&words(&["true"]), None).unwrap();
        let (pid, done) = (launch.pid(), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    kill(pid, libc::SIGWINCH);
                }
            });
            // The storm must end before the process is reaped.
            let executed = launch.exec(|_| ());
            done.store(true, Ordering::Relaxed);
            executed.unwrap();
        });
        assert!(end(&mut launch).success());
    }
}

#[test]
fn the_command_starts_with_default_signals_and_an_empty_mask() {
    let script = "grep -E '^Sig(Blk|Ign):' /proc/self/status | while read key bits; do
        case $key in SigIgn:) bits=$(printf %x $((0x$bits & 0x1000)));; esac
        [ \"$((0x$bits))\" = 0 ] || exit 1; done";
    assert_eq!(exit_code(run(&sh(script), None)), 0);
}

#[test]
fn it_holds_no_descriptor_of_ours_waiting_or_running_and_is_in_our_process_group() {
    let (ours, _write) = std::io::pipe().unwrap();
    let ours = proc::fd_target(std::process::id(), ours.as_raw_fd()).unwrap();
    let mut launch = Launch::prepare(&words(&["true"]), None).unwrap();
    let held = |pid: u32| {
        let listed = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
        listed
            .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok())
            .filter_map(|fd: i32| proc::fd_target(pid, fd))
            .collect::<Vec<_>>()
    };
    assert!(!held(launch.pid()).contains(&ours));
    launch
        .exec(|pid| {
            assert!(!held(pid).contains(&ours));
            // SAFETY: getpgid takes the pid of a child of ours, or 0 for ourselves.
            let groups = unsafe { (libc::getpgid(i32::try_from(pid).unwrap()), libc::getpgid(0)) };
            assert_eq!(groups.0, groups.1);
        })
        .unwrap();
    assert!(end(&mut launch).success());
}

#[test]
fn dropped_before_it_is_let_go_nothing_is_left() {
    let launch = Launch::prepare(&words(&["sleep", "100"]), None).unwrap();
    let pid = launch.pid();
    drop(launch);
    assert!(proc::is_gone(&proc::stat::read(pid).unwrap_err()));
}

#[test]
fn detached_it_runs_on_untraced() {
    let mut launch = Launch::prepare(&words(&["sleep", "100"]), None).unwrap();
    let (pid, pidfd) = (launch.pid(), launch.pidfd().unwrap());
    launch.exec(|_| ()).unwrap();
    launch.detach();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(status.contains("TracerPid:\t0\n") && !status.contains("State:\tZ"));
    kill(pid, libc::SIGKILL);
    // SAFETY: it is our own child, which nobody else waits for.
    unsafe { libc::waitpid(i32::try_from(pid).unwrap(), std::ptr::null_mut(), 0) };
    drop(pidfd);
}

/// Not a test of its own: the memtrace that the next one kills while its command waits.
#[test]
fn helper_that_is_killed() {
    if std::env::var_os("MEMTRACE_TEST_HELPER").is_some() {
        let launch = Launch::prepare(&words(&["sleep", "100"]), None).unwrap();
        println!("\nwaiting={}", launch.pid());
        std::io::stdin().read_line(&mut String::new()).unwrap();
    }
}

#[test]
fn when_memtrace_is_killed_the_waiting_process_ends() {
    let mut memtrace = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "--nocapture",
            "launch::tests::helper_that_is_killed",
        ])
        .env("MEMTRACE_TEST_HELPER", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = std::io::BufReader::new(memtrace.stdout.take().unwrap());
    let pid: u32 = std::io::BufRead::lines(output)
        .find_map(|line| line.unwrap().strip_prefix("waiting=")?.parse().ok())
        .unwrap();
    assert!(proc::stat::read(pid).is_ok());
    memtrace.kill().unwrap();
    memtrace.wait().unwrap();
    let began = Instant::now();
    while proc::stat::read(pid).is_ok_and(|stat| !stat.is_dead()) {
        assert!(began.elapsed() < Duration::from_secs(20), "it still waits");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn another_user_is_taken_on_wholly() {
    if !is_root() {
        return not_run("becoming another user needs root", "run the tests as root");
    }
    let Some(nobody) = User::by_name("nobody").unwrap() else {
        return not_run("there is no user nobody", "add one");
    };
    let output = Scratch::new("user", "", 0o666);
    let script = format!(
        "exec >{}; echo $HOME:$USER:$LOGNAME; cat /proc/self/status",
        output.0.display()
    );
    let status = run(&sh(&script), Some("nobody"));
    assert!(status.success());
    let text = fs::read_to_string(&output.0).unwrap();
    let (names, status) = text.split_once('\n').unwrap();
    assert_eq!(
        names,
        format!("{}:nobody:nobody", nobody.home.to_str().unwrap())
    );
    let field = |key: &str| {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(key))
            .unwrap();
        line.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    // Real, effective, saved and file-system ids: there is no way back to root.
    assert_eq!(field("Uid:"), vec![nobody.uid.to_string(); 4]);
    assert_eq!(field("Gid:"), vec![nobody.gid.to_string(); 4]);
    assert_eq!(field("CapEff:"), ["0000000000000000"]);
    let mut groups: Vec<_> = nobody.groups.iter().map(ToString::to_string).collect();
    groups.dedup();
    assert_eq!(field("Groups:"), groups);
}

#[test]
fn maps_can_be_read_at_the_stop_also_of_another_user() {
    if !is_root() {
        return not_run("becoming another user needs root", "run the tests as root");
    }
    let mut launch = Launch::prepare(&words(&["true"]), Some("nobody")).unwrap();
    let mut mappings = 0;
    launch
        .exec(|pid| mappings = proc::maps::read(pid).unwrap().list.len())
        .unwrap();
    assert!(end(&mut launch).success() && mappings > 3);
}

#[test]
fn what_cannot_be_prepared_is_told() {
    let text = |argv: &[OsString], user| Launch::prepare(argv, user).err().unwrap().to_string();
    assert!(text(&[], None).contains("no command"));
    assert!(text(&words(&["a\0b"]), None).contains("NUL"));
    assert!(text(&words(&["true"]), Some("no-such-user-here")).contains("no-such-user-here"));
}
