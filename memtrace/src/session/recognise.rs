//! Finds out which allocators and runtimes live in the targets, in a thread of its own: binaries can be large.

use std::collections::{HashMap, HashSet};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use anyhow::Context as _;

use crate::clock;
use crate::ledger::Mm;
use crate::runtime::{Runtimes, detect};

/// How long the header waits for an answer: one takes a few milliseconds, as a rule.
const HEADER_WAIT: Duration = Duration::from_millis(100);
/// Libraries are not mapped yet when a program begins: it is looked at again after so long.
const AGAIN_NS: u64 = 2_000_000_000;
/// Processes that may wait to be looked at; those of a fork bomb are not.
const MOST_WAITING: usize = 256;

/// What is forgotten is looked for anew after so many more.
const SPARE: usize = 1024;

/// A process and how many times it has exec'd.
pub type Image = (u32, u32);

/// What is known of one image.
#[derive(Debug, Default)]
struct Known {
    runtimes: Runtimes,
    /// When the look began that told it.
    seen_ns: u64,
    begun_ns: u64,
    asked_ns: u64,
    asked: u32,
    /// Looks that have been asked for and not answered.
    waiting: u32,
    /// The image has ended, then, and is that one of the ledger's address spaces.
    ended: Option<(u64, u64)>,
}

