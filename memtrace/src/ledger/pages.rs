//! What is known of each page: whether it is populated, and which give-back took it.

use super::advice::{Advice, GiveBack};
use super::totals::FaultClass;

/// The state of a page. Pages without one are as their mapping makes them: untouched where it was
/// mapped under trace, [`Page::Maybe`] where it was there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// Perhaps populated: by a neighbour's larger folio, by fault-around, or by MAP_POPULATE.
    /// A fault that finds it not present proves that it was not.
    Maybe,
    /// A call was applied to it in part or not at all, and nothing tells which.
    Unknown,
    /// Populated. `perhaps_taken` names a give-back that was in flight at that time, so that
    /// it may have taken the page again.
    Populated { perhaps_taken: Option<Source> },
    /// A read mapped the zero page: a write still has to populate it. Holds what the read was.
    Zero {
        class: FaultClass,
        release: Option<Release>,
    },
    /// Given back when it was populated, or may have been.
    Released(Release),
    /// The same, and populated again since, perhaps: by a fault on a neighbour that may have brought
    /// a larger folio, or by khugepaged. A fault that finds it not present proves that it was not.
    PerhapsBack(Release),
    /// Records were lost that may have been about it: whether it is populated is not known, nor by
    /// what it was given back, if it was. `given` is the last give-back that was seen, which
    /// may have found nothing: so the next fault may be a refault or not, and has no class.
    Doubt { given: Option<Source> },
}

impl Page {
    pub const POPULATED: Self = Self::Populated {
        perhaps_taken: None,
    };

    /// Nothing at all is known of it: it may be given back, by whatever call.
    pub const IN_DOUBT: Self = Self::Doubt {
        given: Some(Source::DontUnmap),
    };

    /// Marked by MADV_FREE, and not seen to be gone since.
    pub fn is_lazy(&self) -> bool {
        self.given_by() == Some(Source::Advice(Advice::FREE))
    }

    /// The give-back that it is known by.
    fn given_by(&self) -> Option<Source> {
        match self {
            Self::Released(release) | Self::PerhapsBack(release) => Some(release.source),
            Self::Doubt { given } => *given,
            _ => None,
        }
    }

    /// The same page once its neighbour may have come with a folio that holds this one too.
    pub fn perhaps_back(self) -> Self {
        match self {
            Self::Released(release) => Self::PerhapsBack(release),
            page => page,
        }
    }

    /// True where it is or may be populated, and not only because a neighbour is.
    pub fn may_have_come(&self) -> bool {
        matches!(self, Self::Populated { .. } | Self::Maybe | Self::Unknown)
    }

    /// The same page once faults were lost. They can have populated it, and so leave alone what
    /// was populated already.
    pub fn after_lost_faults(self) -> Self {
        match self {
            Self::Populated { .. } => self,
            _ => self.after_lost_calls(),
        }
    }

    /// The same page once calls were lost.
    pub fn after_lost_calls(self) -> Self {
        Self::Doubt {
            given: self.given_by(),
        }
    }
}

/// Who gave a page back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Advice(Advice),
    /// mremap moved the page away and left the old range mapped (MREMAP_DONTUNMAP).
    DontUnmap,
}

impl Source {
    pub fn how(self) -> GiveBack {
        match self {
            // Only advice that gives back is ever a source.
            Self::Advice(advice) => advice.give_back().unwrap_or(GiveBack::Other),
            Self::DontUnmap => GiveBack::Other,
        }
    }

    /// The class of the fault that brings the page back.
    pub fn refault(self) -> FaultClass {
        match self.how() {
            GiveBack::Free => FaultClass::RefaultFree,
            GiveBack::DontNeed => FaultClass::RefaultDontneed,
            GiveBack::Other => FaultClass::RefaultOther,
        }
    }

    /// True where the page leaves the page table at once; FREE and PAGEOUT only offer it.
    pub fn is_zap(self) -> bool {
        !matches!(self, Self::Advice(Advice::FREE | Advice::PAGEOUT))
    }
}

/// One give-back of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Release {
    pub source: Source,
    /// None where it is not known which call it was.
    pub at_ns: Option<u64>,
    /// Given back by the parent, before the fork.
    pub inherited: bool,
}

impl Release {
    /// The advice that gave back, if it was one.
    pub fn advice(self) -> Option<Advice> {
        match self.source {
            Source::Advice(advice) => Some(advice),
            Source::DontUnmap => None,
        }
    }

    /// The same, in a child of whoever gave back.
    pub fn inherited(self) -> Self {
        Self {
            inherited: true,
            ..self
        }
    }

    /// The same, where it may have been another call instead.
    pub fn unsettled(self) -> Self {
        Self {
            at_ns: None,
            ..self
        }
    }

