//! `memtrace reclaim`: what it takes, what it never touches, and what it says when it cannot.

use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Output, Stdio};
use std::ptr;

use memtrace_tests::area::page_bytes;
use memtrace_tests::needs::{Need, not_run};
use memtrace_tests::reclaim::{
    assert_intact, assert_near, assert_untouched, line, lines, reclaim, refused,
};
use memtrace_tests::record::Record;
use memtrace_tests::smaps::Memory;
use memtrace_tests::tempdir::TempDir;
use memtrace_tests::tracer::command;
use memtrace_tests::wait;
use memtrace_tests::workload::Workload;
use memtrace_tests::{exe, needs};

/// include/uapi/linux/capability.h
const CAP_SYS_PTRACE: u64 = 19;
const CAP_SYS_NICE: u64 = 23;
#[test]
fn what_was_freed_is_taken_while_the_program_writes_and_no_other_byte_is_lost() {
    needs!(Need::Reclaiming, Need::NoSwap);
    let mut workload = Workload::start(&exe!("reclaim_pattern"), &[]);
    let told = workload.go();
    let (freed, lazy) = (told.count("freed_bytes"), told.count("lazyfree_bytes"));
    assert_near(lazy, freed, "LazyFree before, as the program sees it");

    let done = line(&["-p", &workload.pid.to_string()]);
    let after = Memory::of(workload.pid);
    assert_near(done.count("before.lazyfree_bytes"), lazy, "LazyFree before");
    assert_near(
        done.count("before.rss_bytes"),
        told.count("rss_bytes"),
        "RSS before",
    );
    assert_near(done.count("after.lazyfree_bytes"), 0, "LazyFree after");
    assert_near(
        done.count("after.lazyfree_bytes"),
        after.lazyfree_bytes,
        "LazyFree now",
    );
    assert_near(done.count("after.rss_bytes"), after.rss_bytes, "RSS now");
    assert_near(done.count("taken_bytes"), lazy, "taken");
    let fell = done.count("before.rss_bytes") - done.count("after.rss_bytes");
    assert_near(fell, lazy, "the fall of RSS");
    assert!(
        done.count("advised_bytes") >= told.count("len_bytes"),
        "{done}"
    );
    done.expect(&[("swap_grown_bytes", 0), ("pid", workload.pid.into())]);

    let truth = workload.say("check");
    workload.end();
    assert_intact(&truth);
    let gone = truth.count("gone_pages") * page_bytes() as u64;
    assert!(gone <= freed, "more was taken than was freed: {truth}");
    assert_near(gone, freed, "pages that are gone");
}

#[test]
fn a_dry_run_names_the_mapping_and_changes_nothing() {
    needs!(Need::Reclaiming);
    let mut workload = Workload::start(&exe!("lazy_holds"), &[]);
    workload.go();
    let before = Memory::of(workload.pid);
    let pid = workload.pid.to_string();
    let dry = line(&["--dry-run", "-p", &pid]);
    let text = reclaim(&["--dry-run", "-p", &pid]);
    assert_untouched(workload.pid, before);

    assert!(dry.truth("dry_run"), "{dry}");
    for unknown in ["after", "taken_bytes", "swap_grown_bytes"] {
        dry.expect_null(unknown);
    }
    dry.expect(&[
        ("before.rss_bytes", before.rss_bytes),
        ("advised_bytes", 0),
        ("ranges", 1),
    ]);
    let mapping = &dry.list("mappings")[0];
    assert_near(
        mapping.count("lazyfree_bytes"),
        before.lazyfree_bytes,
        "LazyFree",
    );
    let start = mapping.count("addr");
    let range = format!("{start:x}-{:x}", start + mapping.count("len_bytes"));
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains(&range), "no {range} in\n{text}");
    assert!(text.contains("Would take up to 16.0M of "), "{text}");
    workload.end();
}

#[test]
fn people_read_what_was_taken() {
    needs!(Need::Reclaiming, Need::NoSwap);
    let mut workload = Workload::start(&exe!("lazy_holds"), &[]);
    workload.go();
    let output = reclaim(&["-p", &workload.pid.to_string()]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.starts_with("workload (pid "), "{text}");
    assert!(text.contains("16.0M taken\n"), "{text}");
    assert!(text.contains("LazyFree    16.0M"), "{text}");
    workload.end();
}

