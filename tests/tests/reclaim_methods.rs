//! `memtrace reclaim` by a cgroup and by a balloon, and what comes back afterwards.
//!
//! A balloon is only ever blown in a memory cgroup with a limit. What wants version 2 of the memory
//! controller and swap is ignored: `cargo xtask vm-test` runs it on machines of its own.

use std::fs;
use std::process::{Child, Command, Output, Stdio};

use memtrace_tests::cgroup::MemoryCgroup;
use memtrace_tests::needs::{Need, not_run};
use memtrace_tests::reclaim::{
    assert_intact, assert_near, assert_untouched, line, reclaim, refused,
};
use memtrace_tests::record::Record;
use memtrace_tests::smaps::Memory;
use memtrace_tests::tempdir::TempDir;
use memtrace_tests::tracer::command;
use memtrace_tests::wait;
use memtrace_tests::workload::Workload;
use memtrace_tests::{exe, needs};

const PAGE: u64 = 4096;
/// 64 MiB.
const LAZY_PAGES: u64 = 16 << 10;
const LAZY: u64 = LAZY_PAGES * PAGE;

/// A cgroup, or the reason why the test does not run.
fn group(name: &str) -> Option<MemoryCgroup> {
    match MemoryCgroup::make(name) {
        Ok(group) => Some(group),
        Err(why) => {
            not_run(
                &format!("reclaim_methods::{name}"),
                &why,
                "run the tests as root, with a memory cgroup",
            );
            None
        }
    }
}

/// A workload that holds so many lazily free pages, charged to a cgroup.
fn holding(group: &MemoryCgroup, pages: u64) -> Workload {
    let mut workload = Workload::start(&exe!("lazy_holds"), &[&pages.to_string()]);
    group.take(workload.pid);
    let told = workload.go();
    assert_near(told.count("lazyfree_bytes"), pages * PAGE, "LazyFree");
    workload
}

/// memtrace in a cgroup.
fn inside(group: &MemoryCgroup, args: &[&str]) -> Command {
    let mut tracer = command();
    tracer.arg("reclaim").args(args).stdin(Stdio::null());
    group.holds(&mut tracer);
    tracer
}

/// The line that a balloon ends with, and what it said on stderr.
#[track_caller]
fn balloon(output: &Output) -> (Record, String) {
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    let done = Record::parse(stdout.trim_end()).expect("it is one line of JSON");
    assert_eq!(done.text("method"), "balloon");
    (done, stderr)
}

#[test]
fn a_balloon_in_a_full_cgroup_takes_what_is_lazily_free_and_is_gone_afterwards() {
    needs!(Need::Reclaiming, Need::NoSwap);
    let Some(group) = group("balloon") else {
        return;
    };
    let limit = 2 * LAZY;
    group.limit(limit);
    let workload = holding(&group, LAZY_PAGES);
    let before = Memory::of(workload.pid);
    let pid = workload.pid.to_string();
    let args = ["--method=balloon", "--max=1G", "--format=json", "-p", &pid];
    let output = inside(&group, &args).output().expect("memtrace starts");
    let (done, stderr) = balloon(&output);

    let after = Memory::of(workload.pid);
    assert!(after.lazyfree_bytes < LAZY / 4, "{after:?}: {done}");
    let fell = before.rss_bytes - after.rss_bytes;
    assert_near(done.count("taken_bytes"), fell, "what RSS fell by");
    let held = done.count("balloon.held_bytes");
    assert!(held >= LAZY / 2 && held < limit, "{done}");
    assert_eq!(done.count("balloon.cgroup_limit_bytes"), limit);
    let stopped = done.text("balloon.stopped_by");
    assert!(
        ["lazyfree_gone", "cgroup_floor"].contains(&stopped),
        "{done}"
    );
    assert!(stderr.contains("page cache goes first"), "{stderr}");
    // What the balloon held is free again, and the workload is there with what it uses.
    let usage = group.usage();
    assert!(usage < limit / 2, "{usage} is still charged");
    workload.end();
}

