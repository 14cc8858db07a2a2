//! Keeps the count of what the kernel takes running for those processes that have something lazily
//! free, and only for them; and says what may have been taken before it ran.

use std::collections::HashMap;

use crate::attach::{Attached, MmId};
use crate::clock;
use crate::ledger::Mm;
use crate::ledger::event::{Event, Measuring, Taken};
use crate::ledger::space::PAGE;
use crate::proc::vmstat;
use crate::say::say;

/// The programs stay on so long after nothing is lazily free any more, since that is where the
/// next FREE is most likely.
const LINGER_NS: u64 = 2_000_000_000;
/// Readings of the machine's count that are kept: FREEs are heard of later than they happen.
const READINGS: usize = 8;

/// One process whose address space is counted.
#[derive(Clone, Copy, Debug)]
struct Counted {
    mm: MmId,
    begun_ns: u64,
    /// Since when nothing is lazily free, where nothing is.
    idle_ns: Option<u64>,
}

/// The count over all processes.
pub struct Reclaim {
    on: bool,
    /// Throughout, and for every byte.
    exact_bytes: bool,
    counted: HashMap<u32, Counted>,
    /// By process: what earlier counts of this image found, up to the time of the last one's end.
    sums: HashMap<u32, Taken>,
    /// When, and how much the whole machine had lost to reclaim by then.
    readings: Vec<(u64, u64)>,
    /// Why nothing can be counted, once that is known.
    unsupported: Option<String>,
    /// Processes that can't be looked up any more are not asked for again and again.
    failed: HashMap<u32, u64>,
}

impl Reclaim {
    pub fn new(on: bool, exact_bytes: bool) -> Self {
        let mut new = Self {
            on: on || exact_bytes,
            exact_bytes,
            counted: HashMap::new(),
            sums: HashMap::new(),
            readings: Vec::new(),
            unsupported: None,
            failed: HashMap::new(),
        };
        new.read();
        new
    }

    /// Why what the kernel took is not known; None where it is, or would be.
    pub fn unknown_because(&self) -> Option<String> {
        match &self.unsupported {
            _ if !self.on => Some("--no-reclaim-tracking".to_owned()),
            why => why.clone(),
        }
    }

    /// True if everything is counted, throughout.
    pub fn is_exact(&self) -> bool {
        self.exact_bytes
    }

    /// What the whole machine lost of lazily freed memory since the run began; None where the
    /// kernel does not count it.
    pub fn machine_bytes(&self) -> Option<u64> {
        let first = self.readings.first()?.1;
        Some(vmstat::lazyfreed_bytes().ok()?.saturating_sub(first))
    }

    /// Once an interval.
    pub fn read(&mut self) {
        if let Ok(bytes) = vmstat::lazyfreed_bytes() {
            self.readings.push((clock::now_ns(), bytes));
            if self.readings.len() > READINGS {
                // The first stays: it is where the run began.
                self.readings.remove(1);
            }
        }
    }

    /// Begins to count for a process that has something lazily free, or in any case.
    pub fn look_after(&mut self, pid: u32, mm: &Mm, kernel: &mut Attached) -> Vec<Event> {
        if !self.on || self.unsupported.is_some() {
            return Vec::new();
        }
        let now_ns = clock::now_ns();
        let idle = !self.exact_bytes && !mm.may_have_lazy();
        if let Some(counted) = self.counted.get_mut(&pid) {
            let since_ns = *counted.idle_ns.get_or_insert(now_ns);
            if !idle {
                counted.idle_ns = None;
            } else if now_ns.saturating_sub(since_ns) > LINGER_NS {
                return self.end(pid, now_ns, kernel).into_iter().collect();
            }
            return Vec::new();
        }
        let tried_ns = self.failed.get(&pid).copied().unwrap_or(0);
        if idle || now_ns < tried_ns + LINGER_NS {
            return Vec::new();
        }
        self.begin(pid, mm.lazy_since_ns().unwrap_or(now_ns), kernel)
    }

