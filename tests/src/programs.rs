//! Real programs under jemalloc: Perl, and Redis.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::needs::{self, Need};
use crate::tempdir::TempDir;
use crate::wait;
use crate::workload::{Workload, without_huge_pages};

pub const JEMALLOC: Need = Need::Library("libjemalloc.so.2", "libjemalloc2");
pub const PERL: Need = Need::Program("perl", "perl");
pub const REDIS: Need = Need::Program("redis-server", "redis-server");

/// Where jemalloc's library is.
pub fn jemalloc() -> PathBuf {
    needs::library("libjemalloc.so.2").expect("the test needs it")
}

/// The command of a Perl program that fills 100 MB with strings and drops them.
pub fn perl_command() -> Command {
    let mut command = Command::new("perl");
    command.arg(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/perl/strings.pl"
    ));
    without_huge_pages(&mut command);
    command
}

/// That program with jemalloc as its malloc.
pub fn perl(settings: &str) -> Workload {
    let mut command = perl_command();
    command
        .env("LD_PRELOAD", jemalloc())
        .env("MALLOC_CONF", settings);
    Workload::start_command(&mut command)
}

/// A private redis-server without persistence, which ends with its guard.
pub struct Redis {
    child: Child,
    stream: BufReader<UnixStream>,
    _dir: TempDir,
}

impl Redis {
    pub fn start(settings: &str) -> Self {
        let dir = TempDir::new();
        let socket = dir.join("socket");
        let program = needs::program("redis-server").expect("the test needs it");
        let mut command = Command::new(program);
        command
            .args(["--port", "0", "--save", "", "--appendonly", "no"])
            .args([
                "--enable-debug-command",
                "yes",
                "--jemalloc-bg-thread",
                "no",
            ])
            .arg("--unixsocket")
            .arg(&socket)
            .arg("--dir")
            .arg(dir.path())
            .env("MALLOC_CONF", settings)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        without_huge_pages(&mut command);
        let child = command.spawn().expect("redis-server starts");
        let stream = connect(&socket);
        let mut redis = Self {
            child,
            stream: BufReader::new(stream),
            _dir: dir,
        };
        redis.fill();
        redis
    }

    /// Sets the keys, 100 MB in all.
    pub fn fill(&mut self) {
        self.ask("DEBUG POPULATE 50000 key 2000");
    }

    /// Sends one command and waits for the answer, which must be OK.
    pub fn ask(&mut self, command: &str) {
        writeln!(self.stream.get_mut(), "{command}").expect("redis listens");
        let mut answer = String::new();
        self.stream.read_line(&mut answer).expect("redis answers");
        assert_eq!(answer.trim_end(), "+OK", "to {command}");
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // Killing by pid is safe: it has not been reaped.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn connect(socket: &Path) -> UnixStream {
    wait::until("redis to listen", || UnixStream::connect(socket).ok())
}