#[test]
fn a_balloon_stops_at_max_and_takes_nothing_while_there_is_free_memory() {
    needs!(Need::Reclaiming, Need::NoSwap);
    let Some(group) = group("max") else {
        return;
    };
    group.limit(4 * LAZY);
    let workload = holding(&group, LAZY_PAGES);
    let before = Memory::of(workload.pid);
    let pid = workload.pid.to_string();
    let args = ["--method=balloon", "--max=20M", "--format=json", "-p", &pid];
    let output = inside(&group, &args).output().expect("memtrace starts");
    let (done, _) = balloon(&output);
    done.expect(&[
        ("balloon.held_bytes", 20 << 20),
        ("balloon.max_bytes", 20 << 20),
    ]);
    assert_eq!(done.text("balloon.stopped_by"), "max");
    assert_untouched(workload.pid, before);
    let dry = [&["--dry-run"], &args[..]].concat();
    let output = inside(&group, &dry).output().expect("memtrace starts");
    let (dry, stderr) = balloon(&output);
    dry.expect_null("balloon.held_bytes");
    dry.expect(&[("balloon.reach_bytes", 20 << 20)]);
    assert!(
        dry.at("notes")
            .to_string()
            .contains("has to be filled before"),
        "{dry}"
    );
    assert_eq!(stderr, "");
    assert_untouched(workload.pid, before);
    workload.end();
}

/// The balloon's own process, and what it holds.
fn worker_of(tracer: &Child) -> Option<(u32, u64)> {
    let id = tracer.id();
    let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).ok()?;
    let worker: u32 = children.split_whitespace().next()?.parse().ok()?;
    let statm = fs::read_to_string(format!("/proc/{worker}/statm")).ok()?;
    let resident: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some((worker, resident * PAGE))
}

fn state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

fn signal(child: &Child, number: i32) {
    let pid = i32::try_from(child.id()).expect("pids are positive");
    // SAFETY: the child has not been reaped, so that the pid is its own.
    assert_eq!(unsafe { libc::kill(pid, number) }, 0);
}

