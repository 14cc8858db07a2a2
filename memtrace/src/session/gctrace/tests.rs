//! A listener on files that grow, shrink and are replaced, on FIFOs, and on what is no log at all.

use std::ffi::CString;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use super::*;

const MIB: u64 = 1 << 20;

/// A directory that goes with the test.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("memtrace-gctrace-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).expect("it is new");
        Self(path)
    }

    fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn gc(cycle: u64, live: u64) -> String {
    format!(
        "gc {cycle} @1.5s 0%: 0+0+0 ms clock, 0+0/0/0+0 ms cpu, 9->9->{live} MB, 10 MB goal, 4 P\n"
    )
}

fn listen(path: &Path) -> Listener {
    let source = GcSource::File(path.to_owned());
    start(Some(&source)).expect("it can be opened").listener
}

fn append(path: &Path, text: &str) {
    let file = OpenOptions::new().append(true).open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.expect("it can be written");
}

/// Waits until so many collections were heard of.
fn wait_for_cycles(listener: &Listener, cycles: u64) -> Digest {
    // A backstop only.
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let listening = listener.0.as_ref().expect("it listens");
        let digest = listening.heard.lock().expect("no panic").digest;
        if digest.cycles >= cycles {
            return digest;
        }
        assert!(Instant::now() < deadline, "{digest:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The lines told, the sum and the notes.
fn finish(mut listener: Listener) -> (Vec<u64>, Digest, Vec<String>) {
    let (last, trace, notes) = listener.finish();
    let cycles = last.into_iter().map(|(_, event)| match event {
        Event::Gc(line) => line.cycle,
        Event::Scavenger(_) => 0,
    });
    let digest = trace.expect("it listened").digest;
    (cycles.collect(), digest, notes)
}

#[test]
fn a_log_is_read_from_before_and_then_as_it_grows() {
    let dir = Dir::new();
    let log = dir.join("log");
    fs::write(&log, [gc(1, 7), gc(2, 8)].concat() + "half a li").expect("it is ours");
    let listener = listen(&log);
    assert_eq!(wait_for_cycles(&listener, 2).cycles_before, 2);
    append(&log, &format!("ne\n{}scvg: 3 MB released\n", gc(3, 400)));
    wait_for_cycles(&listener, 3);
    append(&log, &gc(4, 5));
    append(&log, "gc 5 @1.5s");
    let (told, digest, notes) = finish(listener);
    // What was there before is in the sum alone.
    assert_eq!(told, [3, 0, 4]);
    assert_eq!((digest.cycles, digest.cycles_before), (4, 2));
    assert_eq!(digest.last.expect("one was read").heap_live_bytes, 5 * MIB);
    assert_eq!(digest.peak_live_bytes, Some(400 * MIB));
    assert_eq!(digest.passed_over, 2);
    assert!(notes.is_empty(), "{notes:?}");
}

#[test]
fn a_log_that_is_cut_short_or_replaced_goes_on() {
    let dir = Dir::new();
    let log = dir.join("log");
    fs::write(&log, gc(1, 1) + &"x".repeat(500)).expect("it is ours");
    let listener = listen(&log);
    wait_for_cycles(&listener, 1);
    // As logrotate's copytruncate does it; what is written next is shorter than what there was.
    fs::write(&log, gc(2, 2)).expect("it is ours");
    wait_for_cycles(&listener, 2);
    // As it does by default: the old one still gets a line.
    let old = dir.join("log.1");
    fs::rename(&log, &old).expect("it is ours");
    append(&old, &gc(3, 3));
    wait_for_cycles(&listener, 3);
    append(&old, &gc(4, 4));
    fs::write(&log, gc(5, 5)).expect("it is ours");
    let digest = wait_for_cycles(&listener, 5);
    assert_eq!((digest.cycles, digest.steps_back), (5, 0));
    let (told, digest, notes) = finish(listener);
    assert_eq!(told, [2, 3, 4, 5]);
    // The line without an end that was there before the cut.
    assert_eq!(digest.passed_over, 1);
    assert!(notes.is_empty(), "{notes:?}");
}

#[test]
fn of_a_log_of_years_the_end_is_read() {
    let dir = Dir::new();
    let log = dir.join("log");
    let line = "y".repeat(1023) + "\n";
    let old = gc(1, 900) + &line.repeat(20 << 10);
    fs::write(&log, old + &gc(2, 8)).expect("it is ours");
    let listener = listen(&log);
    wait_for_cycles(&listener, 1);
    let (told, digest, notes) = finish(listener);
    assert!(told.is_empty());
    assert_eq!((digest.cycles, digest.peak_live_bytes), (1, Some(8 * MIB)));
    // 16 MiB less the last line and the rest of the first.
    assert_eq!(digest.passed_over, (16 << 10) - 1);
    assert!(
        notes[0].contains("only the last 16.0M were read"),
        "{notes:?}"
    );
}

#[test]
fn a_fifo_is_read_from_one_writer_after_the_other() {
    let dir = Dir::new();
    let fifo = dir.join("fifo");
    let name = CString::new(fifo.as_os_str().as_bytes()).expect("no NUL");
    // SAFETY: the name ends in NUL.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    // Nobody writes to it yet.
    let listener = listen(&fifo);
    for cycle in 1..=3 {
        let mut writer = OpenOptions::new()
            .write(true)
            .open(&fifo)
            .expect("it is read");
        writer
            .write_all(gc(cycle, 1).as_bytes())
            .expect("it is read");
        drop(writer);
        wait_for_cycles(&listener, cycle);
    }
    let writer = OpenOptions::new()
        .write(true)
        .open(&fifo)
        .expect("it is read");
    (&writer)
        .write_all(gc(4, 1).as_bytes())
        .expect("it is read");
    // The writer stays, which holds nobody up.
    let (told, digest, _) = finish(listener);
    assert_eq!(told, [1, 2, 3, 4]);
    assert_eq!(digest.cycles_before, 0);
    drop(writer);
}

#[test]
fn what_comes_through_stdin_ends_with_it() {
    let (read, mut write) = io::pipe().expect("a pipe");
    let file = File::from(OwnedFd::from(read));
    let listener = followed("-".to_owned(), Followed::stdin(file)).expect("it starts");
    write.write_all(gc(1, 1).as_bytes()).expect("it is read");
    write.write_all(b"gc 2 @1").expect("it is read");
    drop(write);
    wait_for_cycles(&listener, 1);
    let (told, digest, _) = finish(listener);
    assert_eq!((told, digest.passed_over), (vec![1], 1));
}

#[test]
fn what_is_no_log_is_passed_over() {
    let dir = Dir::new();
    let binary = dir.join("binary");
    let mut bytes: Vec<u8> = (0..200_000u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 11) as u8)
        .collect();
    bytes.retain(|byte| *byte != b'\n');
    bytes.push(b'\n');
    bytes.extend_from_slice(gc(1, 3).as_bytes());
    fs::write(&binary, &bytes).expect("it is ours");
    let listener = listen(&binary);
    wait_for_cycles(&listener, 1);
    let (_, digest, notes) = finish(listener);
    assert_eq!(
        (digest.cycles, digest.passed_over, digest.too_long),
        (1, 1, 1)
    );
    assert!(notes.is_empty(), "{notes:?}");
    // Endless zeroes, and not one line in them.
    let (told, digest, notes) = finish(listen(Path::new("/dev/zero")));
    assert_eq!((told.len(), digest.cycles, digest.passed_over), (0, 0, 1));
    assert!(notes[0].contains("were not read yet"), "{notes:?}");
}

#[test]
fn a_source_that_cannot_be_read_is_told_before_anything_begins() {
    let dir = Dir::new();
    let why = |path: &Path| {
        let started = start(Some(&GcSource::File(path.to_owned())));
        let Err(error) = started else {
            panic!("{path:?} was opened");
        };
        error.to_string()
    };
    let text = why(&dir.join("none"));
    assert!(text.contains("none\" (--gctrace): No such file"), "{text}");
    assert!(why(&dir.0).contains("Is a directory"));
}

#[test]
fn a_pipe_that_another_process_reads_is_left_to_it() {
    let (read, _write) = io::pipe().expect("a pipe");
    let name = format!("/proc/{}/fd/{}", std::process::id(), read.as_raw_fd());
    // It is our own here, handed to us as by a shell.
    assert!(Followed::open(Path::new(&name)).is_ok());
    // Writes to a pipe that its child reads, and we have neither end of.
    let script = "sleep 1000 | (read line; sleep 1000)";
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", script]).process_group(0);
    // Else ours would pass for the pipe between the two.
    shell.stdout(std::process::Stdio::null());
    let mut shell = shell.spawn().expect("sh runs");
    let writer = loop {
        let children = format!("/proc/{0}/task/{0}/children", shell.id());
        let children = fs::read_to_string(children).expect("it lives");
        let mut pipes = children
            .split_whitespace()
            .map(|pid| format!("/proc/{pid}/fd/1"));
        let is_pipe = |name: &String| {
            fs::read_link(name).is_ok_and(|to| to.to_string_lossy().starts_with("pipe:"))
        };
        if let Some(pipe) = pipes.find(is_pipe) {
            break pipe;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let opened = Followed::open(Path::new(&writer)).map(drop);
    // SAFETY: plain integers; the group is that of our own child, which is not reaped.
    unsafe { libc::kill(-(shell.id() as libc::pid_t), libc::SIGKILL) };
    shell.wait().expect("it is ours");
    let error = opened.expect_err("it is not ours");
    assert!(
        error.to_string().contains("another process reads"),
        "{error}"
    );
}
