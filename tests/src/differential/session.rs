//! A run of memtrace and of the program that it traces, and the talk with that program.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use super::mode::Way;
use super::protocol::{Entry, FILE_PAGES, Head, Request};
use crate::tempdir::TempDir;
use crate::wait;

/// What went wrong with the run itself, in words.
pub type Trouble = String;

pub struct Session {
    dir: TempDir,
    memtrace: Option<Child>,
    /// The program, where memtrace has not launched it.
    program: Option<Child>,
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
}

/// Which programs to run.
#[derive(Clone, Debug)]
pub struct Programs {
    pub memtrace: PathBuf,
    pub program: PathBuf,
}

impl Session {
    /// Launches the program under memtrace, or alone, to be attached to later.
    pub fn start(programs: &Programs, way: &Way, pinned: bool) -> Result<Self, Trouble> {
        let dir = TempDir::new();
        for name in ["file", "code"] {
            let content = vec![0xc3; FILE_PAGES as usize * 4096];
            fs::write(dir.join(name), content).map_err(|error| format!("{name}: {error}"))?;
        }
        let words = [
            programs.program.clone(),
            dir.join("file"),
            dir.join("code"),
            if pinned { "pinned" } else { "unpinned" }.into(),
        ];
        let mut command = if way.attach {
            Command::new(&words[0])
        } else {
            let mut command = Command::new(&programs.memtrace);
            options(&mut command, way, dir.path());
            command.arg("--").arg(&words[0]);
            command
        };
        command.args(&words[1..]);
        let stderr = File::create(dir.join("stderr")).map_err(|error| error.to_string())?;
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .map_err(|error| format!("{command:?}: {error}"))?;
        let mut session = Self {
            stdin: child.stdin.take(),
            stdout: child.stdout.take().expect("stdout is piped"),
            dir,
            memtrace: None,
            program: None,
        };
        if way.attach {
            session.program = Some(child);
        } else {
            session.memtrace = Some(child);
            session.wait_for_header()?;
        }
        Ok(session)
    }

    /// Attaches memtrace to a process of the program.
    pub fn attach(&mut self, programs: &Programs, way: &Way, pid: u32) -> Result<(), Trouble> {
        let mut command = Command::new(&programs.memtrace);
        options(&mut command, way, self.dir.path());
        let stderr = File::create(self.dir.join("stderr")).map_err(|error| error.to_string())?;
        let child = command
            .args(["-f", "-p", &pid.to_string()])
            .stdin(Stdio::null())
            .stderr(stderr)
            .spawn();
        self.memtrace = Some(child.map_err(|error| format!("{command:?}: {error}"))?);
        self.wait_for_header()
    }

    fn wait_for_header(&mut self) -> Result<(), Trouble> {
        let out = self.dir.join("out");
        let child = self.memtrace.as_mut().expect("memtrace was started");
        let ended = wait::until("memtrace's header", || {
            let text = fs::read_to_string(&out).unwrap_or_default();
            if text.contains('\n') {
                return Some(None);
            }
            child.try_wait().expect("it is our child").map(Some)
        });
        match ended {
            None => Ok(()),
            Some(status) => Err(format!("memtrace ended at once, {status}: {}", self.said())),
        }
    }

    /// Has the program do something, and hears what became of it.
    pub fn ask(&mut self, request: &Request) -> Result<(Head, Vec<Entry>), Trouble> {
        let stdin = self.stdin.as_mut().ok_or("the program has been let go")?;
        stdin
            .write_all(&request.bytes())
            .map_err(|error| format!("the program takes no request: {error}"))?;
        let mut head = [0; Head::BYTES];
        self.hear(&mut head)?;
        let head = Head::parse(&head);
        let mut bytes = vec![0; head.entries as usize * Entry::BYTES];
        self.hear(&mut bytes)?;
        let entries = bytes.chunks_exact(Entry::BYTES).map(Entry::parse);
        Ok((head, entries.collect()))
    }

    fn hear(&mut self, bytes: &mut [u8]) -> Result<(), Trouble> {
        let mut at = 0;
        while at < bytes.len() {
            self.wait_for_answer()
                .map_err(|error| format!("the program: {error}"))?;
            match self.stdout.read(&mut bytes[at..]) {
                Ok(0) => return Err(format!("the program has ended: {}", self.said())),
                Ok(read) => at += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("the program: {error}")),
            }
        }
        Ok(())
    }

    fn wait_for_answer(&self) -> io::Result<()> {
        /// A backstop: no step takes a second.
        const MOST: Duration = Duration::from_secs(60);
        let mut poll = libc::pollfd {
            fd: self.stdout.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: there is one entry, and it is told so.
        match unsafe { libc::poll(&raw mut poll, 1, MOST.as_millis() as i32) } {
            0 => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "it does not answer",
            )),
            _ => Ok(()),
        }
    }

    /// Lets the program end, and memtrace with it: what memtrace wrote.
    pub fn finish(mut self) -> Result<String, Trouble> {
        drop(self.stdin.take());
        if let Some(mut program) = self.program.take() {
            let _ = program.wait();
        }
        let mut child = self.memtrace.take().ok_or("nothing was traced")?;
        let status = wait::until("memtrace's end", || {
            child.try_wait().expect("it is our child")
        });
        if !status.success() {
            return Err(format!("memtrace ended with {status}: {}", self.said()));
        }
        let out = self.dir.join("out");
        fs::read_to_string(&out).map_err(|error| format!("{}: {error}", out.display()))
    }

    fn said(&self) -> String {
        fs::read_to_string(self.dir.join("stderr")).unwrap_or_default()
    }
}

fn options(command: &mut Command, way: &Way, dir: &Path) {
    command.args(["--format", "json", "--no-status", "-e", "fault", "-o"]);
    command.arg(dir.join("out"));
    if way.exact_bytes {
        command.arg("--exact-bytes");
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        for child in [&mut self.program, &mut self.memtrace]
            .into_iter()
            .flatten()
        {
            // Killing by pid is safe: it has not been reaped, or kill does nothing.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
