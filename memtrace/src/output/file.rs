//! The file that -o names: found and checked at once, made or emptied only when the first byte is written.
//!
//! So a run that comes to nothing leaves a file as it was, whatever it failed at.

mod inherited;
mod place;
mod wait;

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use crate::rights;
use crate::say::say;
use place::{Place, Refusal};
pub use wait::Stopped;

/// A new file is for who made it: it names processes, files and addresses.
const MODE: libc::mode_t = 0o600;

/// A file that begins when it is written.
#[derive(Debug)]
pub struct OutputFile {
    path: PathBuf,
    state: State,
}

#[derive(Debug)]
enum State {
    /// There is nothing to lose: a FIFO, a device, a descriptor that we were started with, or one that has begun.
    Open(File),
    /// A regular file, with its content.
    Kept(File),
    /// Nothing has the name.
    New(Place),
}

/// Why a file is not written, and what to do.
#[derive(Debug)]
struct CannotWrite<'a>(&'a Path, Refusal);

impl fmt::Display for CannotWrite<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot write {:?} (-o): {}", self.0, self.1)
    }
}

impl OutputFile {
    /// Looks whether the file can be written, and changes nothing. It waits for a FIFO's reader;
    /// `stopped` gives the signal that ends the wait.
    ///
    /// All is done with the rights of the user, who named it.
    ///
    /// # Errors
    /// [`Stopped`], or a sentence that says why it can't be written and what to do.
    pub fn find(path: &Path, stopped: &dyn Fn() -> Option<i32>) -> anyhow::Result<Self> {
        let state = match State::find(path) {
            Ok(Some(state)) => state,
            Ok(None) => State::Open(wait::for_reader(path, stopped)?),
            Err(why) => anyhow::bail!("{}", CannotWrite(path, why)),
        };
        Ok(Self {
            path: path.to_owned(),
            state,
        })
    }

    /// Empties or makes the file.
    fn begin(&self) -> io::Result<File> {
        match &self.state {
            State::Open(file) => file.try_clone(),
            State::Kept(file) => file.set_len(0).and_then(|()| file.try_clone()),
            State::New(place) => match rights::with_own(|| place.open(NEW, MODE))? {
                Ok(made) => {
                    give_to_caller(&made, &self.path);
                    Ok(made.into())
                }
                // Somebody was faster: all is looked at anew.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => self.came(),
                Err(error) => Err(error),
            },
        }
    }

    /// The file that has come into the place since it was looked at.
    fn came(&self) -> io::Result<File> {
        match State::find(&self.path) {
            Ok(Some(State::Open(file))) => Ok(file),
            Ok(Some(State::Kept(file))) => file.set_len(0).map(|()| file),
            // It went again, or is a FIFO without a reader: that is no accident.
            Ok(Some(State::New(_)) | None) => Err(io::ErrorKind::AlreadyExists.into()),
            Err(Refusal::Io(error)) => Err(error),
            Err(why) => Err(io::Error::other(why.to_string())),
        }
    }
}

/// To make a file, and never to take one that is there.
const NEW: libc::c_int = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL;

impl State {
    /// What has the path; `None`: a FIFO that nobody reads now.
    fn find(path: &Path) -> Result<Option<Self>, Refusal> {
        rights::with_own(|| Self::find_as_we_are(path))?
    }

    fn find_as_we_are(path: &Path) -> Result<Option<Self>, Refusal> {
        if let Some(doubled) = inherited::open(path) {
            return Ok(Some(Self::Open(doubled?)));
        }
        let place = Place::find(path)?;
        let Some(found) = place.found else {
            place.can_create()?;
            return Ok(Some(Self::New(place)));
        };
        place.check(found)?;
        if found.kind() == libc::S_IFBLK {
            return Err(io::Error::other("it is a block device").into());
        }
        // O_NONBLOCK: a FIFO's reader is not waited for here, nor who holds a lease on a file.
        let opened = match place.open(libc::O_WRONLY | libc::O_NONBLOCK, 0) {
            Ok(opened) => opened,
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) => match found.kind() {
                libc::S_IFIFO => return Ok(None),
                libc::S_IFSOCK => {
                    let why = "it is a socket, which cannot be opened as a file; write to stdout and pipe that into it";
                    return Err(io::Error::other(why).into());
                }
                _ => return Err(error.into()),
            },
            Err(error) => return Err(error.into()),
        };
        // Another file may have come into the place since.
        let status = place::status(&opened, c"", libc::AT_EMPTY_PATH)?;
        place.check(status)?;
        wait_when_written(&opened)?;
        let file = File::from(opened);
        Ok(Some(match status.kind() {
            libc::S_IFREG => Self::Kept(file),
            _ => Self::Open(file),
        }))
    }
}

impl Write for OutputFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = match &self.state {
            State::Open(file) => (&*file).write(bytes),
            State::Kept(_) | State::New(_) => self.begin().and_then(|mut file| {
                let written = file.write(bytes);
                self.state = State::Open(file);
                written
            }),
        };
        written.map_err(|error| named(&self.path, error))
    }

    fn flush(&mut self) -> io::Result<()> {
        // A file has no buffer of its own, and one that has not begun holds nothing.
        Ok(())
    }
}

/// Keeps the kind: a closed pipe is a normal end.
fn named(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(
        error.kind(),
        format!("{path:?} (-o): {}", Refusal::Io(error)),
    )
}

/// Takes O_NONBLOCK off.
fn wait_when_written(file: &OwnedFd) -> io::Result<()> {
    // SAFETY: plain integers; the descriptor is open.
    match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFL, 0) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Gives a file that root has just made to who called sudo, who could not read it otherwise.
fn give_to_caller(made: &OwnedFd, path: &Path) {
    let Some((uid, gid)) = caller() else { return };
    // SAFETY: plain integers; the descriptor is open.
    if unsafe { libc::fchown(made.as_raw_fd(), uid, gid) } != 0 {
        let error = io::Error::last_os_error();
        say(format_args!(
            "{path:?} (-o) stays root's, since it could not be given to user {uid}, who called sudo: {error}"
        ));
    }
}

/// Who called sudo, where we really are root.
fn caller() -> Option<(libc::uid_t, libc::gid_t)> {
    // SAFETY: the calls take nothing and cannot fail.
    if unsafe { (libc::getuid(), libc::geteuid()) } != (0, 0) {
        return None;
    }
    let id = |name| std::env::var(name).ok()?.parse::<u32>().ok();
    // -1 would mean to leave the owner as it is.
    let (uid, gid) = (id("SUDO_UID")?, id("SUDO_GID")?);
    (uid != 0 && uid != u32::MAX && gid != u32::MAX).then_some((uid, gid))
}

#[cfg(test)]
#[path = "file/file_tests.rs"]
mod tests;