#[test]
fn where_nothing_is_lazily_free_that_is_said_and_is_no_failure() {
    needs!(Need::Reclaiming);
    let workload = Workload::start(&exe!("waits"), &[]);
    let pid = workload.pid.to_string();
    line(&["-p", &pid]).expect(&[("ranges", 0), ("taken_bytes", 0), ("passes", 0)]);
    let output = reclaim(&["-p", &pid]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0));
    assert!(text.contains("nothing is lazily free"), "{text}");
}

#[test]
fn more_mappings_than_fit_into_a_call_are_all_taken() {
    needs!(Need::Reclaiming, Need::NoSwap);
    let mut workload = Workload::start(&exe!("reclaim_ranges"), &[]);
    let told = workload.go();
    let done = line(&["-p", &workload.pid.to_string()]);
    assert_near(
        done.count("taken_bytes"),
        told.count("freed_bytes"),
        "taken",
    );
    // A mapping whose pages are all in a CPU's batch is not seen.
    let (ranges, mappings) = (done.count("ranges"), told.count("mappings"));
    assert!((mappings - 31..=mappings).contains(&ranges), "{done}");
    assert!(ranges > 1024, "one call would have done: {done}");
    let gone = workload.say("check").count("gone_pages") * page_bytes() as u64;
    assert_near(gone, told.count("freed_bytes"), "pages that are gone");
    assert!(gone <= told.count("freed_bytes"));
    workload.end();
}

#[test]
fn several_processes_are_told_of_in_turn_and_one_that_is_missing_does_not_keep_the_others() {
    needs!(Need::Reclaiming, Need::NoSwap);
    let mut first = Workload::start(&exe!("lazy_holds"), &[]);
    let second = Workload::start(&exe!("waits"), &[]);
    first.go();
    let both = format!("{},{},{}", second.pid, first.pid, second.pid);
    let told = lines(&["-p", &both]);
    let pids: Vec<u64> = told.iter().map(|line| line.count("pid")).collect();
    assert_eq!(pids, [second.pid, first.pid].map(u64::from));
    assert!(told[1].count("taken_bytes") > 15 << 20, "{}", told[1]);

    let missing = format!("{},{}", ended_pid(), second.pid);
    let output = reclaim(&["-p", &missing]);
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{stdout}");
    assert!(stdout.contains("nothing is lazily free"), "{stdout}");
    first.end();
}

/// A pid that nobody has any more.
fn ended_pid() -> u32 {
    let mut child = Command::new("true").spawn().expect("true runs");
    child.wait().expect("it is our child");
    child.id()
}

