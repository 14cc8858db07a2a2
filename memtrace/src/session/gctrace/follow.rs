//! Reads a file that may grow, be cut short or be replaced, or what comes through a FIFO or stdin.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::Telling;
use crate::rights;
use crate::units::Bytes;

/// What of a file is read that was there before: enough for the state at the start, whatever a log's age.
const BEFORE: u64 = 16 << 20;
/// What is read in one turn, and how long it is then until the next: 20 MiB a second at the most.
const TURN: u64 = 1 << 20;
const REST_MS: i32 = 50;
/// How often a file is looked at for more. Nothing tells of its growth on every file system.
const LOOK_MS: i32 = 100;
/// What is read once the trace is over.
const LAST: u64 = 16 << 20;

/// A file in the reading.
pub(super) struct Followed {
    file: File,
    /// None for stdin, which can't be replaced.
    path: Option<PathBuf>,
    regular: bool,
    /// How far a regular file was read.
    at: u64,
    /// What of it was there before.
    before: u64,
    /// Reading began somewhere in a line, whose rest is none.
    within_a_line: bool,
    /// Why it can't be read any more, or be opened anew; told once.
    told: bool,
    buffer: Vec<u8>,
}

/// What a turn came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// There is more.
    Full,
    /// Nothing for now.
    Empty,
    /// Nobody writes to it now.
    NoWriter,
    /// Nothing will ever come.
    Over,
}

impl Followed {
    /// Opens a file, or a FIFO without waiting for whoever is to write to it.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let (file, metadata) = open(path)?;
        Ok(Self::new(file, Some(path.to_owned()), Some(&metadata)))
    }

    pub(super) fn stdin(file: File) -> Self {
        // Where nobody can tell what it is, reading it will.
        let metadata = file.metadata().ok();
        Self::new(file, None, metadata.as_ref())
    }

    fn new(file: File, path: Option<PathBuf>, metadata: Option<&Metadata>) -> Self {
        let regular = metadata.filter(|metadata| metadata.is_file());
        Self {
            file,
            path,
            regular: regular.is_some(),
            at: 0,
            before: regular.map_or(0, Metadata::len),
            within_a_line: false,
            told: false,
            buffer: vec![0; 64 << 10],
        }
    }

    /// Reads until `stop` is closed at its other end, and then what is there.
    pub(super) fn follow(&mut self, stop: RawFd, telling: &mut Telling) {
        self.skip_most_of_before(telling);
        loop {
            let turn = self.turn(TURN, telling);
            let stopped = match turn {
                Turn::Over => return,
                Turn::Full => wait(stop, None, REST_MS),
                // Until someone opens a FIFO anew, poll says at once that nobody has it open.
                Turn::NoWriter => wait(stop, None, LOOK_MS),
                Turn::Empty if self.regular => wait(stop, None, LOOK_MS),
                Turn::Empty => wait(stop, Some(self.file.as_raw_fd()), -1),
            };
            if stopped {
                break;
            }
            if self.regular && turn == Turn::Empty {
                self.look_for_changes(telling);
            }
        }
        if self.turn(LAST, telling) == Turn::Full {
            telling.note(format!(
                "gctrace: its source had more than {} that were not read yet when the trace ended",
                Bytes(LAST)
            ));
        }
    }

    /// A large log is read from near its end.
    fn skip_most_of_before(&mut self, telling: &mut Telling) {
        let skipped = self.before.saturating_sub(BEFORE);
        if skipped == 0 || self.file.seek(SeekFrom::Start(skipped)).is_err() {
            return;
        }
        self.at = skipped;
        self.within_a_line = true;
        telling.note(format!(
            "gctrace: of the {} that were there before the trace, only the last {} were read",
            Bytes(self.before),
            Bytes(BEFORE)
        ));
    }

    fn turn(&mut self, most: u64, telling: &mut Telling) -> Turn {
        let mut left = most;
        while left > 0 {
            // Else a terminal or a pipe that is not ours alone could hold us.
            if !self.regular && !is_readable(self.file.as_raw_fd()) {
                return Turn::Empty;
            }
            match self.file.read(&mut self.buffer) {
                Ok(0) => return self.end(telling),
                Ok(read) => {
                    self.take_in(read, telling);
                    left = left.saturating_sub(read as u64);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Turn::Empty,
                Err(error) => {
                    self.tell_once(telling, &format!("cannot be read any more: {error}"));
                    return Turn::Over;
                }
            }
        }
        Turn::Full
    }

    /// Takes in what was read into the buffer.
    fn take_in(&mut self, read: usize, telling: &mut Telling) {
        let mut bytes = &self.buffer[..read];
        if self.within_a_line {
            let end = memchr::memchr(b'\n', bytes);
            self.within_a_line = end.is_none();
            let skipped = end.map_or(read, |end| end + 1);
            bytes = &bytes[skipped..];
            self.at += skipped as u64;
        }
        let before = self.before.saturating_sub(self.at).min(bytes.len() as u64);
        let (before, since) = bytes.split_at(before as usize);
        telling.push_before(before);
        telling.push(since);
        self.at += bytes.len() as u64;
    }

    /// Nothing more is there now.
    fn end(&mut self, telling: &mut Telling) -> Turn {
        if self.regular {
            return Turn::Empty;
        }
        // Whoever writes next begins a line of its own.
        telling.cut();
        match self.path {
            Some(_) => Turn::NoWriter,
            None => Turn::Over,
        }
    }

    /// A log that was cut short begins anew, and so does one that took the place of another.
    fn look_for_changes(&mut self, telling: &mut Telling) {
        let Ok(now) = self.file.metadata() else {
            return;
        };
        if now.len() < self.at && self.file.rewind().is_ok() {
            telling.cut();
            (self.at, self.before) = (0, 0);
            return;
        }
        let Some(path) = &self.path else { return };
        // While there is none of that name, whoever writes has this one open still.
        let Ok(Ok(named)) = rights::with_own(|| path.metadata()) else {
            return;
        };
        if (named.dev(), named.ino()) == (now.dev(), now.ino()) {
            return;
        }
        match open(path) {
            Ok((file, metadata)) => {
                // What came into the old one between the last look and now.
                self.turn(LAST, telling);
                telling.cut();
                self.file = file;
                self.regular = metadata.is_file();
                (self.at, self.before) = (0, 0);
            }
            Err(error) => self.tell_once(
                telling,
                &format!("was replaced, and cannot be opened: {error}"),
            ),
        }
    }

    fn tell_once(&mut self, telling: &mut Telling, what: &str) {
        if !std::mem::replace(&mut self.told, true) {
            let name = match &self.path {
                Some(path) => format!("{path:?}"),
                None => "stdin".to_owned(),
            };
            telling.note(format!("gctrace: {name} {what}"));
        }
    }
}

