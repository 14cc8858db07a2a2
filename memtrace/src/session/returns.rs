//! Faults in memory that was taken from a process: how many pages of it came back at the most.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use crate::ledger::event::{Event, HugeAdvice};
use crate::ledger::space::PAGE;
use crate::ledger::totals::FaultClass;
use crate::ledger::{Ledger, Stretch};

/// Pages are kept by blocks of this many bytes.
const BLOCK: u64 = 2 << 20;
const WORDS: usize = (BLOCK / PAGE / 64) as usize;

/// By process, the ranges that are watched.
#[derive(Clone, Debug, Default)]
pub struct Returns {
    since_ns: u64,
    by_pid: BTreeMap<u32, Returned>,
}

/// Of one process.
#[derive(Clone, Debug)]
pub struct Returned {
    /// In ascending order, none over another.
    ranges: Vec<Range<u64>>,
    /// The largest folio that a fault can bring, of any mapping and of one that is advised
    /// MADV_HUGEPAGE, in bytes.
    folio_bytes: (u64, u64),
    /// The pages that may have come, a bit each, by block.
    pages: HashMap<u64, [u64; WORDS]>,
    /// Faults that found no page in these ranges, and first writes after reads that had got the zero page.
    pub faults: u64,
    /// It has begun another program, or has ended: its ranges are no more.
    pub ended: bool,
}

impl Returned {
    pub fn new(ranges: Vec<Range<u64>>) -> Self {
        Self {
            ranges,
            // Until it is known.
            folio_bytes: (BLOCK, BLOCK),
            pages: HashMap::new(),
            faults: 0,
            ended: false,
        }
    }

    /// The size of all pages that may have come. A page that comes again is the same page.
    pub fn bytes(&self) -> u64 {
        let pages = self.pages.values().flatten().map(|word| word.count_ones());
        pages.map(u64::from).sum::<u64>() * PAGE
    }

    fn fault(&mut self, faults: &Stretch<'_>) {
        let was = &faults.was;
        let counts = match was.class {
            _ if was.zero_page_write => true,
            // From before the trace, or from before a loss: it may have been populated. What a
            // fault leaves as it was is no page that came.
            FaultClass::Unknown => was.after.is_some(),
            // Freed lazily while traced.
            FaultClass::RefaultFree => true,
            // New memory, what the program itself has dropped, files, copies.
            _ => false,
        };
        if !counts {
            return;
        }
        let folio = match faults.mapping {
            Some(mapping) => match mapping.flags.huge {
                HugeAdvice::Default => self.folio_bytes.0,
                HugeAdvice::Huge => self.folio_bytes.1,
                HugeAdvice::Unknown => self.folio_bytes.0.max(self.folio_bytes.1),
                HugeAdvice::Base => PAGE,
            },
            None => self.folio_bytes.0,
        };
        let span = faults.addr..faults.addr.saturating_add(faults.pages * PAGE);
        let from = self.ranges.partition_point(|range| range.end <= span.start);
        let ranges = self.ranges[from..].iter().cloned();
        for range in ranges.take_while(|range| range.start < span.end) {
            let here = span.start.max(range.start)..span.end.min(range.end);
            self.faults += (here.end - here.start) / PAGE;
            // With all of the folio that it may be, as far as it is watched.
            let brought = (here.start / folio * folio).max(range.start)
                ..here.end.next_multiple_of(folio).min(range.end);
            note(&mut self.pages, brought);
        }
    }
}

fn note(pages: &mut HashMap<u64, [u64; WORDS]>, span: Range<u64>) {
    for page in span.start / PAGE..span.end / PAGE {
        let (block, within) = (page / (BLOCK / PAGE), page % (BLOCK / PAGE));
        pages.entry(block).or_default()[(within / 64) as usize] |= 1 << (within % 64);
    }
}

impl Returns {
    /// Counts what happens from that time on.
    pub fn new(since_ns: u64, by_pid: impl IntoIterator<Item = (u32, Returned)>) -> Self {
        Self {
            since_ns,
            by_pid: by_pid.into_iter().collect(),
        }
    }

    /// Applies an event to the ledger, which tells what a fault is, and counts it.
    pub fn apply(&mut self, ledger: &mut Ledger, event: &Event) {
        match event {
            Event::Faults(batch) if batch.at_ns >= self.since_ns => {
                let Some(returned) = self.by_pid.get_mut(&batch.pid).filter(|one| !one.ended)
                else {
                    return ledger.apply(event);
                };
                let mut tell = |faults: &Stretch<'_>| returned.fault(faults);
                ledger.faults(batch, Some(&mut tell));
            }
            Event::Folios(folios) => {
                if let Some(returned) = self.by_pid.get_mut(&folios.pid) {
                    returned.folio_bytes = (folios.any.largest(), folios.advised.largest());
                }
                ledger.apply(event);
            }
            _ => {
                let over = match event {
                    Event::Exec(exec) => self.by_pid.get_mut(&exec.pid),
                    Event::Exit(exit) => self.by_pid.get_mut(&exit.pid),
                    _ => None,
                };
                if let Some(returned) = over {
                    returned.ended = true;
                }
                ledger.apply(event);
            }
        }
    }

    pub fn of(&self, pid: u32) -> Option<&Returned> {
        self.by_pid.get(&pid)
    }
}

#[cfg(test)]
#[path = "returns_tests.rs"]
mod tests;