/// A balloon that holds something, its memtrace stopped: the target, memtrace, and the worker.
fn midway(group: &MemoryCgroup) -> (Workload, Child, u32) {
    // Where it was done before it could be held, another one is begun.
    wait::until("a balloon to be held midway", || {
        let workload = holding(group, 1024);
        let pid = workload.pid.to_string();
        let args = ["--method=balloon", "--max=1G", "--format=json", "-p", &pid];
        let mut tracer = inside(group, &args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("memtrace starts");
        let worker = wait::until("the balloon to hold something", || {
            match worker_of(&tracer) {
                Some((worker, held)) if held >= 16 << 20 => Some(Some(worker)),
                _ => tracer.try_wait().expect("it is our child").map(|_| None),
            }
        })?;
        signal(&tracer, libc::SIGSTOP);
        wait::until("memtrace to stop or end", || {
            state(tracer.id()).filter(|state| ['T', 'Z'].contains(state))
        });
        match state(worker) {
            Some('Z') | None => {
                signal(&tracer, libc::SIGCONT);
                tracer.wait().expect("it is our child");
                None
            }
            Some(_) => Some((workload, tracer, worker)),
        }
    })
}

fn until_gone(worker: u32) {
    wait::until("the balloon's end", || {
        matches!(state(worker), None | Some('Z' | 'X')).then_some(())
    });
}

#[test]
fn a_balloon_is_the_first_to_be_killed_and_goes_with_a_memtrace_that_is() {
    needs!(Need::Reclaiming, Need::NoSwap);
    let Some(group) = group("killed") else {
        return;
    };
    group.limit(512 << 20);
    let (workload, mut tracer, worker) = midway(&group);
    let first = fs::read_to_string(format!("/proc/{worker}/oom_score_adj"));
    assert_eq!(first.expect("it lives").trim(), "1000");
    signal(&tracer, libc::SIGKILL);
    tracer.wait().expect("it is our child");
    until_gone(worker);
    wait::until("its memory to be free", || {
        (group.usage() < 64 << 20).then_some(())
    });
    workload.end();
}

#[test]
fn a_signal_lets_the_balloon_go_with_a_report() {
    needs!(Need::Reclaiming, Need::NoSwap);
    let Some(group) = group("signalled") else {
        return;
    };
    group.limit(512 << 20);
    let (workload, tracer, worker) = midway(&group);
    signal(&tracer, libc::SIGTERM);
    signal(&tracer, libc::SIGCONT);
    let (done, _) = balloon(&tracer.wait_with_output().expect("it is our child"));
    assert_eq!(done.text("balloon.stopped_by"), "signal");
    assert!(
        done.at("notes").to_string().contains("stopped by a signal"),
        "{done}"
    );
    assert!(state(worker).is_none(), "the worker lives on");
    workload.end();
}

#[test]
fn an_oom_kill_hits_the_balloon_and_is_told() {
    needs!(Need::Reclaiming, Need::NoSwap);
    let Some(group) = group("oom") else {
        return;
    };
    group.limit(512 << 20);
    let (workload, tracer, worker) = midway(&group);
    // As the OOM killer does it, with memtrace none the wiser.
    let pid = i32::try_from(worker).expect("pids are positive");
    // SAFETY: memtrace is stopped and has not reaped it, so that the pid is its own.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGKILL) }, 0);
    signal(&tracer, libc::SIGCONT);
    let (done, _) = balloon(&tracer.wait_with_output().expect("it is our child"));
    assert_eq!(done.text("balloon.stopped_by"), "killed");
    assert!(
        done.at("notes").to_string().contains("OOM killer"),
        "{done}"
    );
    workload.end();
}

#[test]
fn a_cgroup_is_asked_where_it_can_be_and_else_what_is_missing_is_named() {
    needs!(Need::Reclaiming, Need::NoSwap);
    let Some(group) = group("asked") else {
        return;
    };
    let workload = holding(&group, LAZY_PAGES);
    let pid = workload.pid.to_string();
    let args = ["--method", "cgroup", "-p", &pid];
    let before = Memory::of(workload.pid);
    if group.version() == 1 {
        refused(&reclaim(&args), "use --method pageout");
        assert_untouched(workload.pid, before);
    } else if !group.dir().join("memory.reclaim").exists() {
        refused(&reclaim(&args), "older than 5.19");
        assert_untouched(workload.pid, before);
    } else {
        let done = line(&args);
        assert_near(done.count("taken_bytes"), LAZY, "taken");
        done.expect(&[("cgroup.other_processes", 0)]);
        done.expect_null("passes");
    }
    workload.end();
}

/// Version 2 with memory.reclaim, on a machine with swap.
fn reclaimable(name: &str) -> Option<MemoryCgroup> {
    let group = group(name)?;
    if group.version() == 2 && group.dir().join("memory.reclaim").exists() {
        return Some(group);
    }
    let why = "there is no memory.reclaim";
    not_run(
        &format!("reclaim_methods::{name}"),
        why,
        "run on Linux 5.19 or newer with cgroup v2",
    );
    None
}

#[test]
#[ignore = "wants version 2 of the memory controller, and swap"]
fn a_cgroup_gives_what_is_lazily_free_and_nothing_goes_to_swap() {
    needs!(Need::Swap);
    let Some(group) = reclaimable("alone") else {
        return;
    };
    // What it touches before it says that it is ready is to be charged there too.
    let mut program = exe!("reclaim_pattern").command();
    let mut workload = Workload::start_command(group.holds(&mut program));
    let told = workload.go();
    let pid = workload.pid.to_string();
    let dry = line(&["--dry-run", "--method=cgroup", "-p", &pid]);
    let done = line(&["--method=cgroup", "-p", &pid]);
    assert_eq!(dry.at("cgroup.path"), done.at("cgroup.path"));
    done.expect(&[
        ("cgroup.swappiness", 0),
        ("cgroup.other_processes", 0),
        ("swap_grown_bytes", 0),
    ]);
    assert_near(
        done.count("taken_bytes"),
        told.count("lazyfree_bytes"),
        "taken",
    );
    let truth = workload.say("check");
    workload.end();
    assert_intact(&truth);
}

#[test]
#[ignore = "wants version 2 of the memory controller, and swap"]
fn others_in_the_cgroup_are_named_and_must_be_accepted() {
    needs!(Need::Swap);
    let Some(group) = reclaimable("shared") else {
        return;
    };
    let workload = holding(&group, LAZY_PAGES);
    let other = Workload::start(&exe!("waits"), &[]);
    group.take(other.pid);
    let before = Memory::of(workload.pid);
    let pid = workload.pid.to_string();
    let args = ["--method=cgroup", "-p", &pid];
    refused(&reclaim(&args), "1 other process is in its cgroup too");
    refused(&reclaim(&args), "--whole-cgroup");
    let output = inside(&group, &args).output().expect("memtrace starts");
    refused(
        &output,
        "2 other processes, memtrace among them, are in its cgroup too",
    );
    assert_untouched(workload.pid, before);
    let dry = line(&["--dry-run", "--method=cgroup", "-p", &pid]);
    assert!(
        dry.at("notes")
            .to_string()
            .contains("it will be refused: 1 other"),
        "{dry}"
    );
    assert_untouched(workload.pid, before);

    let done = line(&["--method=cgroup", "--whole-cgroup", "-p", &pid]);
    assert_near(done.count("taken_bytes"), LAZY, "taken");
    done.expect(&[("cgroup.other_processes", 1), ("swap_grown_bytes", 0)]);
    other.kill();
    workload.end();
}

/// A memtrace that watches, its first line written: the watching goes on until it is stopped.
struct Watching {
    tracer: Child,
    dir: TempDir,
}

impl Watching {
    fn start(mut tracer: Command) -> Self {
        let dir = TempDir::new();
        tracer.args(["--watch", "3600", "--format", "json", "-o"]);
        tracer.arg(dir.join("out"));
        let tracer = tracer
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("memtrace starts");
        let mut watching = Self { tracer, dir };
        wait::until("what was taken", || {
            let lines = watching.output().lines().count();
            let ended = watching.tracer.try_wait().expect("it is our child");
            assert!(
                ended.is_none() || lines > 0,
                "memtrace ended with {ended:?}"
            );
            (lines > 0 && watching.output().ends_with('\n')).then_some(())
        });
        watching
    }

    fn output(&self) -> String {
        fs::read_to_string(self.dir.join("out")).unwrap_or_default()
    }

    /// What it has written, and said on stderr, once it has ended.
    fn end(self) -> (Vec<Record>, String) {
        let Self { tracer, dir } = self;
        let output = tracer.wait_with_output().expect("it is our child");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{stderr}");
        let text = fs::read_to_string(dir.join("out")).expect("it was written");
        let parse = |line| Record::parse(line).unwrap_or_else(|why| panic!("{why}"));
        (text.lines().map(parse).collect(), stderr)
    }
}

/// A workload that has freed so many pages lazily, and will want so many back.
fn coming_back(pages: u64, back: u64) -> Workload {
    let args = [pages, back].map(|pages| pages.to_string());
    Workload::start(&exe!("comes_back"), &[&args[0], &args[1]])
}

/// Lets it have them back, and ends the watching: asserts that it saw that, and no more.
fn assert_seen(mut workload: Workload, watching: Watching, back: u64) -> (Record, String) {
    let truth = workload.say("back");
    signal(&watching.tracer, libc::SIGINT);
    let (lines, stderr) = watching.end();
    let [took, seen] = &lines[..] else {
        panic!("{lines:#?}");
    };
    assert_eq!((took.kind(), seen.kind()), ("reclaim", "reclaim_watch"));
    // Those that were still there have made no fault.
    let faults = truth.count("present") - truth.count("present_before");
    assert!(faults <= back && faults > back / 2, "{truth}");
    let taken = took.count("taken_bytes");
    assert!(taken + 64 * PAGE >= faults * PAGE, "{took}");
    seen.expect(&[
        ("pid", workload.pid.into()),
        ("faults", faults),
        // A page that a CPU held back did not count as lazily free, and so not as taken.
        ("refaulted_at_most_bytes", taken.min(faults * PAGE)),
        ("taken_bytes", taken),
        ("lost.faults", 0),
    ]);
    assert!(seen.truth("exact") && !seen.truth("ended"), "{seen}");
    let cost = seen.count("fault_ns");
    assert!(cost > 0, "{seen}");
    seen.expect(&[("cpu_ns", cost * faults)]);
    assert_eq!(seen.text("cpu_basis"), "calibrated");
    let now = Memory::of(workload.pid);
    assert_near(seen.count("rss_bytes"), now.rss_bytes, "RSS at the end");
    workload.end();
    (took.clone(), stderr)
}

#[test]
fn what_comes_back_of_what_was_taken_is_counted_to_the_page() {
    needs!(Need::Reclaiming, Need::Tracing, Need::NoSwap);
    const PAGES: u64 = 4096;
    let mut workload = coming_back(PAGES, 1000);
    workload.go();
    let mut tracer = command();
    tracer.args(["reclaim", "-p", &workload.pid.to_string()]);
    let watching = Watching::start(tracer);
    let (took, stderr) = assert_seen(workload, watching, 1000);
    assert_near(took.count("taken_bytes"), PAGES * PAGE, "taken");
    assert_eq!(stderr, "");
}

#[test]
fn what_a_balloon_took_is_watched_too() {
    needs!(Need::Reclaiming, Need::Tracing, Need::NoSwap);
    let Some(group) = group("watched") else {
        return;
    };
    group.limit(3 * LAZY);
    let mut workload = coming_back(LAZY_PAGES, LAZY_PAGES);
    group.take(workload.pid);
    workload.go();
    let pid = workload.pid.to_string();
    let tracer = inside(&group, &["--method=balloon", "--max=1G", "-p", &pid]);
    let watching = Watching::start(tracer);
    let (took, stderr) = assert_seen(workload, watching, LAZY_PAGES);
    assert!(took.count("taken_bytes") > LAZY / 2, "{took}");
    assert!(stderr.contains("page cache goes first"), "{stderr}");
}

#[test]
fn watching_ends_with_the_process() {
    needs!(Need::Reclaiming, Need::Tracing, Need::NoSwap);
    let mut workload = coming_back(4096, 1);
    workload.go();
    let mut tracer = command();
    tracer.args(["reclaim", "-p", &workload.pid.to_string()]);
    let watching = Watching::start(tracer);
    workload.kill();
    let (lines, _) = watching.end();
    let seen = &lines[1];
    assert!(seen.truth("ended"), "{seen}");
    seen.expect(&[("faults", 0)]);
    seen.expect_null("rss_bytes");
}

#[test]
fn people_read_what_came_back() {
    needs!(Need::Reclaiming, Need::Tracing, Need::NoSwap);
    let mut workload = coming_back(4096, 1);
    workload.go();
    let output = reclaim(&["--watch", "0.2", "-p", &workload.pid.to_string()]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}");
    let (took, seen) = text
        .split_once("workload (pid ")
        .expect("two reports")
        .1
        .split_once("workload (pid ")
        .expect("two reports");
    assert!(took.contains("taken\n"), "{text}");
    assert!(seen.contains(" · watched for "), "{text}");
    assert!(
        seen.contains("At most 0B of the 16.0M taken (0%) was faulted in again: 0 faults"),
        "{text}"
    );
    assert!(seen.contains("LazyFree 0B now"), "{text}");
}
