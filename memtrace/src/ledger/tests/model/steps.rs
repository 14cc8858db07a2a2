//! What can happen to a process, drawn at random.

use proptest::prelude::*;
use proptest::sample::select;

use super::pages::{HEAP, Kind, PAGES};
use crate::ledger::advice::Advice as A;
use crate::ledger::event::Access;

/// A first page, and how many.
pub type Span = (usize, usize);

#[derive(Clone, Debug)]
pub enum Step {
    Map {
        span: Span,
        kind: Kind,
        populate: bool,
    },
    MapFails {
        span: Span,
        errno: i32,
    },
    Unmap(Span),
    UnmapFails(Span),
    Advise(A, Span),
    /// A signal came, and nothing tells how far it got.
    Interrupted(A, Span),
    AdviseMany(A, Vec<Span>),
    /// mremap in place.
    Resize(Span, usize),
    /// mremap with MREMAP_FIXED.
    Move(Span, Span),
    MoveFails(Span, Span),
    DontUnmap(Span, usize),
    /// To so many pages.
    Brk(usize),
    BrkAsks,
    /// Faults on neighbouring pages, in one batch.
    Touch {
        span: Span,
        access: Access,
        present: bool,
    },
    Fork,
    Vfork,
    Exec,
    Exit,
}

fn below(end: usize) -> impl Strategy<Value = Span> {
    (0..end, 1..12usize).prop_map(move |(at, len)| (at, len.min(end - at)))
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        5 => Just(Kind::Anon),
        1 => select(vec![Kind::Shmem, Kind::File, Kind::SharedFile]),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let low = || below(HEAP);
    let any_span = || below(PAGES);
    let advice = select(vec![
        A::FREE,
        A::FREE,
        A::DONTNEED,
        A::DONTNEED,
        A::DONTNEED_LOCKED,
        A::PAGEOUT,
        A::REMOVE,
        A::GUARD_INSTALL,
        A::COLD,
        A::POPULATE_READ,
        A::POPULATE_WRITE,
        A::DONTFORK,
        A::DOFORK,
        A::WIPEONFORK,
        A::KEEPONFORK,
    ]);
    let many = select(vec![A::PAGEOUT, A::FREE, A::DONTNEED, A::COLD]);
    let lost = select(vec![A::FREE, A::DONTNEED, A::PAGEOUT, A::POPULATE_WRITE]);
    let access = select(vec![
        Access::Read,
        Access::Write,
        Access::Write,
        Access::Exec,
    ]);
    let refused = select(vec![libc::ENOMEM, libc::EACCES]);
    let one = (0..PAGES).prop_map(|n| (n, 1));
    let touched = prop_oneof![3 => one, 1 => any_span()];
    prop_oneof![
        60 => (touched, access, prop::bool::weighted(0.2))
            .prop_map(|(span, access, present)| Step::Touch { span, access, present }),
        10 => (low(), kind(), prop::bool::weighted(0.1))
            .prop_map(|(span, kind, populate)| Step::Map { span, kind, populate }),
        1 => (low(), refused).prop_map(|(span, errno)| Step::MapFails { span, errno }),
        4 => low().prop_map(Step::Unmap),
        1 => low().prop_map(Step::UnmapFails),
        25 => (advice, any_span()).prop_map(|(advice, span)| Step::Advise(advice, span)),
        1 => (lost, any_span()).prop_map(|(advice, span)| Step::Interrupted(advice, span)),
        3 => (many, prop::collection::vec(any_span(), 1..4))
            .prop_map(|(advice, spans)| Step::AdviseMany(advice, spans)),
        3 => (low(), 1..12usize).prop_map(|(span, len)| Step::Resize(span, len)),
        4 => (low(), low()).prop_map(|(from, to)| Step::Move(from, to)),
        1 => (low(), low()).prop_map(|(from, to)| Step::MoveFails(from, to)),
        3 => (low(), 0..HEAP).prop_map(|(from, to)| Step::DontUnmap(from, to)),
        6 => (HEAP..PAGES).prop_map(Step::Brk),
        1 => Just(Step::BrkAsks),
        5 => Just(Step::Fork),
        1 => Just(Step::Vfork),
        1 => Just(Step::Exec),
        1 => Just(Step::Exit),
    ]
}

/// What is mapped before the trace.
pub fn before() -> impl Strategy<Value = Vec<(Span, Kind)>> {
    prop::collection::vec((below(HEAP), kind()), 0..4)
}

/// Steps, each with a number that picks the process.
pub fn steps() -> impl Strategy<Value = Vec<(usize, Step)>> {
    prop::collection::vec((0..4usize, step()), 1..150)
}
