//! A running memtrace, which ends with its guard.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use crate::binary;
use crate::run::{Rules, Run};
use crate::tempdir::TempDir;
use crate::wait;
use crate::workload::Voice;

/// memtrace, writing JSON to a file, with its header written and everything attached.
pub struct Trace {
    child: Child,
    dir: TempDir,
    /// What is asserted of the run.
    pub rules: Rules,
}

impl Trace {
    /// Traces a running process.
    pub fn attach(pid: u32, extra: &[&str]) -> Self {
        let pid = pid.to_string();
        let mut args = vec!["-p", &pid];
        args.extend(extra);
        Self::with(&args)
    }

    /// Traces what the arguments name.
    pub fn with(args: &[&str]) -> Self {
        Self::behind(&[], args)
    }

    /// As [`Trace::with`], by a program that becomes memtrace after having changed what it finds.
    pub fn behind(wrapper: &[&str], args: &[&str]) -> Self {
        Self::spawn(wrapper, args, Stdio::null(), Stdio::null())
    }

    /// Launches a program under memtrace; the program has our pipes as its stdin and stdout.
    pub fn launch<S: AsRef<OsStr>>(program: &[S], extra: &[&str]) -> (Self, Voice) {
        let mut args: Vec<&OsStr> = extra.iter().map(OsStr::new).collect();
        args.push(OsStr::new("--"));
        args.extend(program.iter().map(AsRef::as_ref));
        let mut trace = Self::spawn(&[], &args, Stdio::piped(), Stdio::piped());
        let voice = Voice::of(&mut trace.child);
        (trace, voice)
    }

    fn spawn<S: AsRef<OsStr>>(wrapper: &[&str], args: &[S], stdin: Stdio, stdout: Stdio) -> Self {
        let dir = TempDir::new();
        let stderr = File::create(dir.join("stderr")).expect("the directory is ours");
        let memtrace = command().get_program().to_owned();
        let mut whole = wrapper.iter().map(OsStr::new).chain([&*memtrace]);
        let mut command = Command::new(whole.next().expect("memtrace is one of them"));
        command.args(whole);
        // Global options stand before a `--`, wherever the caller's are.
        command
            .args(["--format", "json", "-o"])
            .arg(dir.join("out"));
        let child = command
            .args(args)
            .stdin(stdin)
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut trace = Self {
            child,
            dir,
            rules: Rules::default(),
        };
        trace.wait_for_header();
        trace
    }

    /// Everything is attached once the header is written, and it is written before the first event.
    fn wait_for_header(&mut self) {
        wait::until("memtrace's header", || {
            if self.output().starts_with("{\"type\":\"header\"") && self.output().contains('\n') {
                return Some(());
            }
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                // It may have written everything and ended between the two looks.
                assert!(
                    self.output().contains('\n'),
                    "memtrace ended with {status} before its header:\n{}",
                    self.stderr()
                );
            }
            None
        });
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has written so far.
    pub fn output(&self) -> String {
        fs::read_to_string(self.output_path()).unwrap_or_default()
    }

    pub fn output_path(&self) -> PathBuf {
        self.dir.join("out")
    }

    pub fn stderr(&self) -> String {
        fs::read_to_string(self.dir.join("stderr")).unwrap_or_default()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: i32) {
        let pid = i32::try_from(self.child.id()).expect("pids are small");
        // SAFETY: the child has not been reaped, so that the pid is its own.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    }

    /// Waits until it has ended by itself.
    pub fn wait(&mut self) -> ExitStatus {
        wait::until("memtrace's end", || {
            self.child.try_wait().expect("it is our child")
        })
    }

    /// Waits for its end, which must be a success, and reads what it wrote.
    pub fn finish(self) -> Run {
        self.finish_with(0)
    }

    /// As [`Trace::finish`], with another exit status: a launched program's is memtrace's own.
    pub fn finish_with(mut self, expected: i32) -> Run {
        let status = self.wait();
        let stderr = self.stderr();
        assert_eq!(
            status.code(),
            Some(expected),
            "memtrace ended with {status}; its stderr:\n{stderr}"
        );
        assert!(
            !self.rules.quiet_stderr || stderr.is_empty(),
            "memtrace's stderr:\n{stderr}"
        );
        Run::parse(&self.output(), &self.rules)
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        // Killing by pid is safe: it has not been reaped, or kill does nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// memtrace without arguments.
pub fn command() -> Command {
    Command::new(binary::memtrace())
}
