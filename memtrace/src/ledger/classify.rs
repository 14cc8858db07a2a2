//! Why a fault happened: DESIGN's classes in their order of precedence.

use super::advice::GiveBack;
use super::event::{Access, Fault};
use super::ground::Ground;
use super::pages::{Page, Release, Source};
use super::space::PAGE;
use super::totals::{Basis, FaultClass};

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
    pub bytes: u64,
    pub basis: Basis,
    /// The page's state afterwards; None where the fault changes nothing.
    pub after: Option<Page>,
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
    let basis = basis(ground, fault);
    let known = |class, bytes, after| Classified {
        class,
        release: None,
        zero_page_write: false,
        ambiguous: false,
        bytes,
        basis,
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
                    basis: Basis::Derived,
                    ..known(FaultClass::Unknown, PAGE, Some(populated))
                }
            }
            // The kernel wants to know of the first write to a page that it keeps clean, and
            // copies nothing (mm/memory.c:wp_page_shared, hugetlb.c:hugetlb_wp).
            (_, Access::Write) if ground.shared => Classified {
                basis: Basis::Exact,
                ..known(FaultClass::File, 0, Some(populated))
            },
            (_, Access::Write) => known(FaultClass::Cow, PAGE, Some(populated)),
            _ => Classified {
                basis: Basis::Derived,
                ..known(FaultClass::Unknown, PAGE, None)
            },
        };
    }

    match page {
        Some(Page::Released(release)) => {
            let class = release.source.refault();
            // Whose it was can't be told while another kind of give-back runs over the page.
            let rival = in_flight
                .iter()
                .any(|source| source.how() != release.source.how());
            let (bytes, after) = populate(fault, ground, populated, class, Some(release));
            Classified {
                release: Some(release),
                ambiguous: rival || release.at_ns.is_none(),
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
            basis: Basis::Derived,
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
        ambiguous: false,
        bytes,
        basis: Basis::Derived,
        after: Some(after),
    }
}

/// The bytes that a not-present fault populates and the page's state afterwards: a read of
/// private anonymous memory maps the zero page (mm/memory.c:do_anonymous_page).
fn populate(
    fault: &Fault,
    ground: &Ground,
    populated: Page,
    class: FaultClass,
    release: Option<Release>,
) -> (u64, Page) {
    // What PAGEOUT took has come back from swap, with its data.
    let from_swap = release
        .is_some_and(|release| release.source == Source::Advice(super::advice::Advice::PAGEOUT));
    let zero_page = ground.private_anon && !ground.hugetlb;
    if fault.access != Access::Write && zero_page && !from_swap {
        return (0, Page::Zero { class, release });
    }
    // Of the zero page, or of a file.
    if fault.access != Access::Write && ground.lost && !from_swap {
        return (0, Page::Doubt { given: None });
    }
    (PAGE, populated)
}

/// Whether one page is all that the fault can have populated.
fn basis(ground: &Ground, fault: &Fault) -> Basis {
    if !ground.mapped || ground.hugetlb || ground.special {
        return Basis::LowerBound;
    }
    // A copy is of one page (mm/memory.c:wp_page_copy), unless it replaces the huge zero page
    // (mm/huge_memory.c:do_huge_zero_wp_pmd).
    if fault.present && !ground.private_anon {
        return Basis::Exact;
    }
    if ground.file || ground.folio_bytes > PAGE {
        Basis::LowerBound
    } else {
        Basis::Exact
    }
}
