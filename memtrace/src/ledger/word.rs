//! A page's state packed into one word, as the kernel's own page table has one for each page.

use std::num::NonZeroU64;

use super::advice::Advice;
use super::pages::{Page, Release, Source};
use super::totals::FaultClass;

/// From the lowest bit: the kind of state (3 bits), what it is about (3 bits), whether the parent
/// gave the page back (1 bit), and when it was given back (57 bits: four years in nanoseconds,
/// and a machine that is up for longer has no older releases than that; all of them set: not known).
///
/// Never 0, so that an `Option` of it is a word too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word(NonZeroU64);

/// Here the number of the source is one more, since no word is 0.
const PERHAPS_BACK: u64 = 0;
const MAYBE: u64 = 1;
const UNKNOWN: u64 = 2;
const POPULATED: u64 = 3;
const ZERO: u64 = 4;
const ZERO_RELEASED: u64 = 5;
const RELEASED: u64 = 6;
const DOUBT: u64 = 7;

const KIND: u64 = 7;
const ABOUT_SHIFT: u32 = 3;
const INHERITED: u64 = 1 << 6;
const TIME_SHIFT: u32 = 7;
const NO_TIME: u64 = u64::MAX >> TIME_SHIFT;
const MOST_NS: u64 = NO_TIME - 1;

/// Where a state may name a source and names none.
const NO_SOURCE: u64 = 7;

const SOURCES: [Source; 7] = [
    Source::Advice(Advice::FREE),
    Source::Advice(Advice::DONTNEED),
    Source::Advice(Advice::DONTNEED_LOCKED),
    Source::Advice(Advice::REMOVE),
    Source::Advice(Advice::PAGEOUT),
    Source::Advice(Advice::GUARD_INSTALL),
    Source::DontUnmap,
];

impl Word {
    fn new(kind: u64, about: u64) -> Self {
        Self(NonZeroU64::new(kind | about << ABOUT_SHIFT).expect("a kind that is 0 names a source"))
    }

    fn of_release(kind: u64, release: Release) -> Self {
        let time = release.at_ns.map_or(NO_TIME, |ns| ns.min(MOST_NS)) << TIME_SHIFT;
        let inherited = if release.inherited { INHERITED } else { 0 };
        let about = source_number(release.source) + u64::from(kind == PERHAPS_BACK);
        Self(Self::new(kind, about).0 | time | inherited)
    }

    fn about(self) -> usize {
        (self.0.get() >> ABOUT_SHIFT & 7) as usize
    }

    fn release(self) -> Release {
        let more = usize::from(self.0.get() & KIND == PERHAPS_BACK);
        Release {
            source: SOURCES[self.about() - more],
            at_ns: Some(self.0.get() >> TIME_SHIFT).filter(|ns| *ns != NO_TIME),
            inherited: self.0.get() & INHERITED != 0,
        }
    }

    /// Marked by MADV_FREE, and not seen to be gone since.
    pub fn is_lazy(self) -> bool {
        // FREE is the first of the sources.
        const BACK: u64 = PERHAPS_BACK | 1 << ABOUT_SHIFT;
        matches!(
            self.0.get() & (KIND | 7 << ABOUT_SHIFT),
            RELEASED | DOUBT | BACK
        )
    }
}

fn source_number(source: Source) -> u64 {
    let place = SOURCES.iter().position(|one| *one == source);
    place.expect("only advice that gives back is ever a source") as u64
}

impl From<Page> for Word {
    fn from(page: Page) -> Self {
        match page {
            Page::Maybe => Self::new(MAYBE, 0),
            Page::Unknown => Self::new(UNKNOWN, 0),
            Page::Populated { perhaps_taken } => {
                Self::new(POPULATED, perhaps_taken.map_or(NO_SOURCE, source_number))
            }
            Page::Zero {
                class,
                release: None,
            } => Self::new(ZERO, class as u64),
            Page::Zero {
                class,
                release: Some(release),
            } => {
                debug_assert_eq!(class, release.source.refault());
                Self::of_release(ZERO_RELEASED, release)
            }
            Page::Released(release) => Self::of_release(RELEASED, release),
            Page::PerhapsBack(release) => Self::of_release(PERHAPS_BACK, release),
            Page::Doubt { given } => Self::new(DOUBT, given.map_or(NO_SOURCE, source_number)),
        }
    }
}

impl From<Word> for Page {
    fn from(word: Word) -> Self {
        match word.0.get() & KIND {
            MAYBE => Self::Maybe,
            UNKNOWN => Self::Unknown,
            POPULATED => Self::Populated {
                perhaps_taken: SOURCES.get(word.about()).copied(),
            },
            ZERO => Self::Zero {
                class: FaultClass::ALL[word.about()],
                release: None,
            },
            ZERO_RELEASED => Self::Zero {
                class: word.release().source.refault(),
                release: Some(word.release()),
            },
            RELEASED => Self::Released(word.release()),
            PERHAPS_BACK => Self::PerhapsBack(word.release()),
            _ => Self::Doubt {
                given: SOURCES.get(word.about()).copied(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_comes_back_as_it_was() {
        let mut pages = vec![Page::Maybe, Page::Unknown, Page::POPULATED];
        pages.push(Page::Doubt { given: None });
        pages.extend(FaultClass::ALL.map(|class| Page::Zero {
            class,
            release: None,
        }));
        for source in SOURCES {
            pages.push(Page::Populated {
                perhaps_taken: Some(source),
            });
            pages.push(Page::Doubt {
                given: Some(source),
            });
            let known = [0, 1, MOST_NS].map(Some);
            let times = known.into_iter().chain([None]);
            for (at_ns, inherited) in times.flat_map(|at_ns| [(at_ns, false), (at_ns, true)]) {
                let release = Release {
                    source,
                    at_ns,
                    inherited,
                };
                pages.push(Page::Released(release));
                pages.push(Page::PerhapsBack(release));
                pages.push(Page::Zero {
                    class: source.refault(),
                    release: Some(release),
                });
            }
        }
        for page in pages {
            let word = Word::from(page);
            assert_eq!(Page::from(word), page);
            assert_eq!(word.is_lazy(), page.is_lazy(), "{page:?}");
        }
    }

    #[test]
    fn all_advice_that_gives_back_has_a_number() {
        for advice in (0..200).map(Advice) {
            let listed = SOURCES.contains(&Source::Advice(advice));
            assert_eq!(advice.give_back().is_some(), listed, "{advice}");
        }
    }

    #[test]
    fn a_time_beyond_all_uptimes_is_the_last_one() {
        let release = Release {
            source: Source::DontUnmap,
            at_ns: Some(u64::MAX),
            inherited: false,
        };
        let Page::Released(back) = Page::from(Word::from(Page::Released(release))) else {
            panic!("it was a release");
        };
        assert_eq!((back.at_ns, back.inherited), (Some(MOST_NS), false));
    }
}
