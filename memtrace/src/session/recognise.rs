//! Finds out which allocators and runtimes live in the targets, in threads of its own: binaries can be large.

use std::collections::{HashMap, HashSet};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use crate::clock;
use crate::ledger::Mm;
use crate::runtime::{Runtimes, detect};

mod found;
mod lanes;

use found::Found;
use lanes::{Answer, Lanes, Looker};

/// How long the header waits for all answers together: one takes a few milliseconds, as a rule.
const HEADER_WAIT_NS: u64 = 100_000_000;
/// Libraries are not mapped yet when a program begins: it is looked at again after so long.
const AGAIN_NS: u64 = 2_000_000_000;
/// What is forgotten is looked for anew after so many more.
const SPARE: usize = 1024;

/// A process and how many times it has exec'd.
pub type Image = (u32, u32);

/// An image that lives.
#[derive(Default)]
struct Living {
    found: Found,
    asked_ns: u64,
    /// Never, where it was forked: it has what its parent has.
    asked: u32,
}

/// The threads, and what they have told so far.
pub struct Recognise {
    lanes: Lanes,
    answers: Receiver<Answer>,
    living: HashMap<Image, Living>,
    /// Images that have ended, by the serial numbers of their address spaces: their pids may be others' now.
    ended: HashMap<u64, Found>,
    /// So many were there when it was last gone through.
    ended_before: usize,
}

impl Default for Recognise {
    /// Threads are started when they are needed.
    fn default() -> Self {
        Self::with(Box::new(detect::detect))
    }
}

impl Recognise {
    fn with(look: Box<Looker>) -> Self {
        let (answer, answers) = channel();
        Self {
            lanes: Lanes::new(look, answer),
            answers,
            living: HashMap::new(),
            ended: HashMap::new(),
            ended_before: 0,
        }
    }

    /// Asks for a look at a process.
    pub fn ask(&mut self, image: Image) {
        let living = self.living.entry(image).or_default();
        living.asked += 1;
        living.asked_ns = clock::now_ns();
        let waits = self.lanes.push(image.0, living.found.clone());
        let mut found = living.found.lock();
        found.waits += u32::from(waits);
        found.refused = !waits;
    }

    /// Asks once more for those that were looked at when they had just begun.
    pub fn ask_again(&mut self, images: &[Image]) {
        self.collect();
        let now_ns = clock::now_ns();
        self.lanes.replace_hanging(now_ns);
        for image in images {
            let due = self.living.get(image).is_some_and(|living| {
                living.asked == 1
                    && living.found.lock().waits == 0
                    && now_ns >= living.asked_ns + AGAIN_NS
            });
            if due {
                self.ask(*image);
            }
        }
    }

    /// What a child has from its parent until it execs.
    pub fn inherit(&mut self, parent: Image, child: Image) {
        let found = self.living.get(&parent).map(|parent| parent.found.clone());
        let living = Living {
            found: found.unwrap_or_default(),
            ..Living::default()
        };
        self.living.insert(child, living);
    }

    /// The image of that address space ended at that time.
    pub fn image_ends(&mut self, mm: &Mm, at_ns: u64) {
        self.collect();
        if let Some(living) = self.living.remove(&(mm.pid, mm.image)) {
            // Where it was forked, its parent's may go on.
            if living.asked > 0 {
                living.found.lock().end(at_ns);
            }
            self.ended.insert(mm.serial, living.found);
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
        if self.living.len() > 2 * mms.len() + SPARE {
            let kept: HashSet<Image> = mms.iter().map(|mm| (mm.pid, mm.image)).collect();
            self.living.retain(|image, _| kept.contains(image));
        }
    }

    /// Waits a little for those of which nothing is known yet: for all together, not for each.
    pub fn wait_for_header(&mut self, images: &[Image]) {
        let until_ns = clock::now_ns() + HEADER_WAIT_NS;
        loop {
            self.collect();
            let unseen = |living: &Living| {
                let found = living.found.lock();
                found.seen_ns == 0 && found.waits > 0
            };
            let mut asked = images.iter().filter_map(|image| self.living.get(image));
            let left_ns = until_ns.saturating_sub(clock::now_ns());
            if !asked.any(unseen) || left_ns == 0 {
                return;
            }
            match self.answers.recv_timeout(Duration::from_nanos(left_ns)) {
                Ok(answer) => answer.tell(),
                Err(_) => return,
            }
        }
    }

    /// What is known by now, in one line. None where nothing was recognised.
    pub fn line(&self, image: Image) -> Option<String> {
        let found = self.living.get(&image)?.found.lock();
        (!found.runtimes.is_empty()).then(|| found.runtimes.to_string())
    }

    /// What was recognised in the image of an address space.
    pub fn of(&mut self, mm: &Mm) -> Runtimes {
        self.collect();
        let found = self.ended.get(&mm.serial).or_else(|| {
            let living = self.living.get(&(mm.pid, mm.image));
            living.filter(|_| !mm.ended()).map(|living| &living.found)
        });
        found.map_or_else(Runtimes::default, |found| found.lock().told(!mm.ended()))
    }

    /// Takes in the answers that are there.
    fn collect(&mut self) {
        while let Ok(answer) = self.answers.try_recv() {
            answer.tell();
        }
    }
}

#[cfg(test)]
#[path = "recognise/tests.rs"]
mod tests;
