//! A running workload, which ends with its guard.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::binary::Exe;
use crate::counters::Counters;
use crate::record::Record;

/// A workload that has said `ready` and waits for `go`.
pub struct Workload {
    child: Child,
    voice: Voice,
    /// The process to trace.
    pub pid: u32,
}

/// Both directions of the protocol.
pub struct Voice {
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Workload {
    /// Starts a workload and waits until it is ready.
    pub fn start(workload: &Exe, args: &[&str]) -> Self {
        Self::start_command(workload.command().args(args))
    }

    /// Starts any program that speaks the protocol.
    pub fn start_command(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut voice = Voice::of(&mut child);
        let pid = voice.ready();
        Self { child, voice, pid }
    }

    /// Lets it act: the truth that it found out.
    pub fn go(&mut self) -> Record {
        self.say("go")
    }

    /// Says another word that it waits for, and hears the next truth.
    pub fn say(&mut self, word: &str) -> Record {
        self.voice.say(word);
        self.voice.truth()
    }

    /// Says a word that makes it run itself anew, and waits until it is ready again.
    pub fn run_anew(&mut self, word: &str) {
        self.voice.say(word);
        assert_eq!(self.voice.ready(), self.pid, "an exec keeps the pid");
    }

    /// The kernel's fault counters of the traced process, now.
    pub fn counters(&self) -> Counters {
        Counters::of(self.pid)
    }

    /// Lets it end, and waits until it has.
    pub fn end(mut self) {
        self.voice.say("end");
        let status = self.child.wait().expect("it is our child");
        assert!(status.success(), "the workload ended with {status}");
    }

    /// Ends it at once, as a crash would.
    pub fn kill(mut self) {
        self.stop();
    }

    fn stop(&mut self) {
        // Killing by pid is safe: it has not been reaped, or kill does nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Has a program run without huge pages, so that one fault is one page.
pub fn without_huge_pages(command: &mut Command) -> &mut Command {
    // SAFETY: prctl is async-signal-safe; the setting is inherited and survives the exec.
    unsafe {
        command.pre_exec(|| match libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        })
    }
}

impl Voice {
    /// Takes the pipes of a child that was started with them.
    pub fn of(child: &mut Child) -> Self {
        Self {
            stdin: child.stdin.take().expect("stdin is piped"),
            stdout: BufReader::new(child.stdout.take().expect("stdout is piped")),
        }
    }

    /// Waits for `ready` and the pid that it names.
    pub fn ready(&mut self) -> u32 {
        let line = self.hear();
        let pid = line.strip_prefix("ready ").and_then(|pid| pid.parse().ok());
        pid.unwrap_or_else(|| panic!("the workload said {line:?} instead of `ready PID`"))
    }

    pub fn say(&mut self, word: &str) {
        writeln!(self.stdin, "{word}").unwrap_or_else(|error| panic!("saying {word}: {error}"));
    }

    /// Waits for the truth.
    pub fn truth(&mut self) -> Record {
        Record::parse(&self.hear()).unwrap_or_else(|why| panic!("the workload's report: {why}"))
    }

    /// The next line. A workload that hangs kills itself, which ends the line.
    fn hear(&mut self) -> String {
        let mut line = String::new();
        let heard = self.stdout.read_line(&mut line);
        heard.unwrap_or_else(|error| panic!("the workload: {error}"));
        line.trim_end().to_owned()
    }
}
