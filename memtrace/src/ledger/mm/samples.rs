//! What looks at /proc and the kernel's count tell of an address space.

use super::super::event::{Sample, Taken};
use super::super::lazy::Lazy;
use super::Mm;

impl Mm {
    pub(in crate::ledger) fn sample(&mut self, sample: &Sample) {
        let rss = &mut self.rss;
        rss.start_bytes.get_or_insert(sample.rss_bytes);
        // A look takes its time, and is told after samples that were taken meanwhile.
        if rss.last_at_ns.is_none_or(|last| last <= sample.at_ns) {
            rss.last_bytes = Some(sample.rss_bytes);
            rss.last_at_ns = Some(sample.at_ns);
        }
        rss.peak_bytes = rss.peak_bytes.max(Some(sample.rss_bytes));
        rss.trend.push(sample.at_ns, sample.rss_bytes);
        rss.virtual_bytes = sample.virtual_bytes.or(rss.virtual_bytes);
        if let Some(rollup) = sample.rollup {
            let lazy = &mut self.lazy;
            if rss.first_rollup.is_none() && lazy.last_marked_ns.is_none() {
                // What a child inherited is in the sum already.
                let before = rollup.lazyfree_bytes.saturating_sub(lazy.inherited_bytes);
                lazy.found_before(before, rollup.lazyfree_error_bytes);
            }
            lazy.look(&rollup);
            lazy.zeroes |= self.rules.splitting_frees_zeroes && rollup.anon_huge_bytes > 0;
            rss.first_rollup.get_or_insert(rollup);
            rss.last_rollup = Some(rollup);
            let effective = rollup.rss_bytes.saturating_sub(rollup.lazyfree_bytes);
            rss.effective_trend.push(sample.at_ns, effective);
            rss.lazy_trend.push(sample.at_ns, rollup.lazyfree_bytes);
            rss.lazy_peak_bytes = rss.lazy_peak_bytes.max(Some(rollup.lazyfree_bytes));
            rss.rollups += 1;
        }
        if sample.cgroup.is_some() {
            rss.cgroup.clone_from(&sample.cgroup);
        }
    }

    /// The balance of MADV_FREE.
    pub fn lazy(&self) -> Lazy {
        Lazy {
            outstanding_bytes: self.space.lazy_bytes(),
            ..self.lazy
        }
    }

    /// True unless it is certain that nothing of it is lazily free.
    pub fn may_have_lazy(&self) -> bool {
        let seen = match self.rss.lazyfree_bytes() {
            Some(bytes) => bytes > 0,
            // Before the trace nobody knows what was done to it.
            None => self.lazy.before_bytes.is_none(),
        };
        seen || self.space.lazy_bytes() > 0 || self.lazy_unseen()
    }

    /// True if a look at smaps could tell something new of what is lazily free.
    pub fn lazy_may_change(&self) -> bool {
        self.rss.lazyfree_bytes().is_some_and(|bytes| bytes > 0) || self.lazy_unseen()
    }

    /// True where the last look, or the fresh start, showed nothing lazily free, and nothing was
    /// marked since.
    pub fn nothing_is_lazy(&self) -> bool {
        let known = self.rss.last_rollup.is_some() || self.lazy.before_bytes == Some(0);
        known && !self.lazy_may_change()
    }

    /// True if something was marked since the last look, or nobody ever looked.
    pub fn lazy_unseen(&self) -> bool {
        let looked_ns = self.rss.last_rollup.map(|rollup| rollup.at_ns);
        match (self.lazy.last_marked_ns, looked_ns) {
            (Some(marked), Some(looked)) => marked >= looked,
            (Some(_), None) => true,
            (None, _) => self.lazy.inherited_bytes > 0 && looked_ns.is_none(),
        }
    }

    /// Since when something may have been lazily free: from the start, where it was before.
    pub fn lazy_since_ns(&self) -> Option<u64> {
        let before = self.lazy.before_bytes != Some(0) || self.lazy.inherited_bytes > 0;
        if before {
            return Some(self.start_ns);
        }
        self.lazy.since_ns
    }

    pub(in crate::ledger) fn taken(&mut self, taken: &Taken) {
        // Of an image before this one, whose end was not known yet.
        if taken.begun_ns >= self.start_ns {
            self.lazy.taken = Some(*taken);
        }
    }
}
