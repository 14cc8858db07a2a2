//! Finds out which allocators and runtimes live in the targets, in a thread of its own: binaries can be large.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use anyhow::Context as _;

use crate::clock;
use crate::runtime::{Runtimes, detect};

/// How long the header waits for an answer: one takes a few milliseconds, as a rule.
const HEADER_WAIT: Duration = Duration::from_millis(100);
/// Libraries are not mapped yet when a program begins: it is looked at again after so long.
const AGAIN_NS: u64 = 2_000_000_000;
/// Processes that may wait to be looked at; those of a fork bomb are not.
const MOST_WAITING: usize = 256;

/// A process and how many times it has exec'd.
pub type Image = (u32, u32);

/// What is known of one image.
#[derive(Debug, Default)]
struct Known {
    runtimes: Runtimes,
    /// When the look began that told it.
    seen_ns: u64,
    asked_ns: u64,
    asked: u32,
}

/// The thread, and what it has told so far.
pub struct Recognise {
    requests: Sender<Image>,
    answers: Receiver<(Image, u64, Runtimes)>,
    waiting: usize,
    known: HashMap<Image, Known>,
}

impl Recognise {
    /// Starts the thread, which sleeps until it is asked.
    ///
    /// # Errors
    /// When the system is out of threads.
    pub fn start() -> anyhow::Result<Self> {
        let (requests, asked) = channel::<Image>();
        let (answer, answers) = channel();
        std::thread::Builder::new()
            .name("recognise".to_owned())
            .spawn(move || {
                for image in asked {
                    let seen_ns = clock::now_ns();
                    let runtimes = detect::detect(image.0);
                    if answer.send((image, seen_ns, runtimes)).is_err() {
                        break;
                    }
                }
            })
            .context("cannot start the thread that recognises runtimes")?;
        Ok(Self {
            requests,
            answers,
            waiting: 0,
            known: HashMap::new(),
        })
    }

    /// Asks for a look at a process.
    pub fn ask(&mut self, image: Image) {
        let known = self.known.entry(image).or_default();
        known.asked += 1;
        known.asked_ns = clock::now_ns();
        if self.waiting < MOST_WAITING && self.requests.send(image).is_ok() {
            self.waiting += 1;
        }
    }

    /// Asks once more for those that were looked at when they had just begun.
    pub fn ask_again(&mut self, images: &[Image]) {
        self.collect(Duration::ZERO);
        let now_ns = clock::now_ns();
        for image in images {
            let due = self
                .known
                .get(image)
                .is_some_and(|known| known.asked == 1 && now_ns >= known.asked_ns + AGAIN_NS);
            if due {
                self.ask(*image);
            }
        }
    }

    /// What a child has from its parent until it execs.
    pub fn inherit(&mut self, parent: Image, child: Image) {
        self.collect(Duration::ZERO);
        if let Some(known) = self.known.get(&parent) {
            let known = Known {
                runtimes: known.runtimes.clone(),
                asked: 2,
                ..Known::default()
            };
            self.known.insert(child, known);
        }
    }

    /// The image ended at that time: what was seen later was the next one's.
    pub fn image_ends(&mut self, image: Image, at_ns: u64) {
        self.collect(Duration::ZERO);
        if let Some(known) = self.known.get_mut(&image)
            && known.seen_ns >= at_ns
        {
            known.runtimes = Runtimes::default();
        }
    }

    /// In one line, for the header; waits for it a little. None where nothing was recognised.
    pub fn line(&mut self, image: Image) -> Option<String> {
        let seen = |known: &HashMap<Image, Known>| {
            known.get(&image).is_some_and(|known| known.seen_ns > 0)
        };
        if !seen(&self.known) {
            self.collect(HEADER_WAIT);
        }
        let runtimes = &self.known.get(&image)?.runtimes;
        (!runtimes.is_empty()).then(|| runtimes.to_string())
    }

    /// What was recognised in an image.
    pub fn of(&mut self, image: Image) -> Runtimes {
        self.collect(Duration::ZERO);
        self.known
            .get(&image)
            .map(|known| known.runtimes.clone())
            .unwrap_or_default()
    }

    /// Takes in the answers that are there, or that come within `wait` of each other.
    fn collect(&mut self, wait: Duration) {
        while self.waiting > 0 {
            let Ok((image, seen_ns, runtimes)) = self.answers.recv_timeout(wait) else {
                return;
            };
            self.waiting -= 1;
            let known = self.known.entry(image).or_default();
            // A process on its way out shows nothing any more.
            if known.seen_ns == 0 || !runtimes.is_empty() {
                known.runtimes = runtimes;
                known.seen_ns = seen_ns;
            }
        }
    }
}
