//! Tests of the whole search, on real processes.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use std::time::Duration;

use super::super::Origin;
use super::super::budget::tests::counted;
use super::*;

/// All that a look without a bound finds.
fn detect(pid: u32) -> Runtimes {
    let look = detect_within(pid, &counted(u64::MAX / 4, u64::MAX / 4));
    assert!(!look.cut);
    look.runtimes
}

/// A program that runs until it is dropped.
struct Running(Child);

impl Running {
    fn start(program: &str, set_up: impl FnOnce(&mut Command)) -> Option<Self> {
        let mut command = Command::new(program);
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        set_up(&mut command);
        // It has its own program and environment once spawn has seen the exec.
        loop {
            match command.spawn() {
                Ok(child) => return Some(Self(child)),
                // Another test's child has inherited the descriptor by which the file was written,
                // and has not closed it by its exec yet.
                Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => {}
                Err(_) => return None,
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn of_a_process_that_is_gone_nothing_is_found_and_nothing_said() {
    assert!(detect_within(u32::MAX, &counted(1, 1)).gone);
    let found = detect(u32::MAX);
    assert!(found.is_empty());
    assert_eq!(found.problems, Vec::<String>::new());
}

#[test]
fn the_environment_at_exec_is_seen() {
    let cat = Running::start("cat", |command| {
        command.env("MALLOC_ARENA_MAX", "2");
    })
    .unwrap();
    // The loader maps the C library after the exec, and what is read in the course of one may be of before.
    let mut found = detect(cat.0.id());
    for _ in 0..500 {
        if found.list.iter().any(|one| !one.settings.is_empty()) {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
        found = detect(cat.0.id());
    }
    let [glibc] = &found.list[..] else {
        panic!("{found:?}");
    };
    if glibc.kind != Kind::Glibc {
        crate::proc::not_run(
            "cat is not linked to glibc here",
            "run it on a glibc system",
        );
        return;
    }
    assert!(glibc.version.is_some());
    assert_eq!(found.problems, Vec::<String>::new());
    assert_eq!(glibc.gives_back, GivesBack::DontNeed);
    assert_eq!(glibc.settings[0].origin, Origin::Environment);
    assert!(
        glibc.to_string().ends_with("(MALLOC_ARENA_MAX=2)"),
        "{glibc}"
    );
}

#[test]
fn a_program_whose_file_was_replaced_is_still_the_one_that_runs() {
    let directory = std::env::temp_dir().join(format!("memtrace-runtime-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let path = directory.join("cat");
    std::fs::copy("/bin/cat", &path).unwrap();
    let started = Running::start(path.to_str().unwrap(), |command| {
        command.arg0("something else");
    })
    .unwrap();
    std::fs::remove_file(&path).unwrap();
    // A file that would be taken for Go.
    std::fs::write(&path, b"\xff Go buildinf:\x08\x02").unwrap();
    let process = Process::open(started.0.id()).unwrap();
    let mut magic = [0; 4];
    std::io::Read::read_exact(&mut process.executable().unwrap(), &mut magic).unwrap();
    assert_eq!(&magic, b"\x7fELF");
    assert!(
        detect(started.0.id())
            .list
            .iter()
            .all(|r| r.kind != Kind::Go)
    );
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn problems_that_are_not_told_one_by_one_are_still_told() {
    let budget = counted(1 << 20, 1 << 10);
    let mut search = Search::new(Process::open(std::process::id()).unwrap(), &budget);
    for number in 0..2 * MAX_PROBLEMS {
        search.problem(format!("problem {number}"));
    }
    let problems = search.finish().runtimes.problems;
    assert_eq!(problems.len(), MAX_PROBLEMS + 1);
    assert_eq!(
        problems[MAX_PROBLEMS],
        "more of its files were not all looked at"
    );
}

#[test]
fn what_the_budget_does_not_suffice_for_is_not_known_and_said_to_be() {
    let cat = Running::start("cat", |_| {}).unwrap();
    let whole = loop {
        let found = detect(cat.0.id());
        if !found.is_empty() {
            break found;
        }
    };
    assert_eq!(whole.problems, Vec::<String>::new());
    // The name of a library may tell what it is.
    let without_version = |look: &Look| look.runtimes.list.iter().all(|it| it.version.is_none());
    let about = |look: &Look, part: &str| {
        let problems = &look.runtimes.problems;
        assert!(problems.iter().any(|it| it.contains(part)), "{look:?}");
        assert!(look.cut && !look.gone);
    };
    // Its program has half of that.
    let look = detect_within(cat.0.id(), &counted(16 << 10, 1 << 20));
    assert!(without_version(&look));
    about(&look, "was not looked through to its end");
    about(&look, "would have to be read");
    let look = detect_within(cat.0.id(), &counted(1 << 30, 40));
    assert!(without_version(&look));
    about(&look, "records (symbols, sections)");
    let stop = AtomicBool::new(true);
    let look = super::detect(cat.0.id(), Depth::Thorough, &stop);
    assert!(without_version(&look) && !look.cut);
    let [first, ..] = &look.runtimes.problems[..] else {
        panic!("{look:?}");
    };
    assert!(
        first.ends_with("cannot be read: memtrace ended before"),
        "{first}"
    );
}
