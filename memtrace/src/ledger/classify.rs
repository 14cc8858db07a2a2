//! Why a fault happened: DESIGN's classes in their order of precedence.

use super::advice::GiveBack;
use super::event::{Access, Fault};
use super::ground::Ground;
use super::pages::{Page, Release, Source};
use super::space::PAGE;
use super::totals::FaultClass;

/// What one fault was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Classified {
    pub class: FaultClass,
    /// The give-back that it undoes.
    pub release: Option<Release>,
    /// The write that follows a read of the zero page: the read was counted, this adds its bytes.
    pub zero_page_write: bool,
    /// The class rests on an order that the stamps do not settle.
    pub ambiguous: bool,
    /// The least that it brought.
    pub bytes: u64,
    /// That rests on a guess.
    pub derived: bool,
    /// The page's state afterwards; None where the fault changes nothing.
    pub after: Option<Page>,
}

impl Classified {
    /// An access to a guard: it ends in a signal.
    pub const NOTHING: Self = Self {
        class: FaultClass::Unknown,
        release: None,
        zero_page_write: false,
        ambiguous: false,
        bytes: 0,
        derived: false,
        after: None,
    };
}

/// Classes `fault` on a page in state `page`, None where it was never touched; `in_flight` are the
/// give-backs by other threads that cover it right now.
pub fn classify(
    ground: &Ground,
    page: Option<Page>,
    fault: &Fault,
    in_flight: &[Source],
) -> Classified {
    // Of several the one whose page the others leave alone: what drops pages, and FREE before PAGEOUT.
    let strength = |source: &&Source| (source.is_zap(), source.how() == GiveBack::Free);
    let populated = Page::Populated {
        perhaps_taken: in_flight.iter().max_by_key(strength).copied(),
    };
    let known = |class, bytes, after| Classified {
        class,
        release: None,
        zero_page_write: false,
        ambiguous: ground.faults_anew,
        bytes,
        derived: false,
        after,
    };

    if fault.present {
        return match (page, fault.access) {
            (Some(Page::Zero { class, release }), Access::Write) => Classified {
                release,
                zero_page_write: true,
                ..known(class, PAGE, Some(populated))
            },
            // A copy, or the first write to the zero page.
            (Some(Page::Doubt { .. }), Access::Write) if ground.private_anon || !ground.mapped => {
                Classified {
                    derived: true,
                    ..known(FaultClass::Unknown, PAGE, Some(populated))
                }
            }
            // The kernel wants to know of the first write to a page that it keeps clean, and
            // copies nothing (mm/memory.c:wp_page_shared, hugetlb.c:hugetlb_wp).
            (_, Access::Write) if ground.shared => known(FaultClass::File, 0, Some(populated)),
            (_, Access::Write) => known(FaultClass::Cow, PAGE, Some(populated)),
            _ => Classified {
                derived: true,
                ..known(FaultClass::Unknown, PAGE, None)
            },
        };
    }

    match page {
        // If a neighbour's fault had brought it back, it would be present.
        Some(Page::Released(release) | Page::PerhapsBack(release)) => {
            let class = release.source.refault();
            // Whose it was can't be told while another kind of give-back runs over the page.
            let rival = in_flight
                .iter()
                .any(|source| source.how() != release.source.how());
            let (bytes, after) = populate(fault, ground, populated, class, Some(release));
            // If it was not there when PAGEOUT came, there was nothing to take, and a read maps the zero page.
            let perhaps = !ground.traced || !ground.sizes.is_none();
            let reads = fault.access != Access::Write && ground.private_anon;
            Classified {
                release: Some(release),
                derived: reads && bytes > 0 && perhaps,
                ambiguous: rival || release.at_ns.is_none() || ground.faults_anew,
                ..known(class, bytes, Some(after))
            }
        }
        // The give-back that overlapped the last fault must have come after it; or two threads
        // touched the page at once, which looks the same.
        Some(Page::Populated {
            perhaps_taken: Some(source),
        }) => {
            let release = Release {
                source,
                at_ns: None,
                inherited: false,
            };
            let (bytes, after) =
                populate(fault, ground, populated, source.refault(), Some(release));
            Classified {
                release: Some(release),
                ambiguous: true,
                ..known(source.refault(), bytes, Some(after))
            }
        }
        // It may be a refault.
        Some(Page::Doubt { given: Some(_) }) => unknown(fault, ground, populated),
        _ if ground.file => known(FaultClass::File, PAGE, Some(populated)),
        // Populated and not given back: a second fault on it, a page on its way, swap. Nothing proves which.
        Some(Page::Populated { .. } | Page::Zero { .. }) => Classified {
            derived: true,
            ..known(FaultClass::Unknown, PAGE, None)
        },
        None | Some(Page::Maybe) if ground.traced && ground.private_anon => {
            let class = FaultClass::FirstTouch;
            let (bytes, after) = populate(fault, ground, populated, class, None);
            known(class, bytes, Some(after))
        }
        None | Some(Page::Maybe | Page::Unknown | Page::Doubt { .. }) => {
            unknown(fault, ground, populated)
        }
    }
}

/// A fault that populates its page, and of which no more is known.
fn unknown(fault: &Fault, ground: &Ground, populated: Page) -> Classified {
    let class = FaultClass::Unknown;
    let (bytes, after) = populate(fault, ground, populated, class, None);
    Classified {
        class,
        release: None,
        zero_page_write: false,
        ambiguous: ground.faults_anew,
        bytes,
        derived: true,
        after: Some(after),
    }
}

/// The least that a not-present fault populates, in bytes, and the page's state afterwards: a read of
/// private anonymous memory maps the zero page (mm/memory.c:do_anonymous_page).
fn populate(
    fault: &Fault,
    ground: &Ground,
    populated: Page,
    class: FaultClass,
    release: Option<Release>,
) -> (u64, Page) {
    // What PAGEOUT took has come back from swap, with its data.
    let from_swap = !ground.droppable
        && release.is_some_and(|release| {
            release.source == Source::Advice(super::advice::Advice::PAGEOUT)
        });
    let zero_page = ground.private_anon && ground.hugetlb.is_none();
    if fault.access != Access::Write && zero_page && !from_swap {
        // Without the huge zero page a read of what may get a huge page gets one, or else the
        // zero page of a base page's size.
        let after = if ground.reads_zero() {
            Page::Zero { class, release }
        } else {
            Page::Maybe
        };
        return (0, after);
    }
    // Of the zero page, or of a file.
    if fault.access != Access::Write && ground.lost && !from_swap {
        return (0, Page::Doubt { given: None });
    }
    // Of the kernel's own pages (vvar) some count as nobody's.
    if ground.special {
        return (0, populated);
    }
    (PAGE, populated)
}
