//! What is found in one image: shared by whoever has it, and by the looks that are under way.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::runtime::Runtimes;
use crate::runtime::detect::Look;

/// Its clones are one and the same: a look that was asked for by an image tells that one, whoever has its
/// pid by then, and what is learnt of a parent is learnt of its children.
#[derive(Clone, Default)]
pub(super) struct Found(Arc<Mutex<State>>);

#[derive(Default)]
pub(super) struct State {
    pub(super) runtimes: Runtimes,
    /// When the look began that told it.
    pub(super) seen_ns: u64,
    /// Looks that will be answered.
    pub(super) waits: u32,
    /// Nobody could look, the last time.
    pub(super) refused: bool,
    ended_ns: Option<u64>,
}

impl Found {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // No invariant spans a panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// A look that began then told this; `more` says that another one follows.
    pub(super) fn take(&mut self, seen_ns: u64, look: Look, more: bool) {
        self.waits -= u32::from(!more);
        let in_time = self.ended_ns.is_none_or(|ended_ns| seen_ns < ended_ns);
        // A process on its way out shows nothing any more, and a look that was cut short may show less.
        let shows = !look.gone && (!look.runtimes.is_empty() || self.runtimes.is_empty());
        if in_time && (shows || self.seen_ns == 0) {
            self.runtimes = look.runtimes;
            self.seen_ns = seen_ns;
        }
    }

    /// The image ended at that time: what was seen later was the next one's.
    pub(super) fn end(&mut self, at_ns: u64) {
        self.ended_ns = Some(at_ns);
        if self.seen_ns >= at_ns {
            self.runtimes = Runtimes::default();
        }
    }

    /// What is known; for an image that `lives`, also why that is nothing.
    pub(super) fn told(&self, lives: bool) -> Runtimes {
        let mut runtimes = self.runtimes.clone();
        if self.seen_ns == 0 && lives {
            let why = match (self.waits, self.refused) {
                (1.., _) => "the look at its files had not ended when the run did",
                (0, true) => "too many processes were waiting for a look at their files",
                (0, false) => return runtimes,
            };
            runtimes.problems.push(format!(
                "which allocators and runtimes it has is not known: {why}"
            ));
        }
        runtimes
    }
}