    /// Begins to count for a process, in which something may have been lazily free since that time.
    pub fn begin(&mut self, pid: u32, since_ns: u64, kernel: &mut Attached) -> Vec<Event> {
        let now_ns = clock::now_ns();
        let Ok(id) = kernel.count_pages(pid) else {
            // For good where the kernel does not offer it; else the process is on its way out.
            self.unsupported = kernel.uncountable().map(str::to_owned);
            self.failed.insert(pid, now_ns);
            return Vec::new();
        };
        let counted = Counted {
            mm: id,
            begun_ns: clock::now_ns(),
            idle_ns: None,
        };
        self.counted.insert(pid, counted);
        // Since the last reading before anything can have been lazily free; what was lazily free in
        // an earlier count was counted then.
        let since_ns = since_ns.max(self.sums.get(&pid).map_or(0, |sum| sum.at_ns));
        let before = self.readings.iter().rev().find(|(at, _)| *at <= since_ns);
        let missed = match (before, vmstat::lazyfreed_bytes()) {
            (Some((_, before)), Ok(now)) => now.saturating_sub(*before),
            _ => u64::MAX,
        };
        let sum = self.sums.entry(pid).or_default();
        sum.uncounted_bytes = sum.uncounted_bytes.saturating_add(missed);
        let mut events: Vec<Event> = self
            .taken(pid, counted.begun_ns, kernel)
            .into_iter()
            .collect();
        if self.exact_bytes {
            let at_ns = counted.begun_ns;
            events.push(Event::Measuring(Measuring { at_ns, pid }));
        }
        events
    }

    /// What was counted for a process so far.
    pub fn taken(&self, pid: u32, at_ns: u64, kernel: &Attached) -> Option<Event> {
        let counted = self.counted.get(&pid)?;
        let tally = kernel.tally(counted.mm)?;
        let sum = self.sums.get(&pid).copied().unwrap_or_default();
        let dropped = tally.taken_pages.saturating_sub(tally.swapped_pages);
        Some(Event::Taken(Taken {
            at_ns,
            pid,
            begun_ns: counted.begun_ns,
            dropped_bytes: sum.dropped_bytes + dropped * PAGE,
            swapped_bytes: sum.swapped_bytes + tally.swapped_pages * PAGE,
            added_bytes: sum.added_bytes + tally.added_pages * PAGE,
            uncounted_bytes: sum.uncounted_bytes,
        }))
    }

    /// The image of a process ends here: what was counted for it.
    pub fn image_ends(&mut self, pid: u32, at_ns: u64, kernel: &mut Attached) -> Option<Event> {
        self.failed.remove(&pid);
        match self.counted.get(&pid) {
            // It was looked up too late: this is the next image already, which may have lost
            // something before it was counted, and has nothing to do with earlier counts.
            Some(counted) if counted.begun_ns > at_ns => {
                let sum = self.sums.entry(pid).or_default();
                *sum = Taken {
                    uncounted_bytes: sum.uncounted_bytes,
                    ..Taken::default()
                };
                None
            }
            Some(_) => {
                let event = self.end(pid, at_ns, kernel);
                self.sums.remove(&pid);
                event
            }
            None => {
                self.sums.remove(&pid);
                None
            }
        }
    }

    /// Everything that is counted, one event a process.
    pub fn all(&self, at_ns: u64, kernel: &Attached) -> Vec<Event> {
        self.counted
            .keys()
            .filter_map(|pid| self.taken(*pid, at_ns, kernel))
            .collect()
    }

    /// Ends the count of a process, and remembers what it found.
    fn end(&mut self, pid: u32, at_ns: u64, kernel: &mut Attached) -> Option<Event> {
        let event = self.taken(pid, at_ns, kernel);
        if let Some(Event::Taken(taken)) = &event {
            self.sums.insert(pid, *taken);
        }
        if let Some(counted) = self.counted.remove(&pid)
            && let Err(error) = kernel.forget_pages(counted.mm)
        {
            say(format_args!("{error:#}"));
        }
        event
    }
}