    /// What becomes of a page with state `page` under this release.
    ///
    /// mm/madvise.c: madvise_free_pte_range skips what is not present and the zero page;
    /// zap_page_range_single drops whatever is there; PAGEOUT (madvise_cold_or_pageout_pte_range)
    /// leaves the lazily free mark in place.
    pub fn applied_to(self, page: Page) -> Page {
        let released = Page::Released(self);
        match page {
            Page::Maybe | Page::Unknown | Page::POPULATED => released,
            // If the call of another thread took it before, it may be by that one still.
            Page::Populated {
                perhaps_taken: Some(source),
            } => {
                let before = Page::Released(Self {
                    source,
                    ..self.unsettled()
                });
                match self.applied_to(before) {
                    Page::Released(after) if after.source == self.source => released,
                    _ => Page::Released(self.unsettled()),
                }
            }
            // Nobody knows whether there was anything to give back.
            Page::Doubt { .. }
                if self.source == Source::Advice(Advice::PAGEOUT) && page.is_lazy() =>
            {
                page
            }
            Page::Doubt { .. } => Page::Doubt {
                given: Some(self.source),
            },
            // It was gone already, or has come back and goes now.
            Page::PerhapsBack(before) => {
                let gone = self.applied_to(Page::Released(before));
                if gone == released {
                    return released;
                }
                // Either is possible; what may be lazily free must count as that.
                match gone {
                    Page::Released(other) if gone.is_lazy() => Page::Released(other.unsettled()),
                    _ => Page::Released(self.unsettled()),
                }
            }
            Page::Zero { .. } if self.source.is_zap() => released,
            Page::Zero { .. } => page,
            // Nothing is there to take a second time.
            Page::Released(before) if before.source.is_zap() => page,
            // It may be gone by a call that can't be told from the one before.
            Page::Released(before) if before.at_ns.is_none() && self.at_ns.is_some() => {
                self.unsettled().applied_to(page)
            }
            Page::Released(_) if self.source.is_zap() => released,
            // PAGEOUT after FREE: still a lazily freed page.
            Page::Released(_) if self.source == Source::Advice(Advice::PAGEOUT) => page,
            // FREE after FREE, since it may have been written in between without a fault. It marks
            // nothing that counts as released, so a parent's mark stays the parent's.
            Page::Released(before) if page.is_lazy() => Page::Released(Self {
                inherited: before.inherited,
                ..self
            }),
            // Or after PAGEOUT, whose page it frees if it is still there.
            Page::Released(_) => released,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(advice: Advice, at_ns: u64) -> Release {
        Release {
            source: Source::Advice(advice),
            at_ns: Some(at_ns),
            inherited: false,
        }
    }

    /// The advice that a page counts as given back by, after these two in turn.
    fn after(first: Advice, second: Advice) -> (Advice, u64) {
        let page = release(first, 1).applied_to(Page::POPULATED);
        match release(second, 2).applied_to(page) {
            Page::Released(Release {
                source: Source::Advice(advice),
                at_ns: Some(at_ns),
                ..
            }) => (advice, at_ns),
            other => panic!("{first} then {second} left {other:?}"),
        }
    }

    #[test]
    fn what_is_gone_is_not_given_back_again() {
        use Advice as A;
        assert_eq!(after(A::DONTNEED, A::FREE), (A::DONTNEED, 1));
        assert_eq!(after(A::DONTNEED, A::DONTNEED), (A::DONTNEED, 1));
        assert_eq!(after(A::DONTNEED, A::PAGEOUT), (A::DONTNEED, 1));
        assert_eq!(after(A::REMOVE, A::DONTNEED), (A::REMOVE, 1));
    }

    #[test]
    fn what_is_only_offered_can_be_dropped_or_offered_anew() {
        use Advice as A;
        assert_eq!(after(A::FREE, A::DONTNEED), (A::DONTNEED, 2));
        assert_eq!(after(A::FREE, A::FREE), (A::FREE, 2));
        assert_eq!(after(A::FREE, A::PAGEOUT), (A::FREE, 1));
        assert_eq!(after(A::PAGEOUT, A::FREE), (A::FREE, 2));
        assert_eq!(after(A::PAGEOUT, A::GUARD_INSTALL), (A::GUARD_INSTALL, 2));
    }

    #[test]
    fn the_zero_page_can_be_dropped_but_not_freed_lazily() {
        let zero = Page::Zero {
            class: FaultClass::FirstTouch,
            release: None,
        };
        assert_eq!(release(Advice::FREE, 1).applied_to(zero), zero);
        let dropped = release(Advice::DONTNEED, 1);
        assert_eq!(dropped.applied_to(zero), Page::Released(dropped));
    }
}