/// The thread, and what it has told so far.
pub struct Recognise {
    requests: Sender<Image>,
    answers: Receiver<(Image, u64, Runtimes)>,
    waiting: usize,
    /// Images that live, and those that have ended with a look under way.
    known: HashMap<Image, Known>,
    /// What was recognised in images that have ended, by the serial numbers of their address spaces.
    ended: HashMap<u64, Runtimes>,
    /// So many were there when it was last gone through.
    ended_before: usize,
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
            ended: HashMap::new(),
            ended_before: 0,
        })
    }

    /// Asks for a look at a process.
    pub fn ask(&mut self, image: Image) {
        let now_ns = clock::now_ns();
        let known = self.of_the_living(image, now_ns);
        known.asked += 1;
        known.asked_ns = now_ns;
        if self.waiting < MOST_WAITING && self.requests.send(image).is_ok() {
            self.waiting += 1;
            if let Some(known) = self.known.get_mut(&image) {
                known.waiting += 1;
            }
        }
    }

    /// What is known of an image that lives; an earlier one of the same name is put aside.
    fn of_the_living(&mut self, image: Image, now_ns: u64) -> &mut Known {
        if self.known.get(&image).is_some_and(|it| it.ended.is_some()) {
            self.put_aside(image);
        }
        self.known.entry(image).or_insert_with(|| Known {
            begun_ns: now_ns,
            ..Known::default()
        })
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
            let runtimes = known.runtimes.clone();
            let now_ns = clock::now_ns();
            *self.of_the_living(child, now_ns) = Known {
                runtimes,
                asked: 2,
                begun_ns: now_ns,
                ..Known::default()
            };
        }
    }

    /// The image, which is that one of the ledger's address spaces, ended at that time: what was
    /// seen later was the next one's.
    pub fn image_ends(&mut self, image: Image, serial: u64, at_ns: u64) {
        self.collect(Duration::ZERO);
        let Some(known) = self.known.get_mut(&image) else {
            return;
        };
        known.ended = Some((at_ns, serial));
        if known.waiting == 0 {
            self.put_aside(image);
        }
    }

    /// Keeps no more of an ended image than what was recognised in it.
    fn put_aside(&mut self, image: Image) {
        let Some(known) = self.known.remove(&image) else {
            return;
        };
        if let Some((at_ns, serial)) = known.ended
            && known.seen_ns < at_ns
            && !known.runtimes.is_empty()
        {
            self.ended.insert(serial, known.runtimes);
        }
    }

    /// Forgets what nobody will ask for: what was in other address spaces than these.
    pub fn forget_all_but(&mut self, mms: &[Mm]) {
        if self.ended.len() > 2 * self.ended_before + SPARE {
            let kept: HashSet<u64> = mms.iter().map(|mm| mm.serial).collect();
            self.ended.retain(|serial, _| kept.contains(serial));
            self.ended_before = self.ended.len();
        }
        // Whose end was lost.
        if self.known.len() > 2 * mms.len() + SPARE {
            let kept: HashSet<Image> = mms.iter().map(|mm| (mm.pid, mm.image)).collect();
            self.known
                .retain(|image, known| known.waiting > 0 || kept.contains(image));
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

    /// What was recognised in an image, which is that one of the ledger's address spaces.
    pub fn of(&mut self, image: Image, serial: u64) -> Runtimes {
        self.collect(Duration::ZERO);
        let known = match self.known.get(&image) {
            Some(known) => match known.ended {
                None => Some(&known.runtimes),
                Some((at_ns, ended)) => {
                    (ended == serial && known.seen_ns < at_ns).then_some(&known.runtimes)
                }
            },
            None => None,
        };
        self.ended
            .get(&serial)
            .or(known)
            .cloned()
            .unwrap_or_default()
    }

    /// Takes in the answers that are there, or that come within `wait` of each other.
    fn collect(&mut self, wait: Duration) {
        while self.waiting > 0 {
            let Ok((image, seen_ns, runtimes)) = self.answers.recv_timeout(wait) else {
                return;
            };
            self.waiting -= 1;
            // Asked for by an earlier one with the same pid.
            let Some(known) = self
                .known
                .get_mut(&image)
                .filter(|it| it.begun_ns <= seen_ns)
            else {
                continue;
            };
            known.waiting = known.waiting.saturating_sub(1);
            let in_time = known.ended.is_none_or(|(at_ns, _)| seen_ns < at_ns);
            // A process on its way out shows nothing any more.
            if in_time && (known.seen_ns == 0 || !runtimes.is_empty()) {
                known.runtimes = runtimes;
                known.seen_ns = seen_ns;
            }
            if known.ended.is_some() && known.waiting == 0 {
                self.put_aside(image);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Ledger;
    use crate::ledger::event::{Begin, Event, Exit, Fork};
    use crate::runtime::{GivesBack, Kind, Runtime};

    /// As it comes from the thread, but that the test is the thread.
    struct Thread {
        answers: Sender<(Image, u64, Runtimes)>,
        asked: Receiver<Image>,
    }

    fn recognise() -> (Recognise, Thread) {
        let (requests, asked) = channel();
        let (answers, to_us) = channel();
        let recognise = Recognise {
            requests,
            answers: to_us,
            waiting: 0,
            known: HashMap::new(),
            ended: HashMap::new(),
            ended_before: 0,
        };
        (recognise, Thread { answers, asked })
    }

    fn found(version: &str) -> Runtimes {
        Runtimes {
            list: vec![Runtime {
                kind: Kind::Go,
                version: Some(version.to_owned()),
                settings: Vec::new(),
                gives_back: GivesBack::Unknown,
                linkage: None,
            }],
            problems: Vec::new(),
        }
    }

    fn version(runtimes: &Runtimes) -> Option<&str> {
        runtimes.list.first()?.version.as_deref()
    }

    #[test]
    fn two_that_had_the_same_pid_keep_what_was_recognised_in_each() {
        let (mut recognise, thread) = recognise();
        let image = (7, 1);
        for (serial, name) in [(1, "first"), (2, "second")] {
            recognise.ask(image);
            assert_eq!(thread.asked.recv(), Ok(image));
            let seen_ns = clock::now_ns();
            let answer = (image, seen_ns, found(name));
            thread.answers.send(answer).expect("it listens");
            recognise.image_ends(image, serial, clock::now_ns() + 1);
        }
        assert_eq!(version(&recognise.of(image, 1)), Some("first"));
        assert_eq!(version(&recognise.of(image, 2)), Some("second"));
        assert!(recognise.known.is_empty());
    }

    #[test]
    fn an_answer_that_comes_after_the_end_counts_if_the_look_came_before_it() {
        for (late, expected) in [(false, Some("go")), (true, None)] {
            let (mut recognise, thread) = recognise();
            recognise.ask((7, 1));
            let end_ns = clock::now_ns() + 1_000_000;
            recognise.image_ends((7, 1), 5, end_ns);
            let seen_ns = if late { end_ns } else { end_ns - 1 };
            let answer = ((7, 1), seen_ns, found("go"));
            thread.answers.send(answer).expect("it listens");
            assert_eq!(version(&recognise.of((7, 1), 5)), expected, "late: {late}");
            assert!(recognise.known.is_empty());
        }
    }

    #[test]
    fn what_is_kept_of_ended_images_is_bounded_by_the_ledgers() {
        let (mut recognise, thread) = recognise();
        let mut ledger = Ledger::default();
        ledger.keep_ended(10);
        let begin = Begin {
            at_ns: 0,
            pid: 1,
            comm: "make".to_owned(),
            before_exec: false,
        };
        ledger.apply(&Event::Begin(begin));
        recognise.ask((1, 0));
        let answer = ((1, 0), clock::now_ns(), found("go"));
        thread.answers.send(answer).expect("it listens");
        let mut most = 0;
        for pid in 2..10_000 {
            let at_ns = u64::from(pid);
            ledger.apply(&Event::Fork(Fork {
                at_ns,
                parent_pid: 1,
                pid,
                shares_vm: false,
                followed: true,
            }));
            recognise.inherit((1, 0), (pid, 0));
            let serial = ledger.mm_of(pid).expect("it lives").serial;
            recognise.image_ends((pid, 0), serial, at_ns + 1);
            recognise.forget_all_but(ledger.mms());
            ledger.apply(&Event::Exit(Exit {
                at_ns: at_ns + 1,
                pid,
                status: None,
            }));
            most = most.max(recognise.ended.len());
        }
        assert_eq!(recognise.known.len(), 1);
        assert!(most <= SPARE + 2 * 12, "{most}");
        for mm in ledger.mms() {
            assert_eq!(version(&recognise.of((mm.pid, 0), mm.serial)), Some("go"));
        }
    }

    #[test]
    fn images_whose_end_was_lost_are_forgotten() {
        let (mut recognise, thread) = recognise();
        recognise.ask((1, 0));
        let answer = ((1, 0), clock::now_ns(), found("go"));
        thread.answers.send(answer).expect("it listens");
        for pid in 2..10_000 {
            recognise.inherit((1, 0), (pid, 0));
            recognise.forget_all_but(&[]);
            assert!(recognise.known.len() <= SPARE);
            if !recognise.known.contains_key(&(1, 0)) {
                return;
            }
        }
        panic!("nothing was forgotten");
    }
}
