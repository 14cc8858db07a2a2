//! Listens to Go's runtime while its process is traced, in a thread that waits for nobody.

mod follow;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::mpsc as std_mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::clock;
use crate::config::GcSource;
use crate::golang::gctrace::Event;
use crate::golang::gctrace::digest::{Digest, Reader};
use crate::launch::relay::{self, Copies};
use crate::rights;
use crate::units::{Bytes, counted};
use crate::view::gctrace::GcTrace;
use follow::Followed;

/// Lines on their way to the stream; more at once are in the sum only.
const MOST_WAITING: usize = 4096;
/// How long the end of a trace waits for the last lines: an stderr that takes nothing could hold them for ever.
const LAST_LINES: Duration = Duration::from_secs(2);

/// A line, and when it was read.
pub type Told = (u64, Event);

/// What the thread has heard so far.
#[derive(Debug, Default)]
struct Heard {
    digest: Digest,
    notes: Vec<String>,
    /// Lines that were too many for the stream.
    unshown: u64,
}

/// The thread, if anyone is listened to.
#[derive(Default)]
pub struct Listener(Option<Listening>);

struct Listening {
    source: String,
    heard: Arc<Mutex<Heard>>,
    told: Receiver<Told>,
    /// Dropping this ends the thread when it has read what is there.
    end: OwnedEnd,
    ended: std_mpsc::Receiver<()>,
}

/// What the thread looks at to know that the trace is over.
enum OwnedEnd {
    Pipe(#[allow(dead_code, reason = "only its end of life is of use")] io::PipeWriter),
    Relay(#[allow(dead_code, reason = "only its end of life is of use")] relay::End),
}

/// A listener, and what a launched command is to have as its stderr.
pub struct Started {
    pub listener: Listener,
    pub stderr: Option<OwnedFd>,
}

/// Begins to listen.
///
/// # Errors
/// When the source can't be opened.
pub fn start(source: Option<&GcSource>) -> anyhow::Result<Started> {
    let (listener, stderr) = match source {
        None => (Listener::default(), None),
        Some(GcSource::CommandStderr) => {
            let (relay, stderr) = relay::start().context("cannot pass the command's stderr on")?;
            let copies = relay.copies;
            let end = OwnedEnd::Relay(relay.end);
            let listener = Listener::start("stderr".to_owned(), end, |told| hear(told, copies))?;
            (listener, Some(stderr))
        }
        Some(GcSource::Stdin) => {
            let stdin = io::stdin().as_fd().try_clone_to_owned();
            let file = File::from(stdin.context("cannot read stdin (--gctrace -)")?);
            (followed("-".to_owned(), Followed::stdin(file))?, None)
        }
        Some(GcSource::File(path)) => {
            let followed_file = Followed::open(path).map_err(|error| {
                anyhow!(
                    "cannot read {path:?} (--gctrace): {error}{}",
                    rights::hint(&error)
                )
            })?;
            let name = path.to_string_lossy().into_owned();
            (followed(name, followed_file)?, None)
        }
    };
    Ok(Started { listener, stderr })
}

fn followed(name: String, mut file: Followed) -> anyhow::Result<Listener> {
    let (stop, end) = io::pipe().context("cannot make a pipe")?;
    Listener::start(name, OwnedEnd::Pipe(end), move |told| {
        file.follow(stop.as_raw_fd(), told);
        drop(stop);
    })
}

/// Takes in what the command wrote to its stderr.
fn hear(told: &mut Telling, mut copies: Copies) {
    let mut bytes = Vec::new();
    let mut missed = 0u64;
    loop {
        bytes.clear();
        match copies.read(&mut bytes) {
            Ok(Some(left_out)) => {
                if left_out > 0 {
                    missed += u64::from(left_out);
                    told.cut();
                }
                told.push(&bytes);
            }
            Ok(None) => break,
            Err(error) => {
                told.note(format!(
                    "gctrace: the copy of the command's stderr ended early: {error}"
                ));
                break;
            }
        }
    }
    if missed > 0 {
        told.note(format!(
            "gctrace: {} of the command's stderr came faster than they could be read: lines are missing",
            Bytes(missed)
        ));
    }
}

impl Listener {
    fn start(
        source: String,
        end: OwnedEnd,
        work: impl FnOnce(&mut Telling) + Send + 'static,
    ) -> anyhow::Result<Self> {
        let heard = Arc::new(Mutex::new(Heard::default()));
        let (sender, told) = channel(MOST_WAITING);
        let (at_end, ended) = std_mpsc::channel();
        let mut telling = Telling {
            reader: Reader::default(),
            heard: Arc::clone(&heard),
            sender,
        };
        std::thread::Builder::new()
            .name("gctrace".to_owned())
            .spawn(move || {
                work(&mut telling);
                telling.cut();
                drop(telling);
                // Nobody may wait for it any more.
                let _ = at_end.send(());
            })
            .context("cannot start the thread that reads gctrace")?;
        Ok(Self(Some(Listening {
            source,
            heard,
            told,
            end,
            ended,
        })))
    }

    /// The next line. Never resolves where nobody is listened to, or nothing more can come.
    pub async fn next(&mut self) -> Told {
        if let Some(listening) = &mut self.0
            && let Some(told) = listening.told.recv().await
        {
            return told;
        }
        std::future::pending().await
    }

    /// Ends the listening, once all that is there now was read: the last lines, the sum, and what limits it.
    pub fn finish(&mut self) -> (Vec<Told>, Option<GcTrace>, Vec<String>) {
        let Some(listening) = self.0.take() else {
            return Default::default();
        };
        let Listening {
            source,
            heard,
            mut told,
            end,
            ended,
        } = listening;
        drop(end);
        let in_time = ended.recv_timeout(LAST_LINES).is_ok();
        let mut last = Vec::new();
        while let Ok(line) = told.try_recv() {
            last.push(line);
        }
        let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
        let mut notes = std::mem::take(&mut heard.notes);
        if !in_time {
            notes.push(
                "gctrace: the last lines did not come in time, and may be missing from its figures"
                    .to_owned(),
            );
        }
        if heard.unshown > 0 {
            notes.push(format!(
                "gctrace: {} left out of the stream, which they would have held up; the figures have them",
                counted(heard.unshown, "line")
            ));
        }
        let digest = heard.digest;
        (last, Some(GcTrace { source, digest }), notes)
    }
}

/// The thread's way to tell.
pub(super) struct Telling {
    reader: Reader,
    heard: Arc<Mutex<Heard>>,
    sender: Sender<Told>,
}

impl Telling {
    /// Bytes that came while tracing.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let at_ns = clock::now_ns();
        let mut unshown = 0;
        let sender = &self.sender;
        self.reader.push(bytes, |event| {
            // The thread must not wait for the stream: a command waits for the thread.
            unshown += u64::from(sender.try_send((at_ns, event)).is_err());
        });
        self.publish(|heard| heard.unshown += unshown);
    }

    /// Bytes that were there before.
    pub(super) fn push_before(&mut self, bytes: &[u8]) {
        self.reader.push_before(bytes);
        self.publish(|_| {});
    }

    /// A line that has begun will not go on.
    pub(super) fn cut(&mut self) {
        self.reader.cut();
        self.publish(|_| {});
    }

    pub(super) fn note(&mut self, note: String) {
        self.publish(|heard| heard.notes.push(note));
    }

    fn publish(&mut self, change: impl FnOnce(&mut Heard)) {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.digest = self.reader.digest();
        change(&mut heard);
    }
}

#[cfg(test)]
mod tests;
