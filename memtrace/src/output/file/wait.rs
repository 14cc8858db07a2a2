//! Waits until somebody reads a FIFO, or a signal ends the wait.

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{anyhow, bail};

use super::{CannotWrite, State};
use crate::output::exit::signal_name;
use crate::say::say;

/// An open(2) that waits is begun anew after each signal that is handled (SA_RESTART), and nothing else
/// tells of a reader; so it is tried without waiting, this often.
const BETWEEN: Duration = Duration::from_millis(20);

/// A signal came before a FIFO's reader did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stopped {
    signal: i32,
    path: PathBuf,
}

impl Stopped {
    /// As a shell would have it of one whom the signal ended.
    pub fn exit_code(&self) -> u8 {
        u8::try_from(128 + self.signal).unwrap_or(1)
    }
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, path) = (signal_name(self.signal).unwrap_or("a signal"), &self.path);
        write!(
            f,
            "ended by {name} while {path:?} (-o) waited for a reader: nothing was done"
        )
    }
}

impl std::error::Error for Stopped {}

/// Opens a FIFO that nobody read a moment ago, once somebody does.
pub(super) fn for_reader(path: &Path, stopped: &dyn Fn() -> Option<i32>) -> anyhow::Result<File> {
    say(format_args!(
        "{path:?} (-o) is a FIFO: waiting for a reader; Ctrl-C ends memtrace"
    ));
    loop {
        if let Some(signal) = stopped() {
            let path = path.to_owned();
            bail!(Stopped { signal, path });
        }
        std::thread::sleep(BETWEEN);
        match State::find(path) {
            Ok(None) => {}
            Ok(Some(State::Open(file))) => return Ok(file),
            Ok(Some(State::Kept(_) | State::New(_))) => {
                bail!("cannot write {path:?} (-o): the FIFO of that name is gone")
            }
            Err(why) => return Err(anyhow!("{}", CannotWrite(path, why))),
        }
    }
}