/// Opens a file that the user names, with the user's rights.
fn open(path: &Path) -> io::Result<(File, Metadata)> {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
    let file = rights::with_own(|| options.open(path))??;
    let metadata = file.metadata()?;
    let kind = metadata.file_type();
    if kind.is_dir() {
        return Err(io::Error::from_raw_os_error(libc::EISDIR));
    }
    if kind.is_block_device() {
        return Err(io::Error::other("it is a block device"));
    }
    if kind.is_fifo() && is_someone_elses(&file, &metadata) {
        return Err(io::Error::other(
            "it is a pipe that another process reads: what memtrace took would be missing there; have the \
             program write to a file",
        ));
    }
    Ok((file, metadata))
}

/// True for a pipe without a name, come by through /proc/PID/fd, that was not handed to us (as the shell's
/// `<(command)` is).
fn is_someone_elses(file: &File, pipe: &Metadata) -> bool {
    let fds = Path::new("/proc/self/fd");
    let opened = file.as_raw_fd();
    let named = std::fs::read_link(fds.join(opened.to_string()));
    if !named.is_ok_and(|name| name.as_os_str().as_encoded_bytes().starts_with(b"pipe:")) {
        return false;
    }
    let ours = std::fs::read_dir(fds).into_iter().flatten().flatten();
    !ours
        .filter(|entry| entry.file_name() != *opened.to_string())
        .filter_map(|entry| entry.path().metadata().ok())
        .any(|one| (one.dev(), one.ino()) == (pipe.dev(), pipe.ino()))
}

/// True where a read does not wait.
fn is_readable(fd: RawFd) -> bool {
    let mut polled = libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one entry is told and there.
    unsafe { libc::poll(&mut polled, 1, 0) > 0 }
}

/// Waits for bytes or for the end of the trace, or so long; true at the end of the trace.
fn wait(stop: RawFd, source: Option<RawFd>, timeout_ms: i32) -> bool {
    let polled = |fd| libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    };
    // A negative descriptor is passed over by poll.
    let mut both = [polled(stop), polled(source.unwrap_or(-1))];
    // SAFETY: two entries are told and there.
    unsafe { libc::poll(both.as_mut_ptr(), 2, timeout_ms) };
    both[0].revents != 0
}