#[test]
fn a_thread_stands_for_its_process() {
    needs!(Need::Reclaiming, Need::NoSwap);
    let mut workload = Workload::start(&exe!("reclaim_pattern"), &[]);
    workload.go();
    let tasks = fs::read_dir(format!("/proc/{}/task", workload.pid)).expect("it lives");
    let names = tasks.map(|task| task.expect("it lives").file_name());
    let ids = names.map(|name| name.to_str().and_then(|name| name.parse().ok()));
    let thread: u32 = ids
        .flatten()
        .find(|&id| id != workload.pid)
        .expect("it has threads");
    let output = reclaim(&["-p", &thread.to_string(), "--format", "json"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(stderr.contains(&format!("{thread} is a thread of process {}", workload.pid)));
    let done = Record::parse(stdout.trim_end()).expect("it is JSON");
    done.expect(&[("pid", workload.pid.into())]);
    workload
        .say("check")
        .expect(&[("kept_wrong", 0), ("written_wrong", 0)]);
    workload.end();
}

/// Holds memtrace still in the midst of its work, between two calls: the target, and memtrace.
fn midway() -> (Workload, Child) {
    const PAGES: u64 = 128 << 10;
    // Where memtrace was done before it could be held, another one is begun.
    wait::until("memtrace to be held midway", || {
        let mut workload = Workload::start(&exe!("lazy_holds"), &[&PAGES.to_string()]);
        workload.go();
        let tracer = command()
            .args(["reclaim", "--format", "json", "-p"])
            .arg(workload.pid.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("memtrace starts");
        let all = resident_pages(workload.pid);
        wait::until("the first call", || {
            (resident_pages(workload.pid) < all - PAGES / 16).then_some(())
        });
        signal(&tracer, libc::SIGSTOP);
        wait::until("memtrace to stop or end", || {
            let stat = fs::read_to_string(format!("/proc/{}/stat", tracer.id()));
            let stat = stat.expect("it has not been reaped");
            let state = stat.rsplit_once(") ").expect("the name ends").1;
            state.starts_with(['T', 'Z']).then_some(())
        });
        let left = Memory::of(workload.pid).lazyfree_bytes;
        if left > PAGES / 8 * 4096 {
            return Some((workload, tracer));
        }
        signal(&tracer, libc::SIGCONT);
        tracer.wait_with_output().expect("it is our child");
        None
    })
}

fn resident_pages(pid: u32) -> u64 {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).expect("it lives");
    let pages = statm.split(' ').nth(1).and_then(|word| word.parse().ok());
    pages.expect("the second number is the resident pages")
}

fn signal(child: &Child, number: i32) {
    let pid = i32::try_from(child.id()).expect("pids are positive");
    // SAFETY: the child has not been reaped, so that the pid is its own.
    assert_eq!(unsafe { libc::kill(pid, number) }, 0);
}

/// What a memtrace that was held says once it may go on.
fn goes_on(tracer: Child) -> Record {
    signal(&tracer, libc::SIGCONT);
    let output = tracer.wait_with_output().expect("it is our child");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(output.status.code(), Some(0));
    let stdout = String::from_utf8_lossy(&output.stdout);
    Record::parse(stdout.trim_end()).expect("it is one line of JSON")
}

fn notes(done: &Record) -> String {
    done.at("notes").to_string()
}

#[test]
fn a_process_that_ends_meanwhile_is_a_normal_end() {
    needs!(Need::Reclaiming, Need::NoSwap);
    let (workload, tracer) = midway();
    // Reaped too, so that the pid is free.
    workload.kill();
    let done = goes_on(tracer);
    done.expect_null("after");
    done.expect_null("taken_bytes");
    // Most of a call of 64M at least, which being held may have cut short.
    assert!(done.count("advised_bytes") >= 32 << 20, "{done}");
    assert!(notes(&done).contains("ended meanwhile"), "{done}");
}

#[test]
fn ctrl_c_ends_it_with_what_was_done() {
    needs!(Need::Reclaiming, Need::NoSwap);
    let (workload, tracer) = midway();
    signal(&tracer, libc::SIGINT);
    let done = goes_on(tracer);
    let now = Memory::of(workload.pid);
    assert!(now.lazyfree_bytes > 64 << 20, "{now:?}");
    assert_near(
        done.count("after.lazyfree_bytes"),
        now.lazyfree_bytes,
        "LazyFree",
    );
    assert!(done.count("taken_bytes") >= 32 << 20, "{done}");
    assert!(notes(&done).contains("stopped by a signal"), "{done}");
    workload.end();
}

#[test]
fn a_process_that_does_not_exist_is_named() {
    let pid = ended_pid();
    refused(
        &reclaim(&["-p", &pid.to_string()]),
        &format!("no process {pid}"),
    );
}

#[test]
fn a_kernel_thread_has_nothing_to_take() {
    let comm = fs::read_to_string("/proc/2/comm").unwrap_or_default();
    if comm.trim() != "kthreadd" {
        let why = "process 2 is no kernel thread in this pid namespace";
        return not_run("reclaim::a_kernel_thread", why, "run on the host");
    }
    refused(&reclaim(&["-p", "2"]), "kernel thread");
}

#[test]
fn wrong_command_lines_are_told_from_failures() {
    for args in [
        &[][..],
        &["-p", "x"],
        &["-p", "1", "--", "ls"],
        &["-p", "1", "-f"],
        &["-p", "1", "--whole-cgroup"],
        &["-p", "1", "--max", "1G"],
        &["-p", "1", "--method", "balloon"],
        &["-p", "1", "--dry-run", "--watch", "1"],
    ] {
        let output = reclaim(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn without_rights_the_missing_capability_is_named_and_nothing_is_touched() {
    needs!(Need::Reclaiming, Need::NoSwap);
    let mut workload = Workload::start(&exe!("lazy_holds"), &[]);
    workload.go();
    let before = Memory::of(workload.pid);
    let pid = workload.pid.to_string();
    refused(&without(CAP_SYS_NICE, None, &pid), "CAP_SYS_NICE");
    refused(
        &without(CAP_SYS_PTRACE, Some(65534), &pid),
        "CAP_SYS_PTRACE",
    );
    assert_untouched(workload.pid, before);
    workload.end();
}

/// Runs it without a capability, as root or as a user who has none at all.
fn without(capability: u64, user: Option<u32>, pid: &str) -> Output {
    // Where the tests were built, another user may not be allowed to look.
    let dir = TempDir::new();
    let copy = dir.join("memtrace");
    fs::copy(memtrace_tests::binary::memtrace(), &copy).expect("the directory is ours");
    wait::until("the copy to be free", || {
        let mut tracer = Command::new(&copy);
        tracer
            .args(["reclaim", "-p", pid])
            .stdin(Stdio::null())
            .current_dir("/");
        if let Some(user) = user {
            tracer.uid(user).gid(user);
        }
        // SAFETY: prctl is async-signal-safe; what leaves the bounding set is gone with the exec.
        unsafe {
            tracer.pre_exec(move || {
                // Nobody's child has left it already.
                match libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) {
                    0 => Ok(()),
                    _ if user.is_some() => Ok(()),
                    _ => Err(io::Error::last_os_error()),
                }
            });
        }
        match tracer.output() {
            Err(error) if error.raw_os_error() == Some(libc::ETXTBSY) => None,
            output => Some(output.expect("memtrace starts")),
        }
    })
}

/// Shows memtrace another /proc/swaps, in a mount namespace of its own.
fn with_swaps(swaps: &str, args: &[&str]) -> io::Result<Output> {
    let dir = TempDir::new();
    let path = dir.join("swaps");
    fs::write(&path, swaps).expect("the directory is ours");
    let path = CString::new(path.into_os_string().into_encoded_bytes()).expect("no NUL");
    let mut tracer = command();
    tracer.arg("reclaim").args(args).stdin(Stdio::null());
    // SAFETY: both calls are async-signal-safe, and the strings outlive them. Nothing of it leaves
    // the new namespace, since every mount in it is made private first.
    unsafe {
        tracer.pre_exec(move || {
            let mount = |from: &CStr, to: &CStr, flags| match libc::mount(
                from.as_ptr(),
                to.as_ptr(),
                ptr::null(),
                flags,
                ptr::null(),
            ) {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            };
            if libc::unshare(libc::CLONE_NEWNS) != 0 {
                return Err(io::Error::last_os_error());
            }
            mount(c"none", c"/", libc::MS_REC | libc::MS_PRIVATE)?;
            mount(&path, c"/proc/swaps", libc::MS_BIND)
        });
    }
    tracer.output()
}

#[test]
fn where_there_is_swap_it_is_refused_unless_allowed() {
    needs!(Need::Reclaiming, Need::NoSwap);
    let mut workload = Workload::start(&exe!("lazy_holds"), &[]);
    workload.go();
    let before = Memory::of(workload.pid);
    let pid = workload.pid.to_string();
    let swaps = "Filename Type Size Used Priority\n/dev/sda2 partition 3145728 1048576 -2\n";
    let output = match with_swaps(swaps, &["-p", &pid]) {
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
            let why = "no mount namespace may be made";
            return not_run("reclaim::where_there_is_swap", why, "run the tests as root");
        }
        output => output.expect("memtrace starts"),
    };
    refused(&output, "swap has 2.00G free");
    refused(&output, "--allow-swap");
    let balloon = ["--method", "balloon", "--max", "1M", "-p", &pid];
    let output = with_swaps(swaps, &balloon).expect("memtrace starts");
    refused(
        &output,
        "a balloon would send memory in use of any process there; --allow-swap",
    );
    assert_untouched(workload.pid, before);

    let full = "Filename Type Size Used Priority\n/dev/sda2 partition 1048576 1048576 -2\n";
    let output = with_swaps(full, &["-p", &pid, "--dry-run"]).expect("memtrace starts");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(!text.contains("--allow-swap"), "{text}");
    let output = with_swaps(swaps, &["-p", &pid, "--dry-run"]).expect("memtrace starts");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("without --allow-swap"), "{text}");

    let output = with_swaps(swaps, &["-p", &pid, "--allow-swap"]).expect("memtrace starts");
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("16.0M taken"), "{text}");
    workload.end();
}

#[test]
fn no_bpf_capability_is_needed() {
    needs!(Need::Reclaiming, Need::NoSwap);
    let mut workload = Workload::start(&exe!("lazy_holds"), &[]);
    workload.go();
    let mut tracer = command();
    tracer
        .args(["reclaim", "-p", &workload.pid.to_string()])
        .stdin(Stdio::null());
    // SAFETY: prctl is async-signal-safe.
    unsafe {
        tracer.pre_exec(|| {
            // CAP_SYS_ADMIN, CAP_PERFMON, CAP_BPF.
            for capability in [21, 38, 39] {
                if libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) != 0 {
                    return Err(io::Error::last_os_error());
                }
            }
            Ok(())
        });
    }
    let output = tracer.output().expect("memtrace starts");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("16.0M taken"), "{text}");
    workload.end();
}
