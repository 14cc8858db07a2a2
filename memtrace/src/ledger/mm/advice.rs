//! The calls that advise: what they give back, what they release, and what else they change.

use std::ops::Range;

use super::super::advice::Advice;
use super::super::applied::Applied;
use super::super::event::{Call, HugeAdvice, ReadAhead, VmFlags};
use super::super::lazy;
use super::super::pages::{Page, Release, Source};
use super::super::states::Found;
use super::super::totals::{Basis, Released};
use super::super::vma::Vma;
use super::{Mm, count_call};

impl Mm {
    /// What a call released that drops pages at once: counted by the kernel, or what is known of
    /// the pages; None where the mappings are not known.
    pub(super) fn released(&self, call: &Call, found: Found) -> Option<Released> {
        self.counted(call)
            .or_else(|| self.mappings_known.then(|| lazy::dropped(found)))
    }

    /// What a call released, as the kernel counted it; None where nobody asked it to.
    pub(super) fn counted(&self, call: &Call) -> Option<Released> {
        let bytes = call.released_bytes.filter(|_| self.measured.is_some())?;
        Some(Released {
            bytes,
            least_bytes: bytes,
            basis: Basis::Measured,
        })
    }

    /// A call was applied to `range` in part or not at all, and nothing tells which; says what
    /// it may have taken.
    pub(super) fn lose(&mut self, range: Range<u64>) -> Found {
        let found = self.space.make_unknown(range, self.mappings_known);
        self.lazy.drop(found);
        found
    }

    /// Maps `range` anew. Whoever ended what was there was not seen to.
    pub(super) fn map_anew(&mut self, range: Range<u64>, vma: Vma) {
        let found = self.space.map_new(range, vma);
        self.lazy.drop(found);
    }

    pub(super) fn count_advice(
        &mut self,
        call: &Call,
        advice: Advice,
        applied: &Applied,
        first_range: bool,
    ) {
        let totals = self.totals.of_advice(advice);
        count_call(totals, call, applied, first_range);
    }

    pub(super) fn give_back(
        &mut self,
        call: &Call,
        advice: Advice,
        applied: Applied,
        first_range: bool,
    ) {
        if advice.give_back().is_none() {
            return;
        }
        self.count_advice(call, advice, &applied, first_range);
        let source = Source::Advice(advice);
        let release = Release {
            source,
            at_ns: Some(call.enter_ns),
            inherited: false,
        };
        // A call that did nothing released nothing, whatever is known of the mappings.
        let known = self.mappings_known || applied.ranges.is_empty();
        let mut found = Found::default();
        for range in &applied.ranges {
            found += self.space.release(range.clone(), release);
        }
        self.unsettle_rivals(call.tid, source, &applied.ranges);
        let mut elsewhere = false;
        for range in &applied.ranges {
            if advice == Advice::REMOVE {
                elsewhere |= self.space.remove_elsewhere(range);
            }
        }
        let mut ranges = applied.ranges;
        let released = if advice == Advice::FREE {
            // What this call marked is in the sum already.
            let none_before = self.lazy.unplaced_bytes == 0;
            if none_before && self.space.lazy_bytes() == found.populated + found.perhaps {
                self.lazy.since_ns = None;
            }
            self.lazy.mark(found, call.enter_ns, call.exit_ns);
            known.then(|| lazy::marked(found))
        } else if source.is_zap() {
            self.lazy.drop(found);
            self.counted(call)
                .or_else(|| known.then(|| lazy::dropped(found)))
        } else {
            // Offered to the kernel; what it takes is not known by the call.
            None
        };
        // What went of an unknown part is not known either, unless the kernel counted it.
        let released = match applied.unknown {
            Some(_) if source.is_zap() => self.counted(call),
            Some(_) => None,
            // Other mappings of the file have lost pages, nobody knows which.
            None if elsewhere => self.counted(call),
            None => released,
        };
        self.totals.of_advice(advice).count_released(released);
        if let Some(unknown) = applied.unknown {
            if advice == Advice::FREE {
                let found = self
                    .space
                    .make_unknown(unknown.clone(), self.mappings_known);
                self.lazy.perhaps_mark(found, call.enter_ns, call.exit_ns);
            } else {
                self.lose(unknown.clone());
            }
            ranges.push(unknown);
        }
        self.fly(call, ranges, Some(source), None);
    }

