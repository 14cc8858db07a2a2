//! Faults in batches against the same faults one by one.

use proptest::prelude::*;

use super::support::*;
use crate::ledger::Stretch;
use crate::ledger::advice::Advice as A;
use crate::ledger::event::{Access, Event, Fault, FaultBatch, Mapping, MappingKind, Op};
use crate::ledger::totals::FaultClass as C;

const PAGES: u64 = 600;

#[derive(Clone, Debug)]
enum Step {
    Call(u32, Op, bool),
    /// By a thread: the first page, how many and how far apart, how, and whether they were present.
    Touch(u32, u64, u64, i64, Access, bool),
}

fn step() -> impl Strategy<Value = Step> {
    let at = || 0..PAGES;
    let len = || prop_oneof![0..8u64, 0..PAGES];
    let tid = || 1..4u32;
    let advice = prop::sample::select(vec![
        A::FREE,
        A::DONTNEED,
        A::PAGEOUT,
        A::POPULATE_READ,
        A::HUGEPAGE,
        A::COLLAPSE,
    ]);
    let access = prop::sample::select(vec![Access::Read, Access::Write, Access::Write]);
    let gap =
        prop_oneof![4 => Just(1i64), 1 => Just(-1), 1 => Just(3), 1 => Just(0), 1 => Just(37)];
    let mmap = |addr: u64, len: u64, flags: u32| Op::Mmap {
        addr: page(addr),
        len: len.max(1) * PAGE,
        prot: 3,
        flags,
        fd: if flags & 0x20 != 0 { -1 } else { 3 },
        name: None,
    };
    prop_oneof![
        2 => (tid(), advice, at(), len(), any::<bool>())
            .prop_map(|(tid, advice, at, len, open)| Step::Call(tid, madvise(advice, at, len), open)),
        1 => (tid(), at(), len(), prop::sample::select(vec![0x32, 0x12, 0x31, 0x8032]), any::<bool>())
            .prop_map(move |(tid, at, len, flags, open)| Step::Call(tid, mmap(at, len, flags), open)),
        1 => (tid(), at(), len(), any::<bool>())
            .prop_map(|(tid, at, len, open)| Step::Call(tid, munmap(at, len), open)),
        8 => (tid(), at(), 1..200u64, gap, access, prop::bool::weighted(0.1))
            .prop_map(|(tid, at, n, gap, access, present)| Step::Touch(tid, at, n, gap, access, present)),
    ]
}

/// What each fault was, page by page.
type Told = Vec<(u64, C, bool, u64)>;

/// Applies the steps; faults between two calls of anyone go in batches of `most` at the most.
fn run(steps: &[Step], folio_bytes: u64, most: usize) -> (Scene, Told) {
    let mut s = Scene::known();
    s.folios(PID, folio_bytes);
    s.mapped_before(
        400,
        100,
        Mapping {
            kind: MappingKind::Stack,
            ..anon()
        },
    );
    let mut told = Vec::new();
    let mut open = Vec::new();
    for (n, step) in steps.iter().enumerate() {
        match step {
            Step::Call(tid, op, stays_open) => {
                // A thread is in one call at a time.
                if let Some(at) = open.iter().position(|(t, _)| t == tid) {
                    let (_, call) = open.swap_remove(at);
                    s.leave(&call);
                }
                s.tid = *tid;
                let ret = match op {
                    Op::Mmap { addr, .. } => *addr as i64,
                    _ => 0,
                };
                let call = s.call(op.clone(), ret);
                s.enter(&call);
                if *stays_open {
                    open.push((*tid, call));
                } else {
                    s.leave(&call);
                }
            }
            &Step::Touch(tid, first, pages, gap, access, present) => {
                let faults: Vec<Fault> = (0..pages as i64)
                    .map(|i| (first as i64 + i * gap).rem_euclid(PAGES as i64))
                    .map(|at| Fault {
                        at_ns: 1_000_000 + n as u64,
                        pid: PID,
                        tid,
                        addr: page(at as u64),
                        present,
                        access,
                        by_kernel: false,
                    })
                    .collect();
                for batch in faults.chunks(most) {
                    let batch = FaultBatch::of_all(batch).expect("it is not empty");
                    let mut tell = |faults: &Stretch<'_>| {
                        for i in 0..faults.pages {
                            let at = faults.addr + i * PAGE;
                            told.push((
                                at,
                                faults.was.class,
                                faults.was.ambiguous,
                                faults.was.bytes,
                            ));
                        }
                    };
                    s.ledger.faults(&batch, Some(&mut tell));
                }
            }
        }
    }
    (s, told)
}

proptest! {
    #[test]
    fn a_batch_is_what_its_faults_are(
        steps in prop::collection::vec(step(), 1..60),
        folio_bytes in prop::sample::select(vec![PAGE, 16 * PAGE, 2 << 20]),
        most in 2..130usize,
    ) {
        let (single, told) = run(&steps, folio_bytes, 1);
        let (batched, told_batched) = run(&steps, folio_bytes, most);
        prop_assert_eq!(told, told_batched);
        prop_assert_eq!(single.totals(), batched.totals());
        prop_assert_eq!(single.lazy(), batched.lazy());
    }
}

#[test]
fn a_stretch_of_alike_pages_is_told_as_one() {
    let mut s = Scene::known();
    s.map(0, 64);
    s.write(0, 32);
    s.advise(A::DONTNEED, 0, 32);
    let faults: Vec<Fault> = (0..64)
        .map(|n| Fault {
            at_ns: 100,
            pid: PID,
            tid: PID,
            addr: page(n),
            present: false,
            access: Access::Write,
            by_kernel: false,
        })
        .collect();
    let batch = FaultBatch::of_all(&faults).expect("it is not empty");
    let mut told = Vec::new();
    let mut tell = |faults: &Stretch<'_>| told.push((faults.pages, faults.was.class));
    s.ledger.faults(&batch, Some(&mut tell));
    assert_eq!(told, [(32, C::RefaultDontneed), (32, C::FirstTouch)]);
    s.apply(Event::Faults(batch));
    assert_eq!(s.faults(C::Unknown), 64, "all were populated already");
}