    /// A call that drops pages at once enters while another of another kind is under way over some of
    /// them: which of the two drops them can't be told.
    fn unsettle_rivals(&mut self, tid: u32, source: Source, ranges: &[Range<u64>]) {
        let rivals = self.in_flight.iter().filter(|call| {
            call.tid != tid
                && source.is_zap()
                && call
                    .source
                    .is_some_and(|other| other.is_zap() && other.how() != source.how())
        });
        for rival in rivals {
            for (one, other) in rival
                .ranges
                .iter()
                .flat_map(|one| ranges.iter().map(move |other| (one, other)))
            {
                let both = one.start.max(other.start)..one.end.min(other.end);
                self.space.unsettle(both, rival.enter_ns);
            }
        }
    }

    /// Advice that gives nothing back but changes what later faults mean.
    pub(super) fn advise(&mut self, advice: Advice, applied: &Applied) {
        if advice.populates() {
            for range in applied.ranges.iter().chain(&applied.unknown) {
                self.space
                    .write_to_all(range.clone(), advice == Advice::POPULATE_READ);
            }
            if let Some(unknown) = &applied.unknown {
                self.space.perhaps_filled(unknown.clone());
            }
        }
        let is_huge = [Advice::HUGEPAGE, Advice::NOHUGEPAGE].contains(&advice);
        if let Some(unknown) = applied.unknown.clone().filter(|_| is_huge) {
            self.space.advise_huge(unknown, HugeAdvice::Unknown);
        }
        for range in applied.ranges.iter().cloned() {
            if let Some(change) = flag_change(advice) {
                self.space
                    .change_vmas(range.clone(), |vma| change(&mut vma.mapping.flags));
            }
            match advice {
                Advice::HUGEPAGE => self.space.advise_huge(range, HugeAdvice::Huge),
                Advice::NOHUGEPAGE => self.space.advise_huge(range, HugeAdvice::Base),
                Advice::GUARD_REMOVE => self.space.unguard(range),
                // They populate without a fault (mm/gup.c:faultin_page_range), with the zero page
                // where nothing is read.
                Advice::POPULATE_READ => self.space.read_in(range),
                Advice::POPULATE_WRITE => self.space.set_mapped(range, Page::POPULATED),
                Advice::COLLAPSE => {
                    let whole = super::super::applied::huge_pages(&range);
                    if whole.is_empty() {
                        continue;
                    }
                    if self.rules.splitting_frees_zeroes {
                        // Pages that were not there hold zeroes, and go where the folio is split.
                        self.space.perhaps_filled_with_zeroes(whole);
                    } else {
                        self.space.set_mapped(whole, Page::POPULATED);
                    }
                }
                _ => {}
            }
        }
    }
}

/// What an advice does to the flags of the mappings that it is applied to (mm/madvise.c:madvise_vma_behavior).
fn flag_change(advice: Advice) -> Option<fn(&mut VmFlags)> {
    Some(match advice {
        Advice::DONTFORK => |flags| flags.dont_fork = true,
        Advice::DOFORK => |flags| flags.dont_fork = false,
        Advice::WIPEONFORK => |flags| flags.wipe_on_fork = true,
        Advice::KEEPONFORK => |flags| flags.wipe_on_fork = false,
        Advice::DONTDUMP => |flags| flags.dont_dump = true,
        Advice::DODUMP => |flags| flags.dont_dump = false,
        Advice::NORMAL => |flags| flags.read_ahead = ReadAhead::Normal,
        Advice::RANDOM => |flags| flags.read_ahead = ReadAhead::Random,
        Advice::SEQUENTIAL => |flags| flags.read_ahead = ReadAhead::Sequential,
        Advice::MERGEABLE => |flags| flags.mergeable = true,
        Advice::UNMERGEABLE => |flags| flags.mergeable = false,
        _ => return None,
    })
}
