//! Three threads whose calls overlap in time: for each page all that may be true of it, since a call
//! comes to the page at some moment between its two stamps, and no event tells when.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::sample::select;

use crate::ledger::Classified;
use crate::ledger::advice::Advice as A;
use crate::ledger::event::{Access, Call, Event, Fault, FaultBatch, Op};
use crate::ledger::tests::support::{PAGE, PID, Scene, madvise, munmap, page};
use crate::ledger::totals::FaultClass as C;

const PAGES: usize = 6;
const THREADS: usize = 3;

#[derive(Clone, Debug)]
enum Act {
    Begin(What, usize, usize),
    End,
    Fault(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Advise(A),
    /// An advice that is refused.
    Refused(A),
    Munmap,
    /// mmap of an address that is free.
    Mmap,
    /// mmap over what is there.
    MapFixed,
}

/// What a page may be: not mapped, never touched, there, or given back: by which advice, and when
/// its call entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Unmapped,
    Untouched,
    There,
    Given(A, u64),
}

/// One thing that may be true of a page: its state, and the threads whose calls, in the order of their
/// entering, have not come to it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct World {
    state: State,
    pending: Vec<usize>,
}

#[derive(Clone, Debug)]
struct Place {
    worlds: BTreeSet<World>,
    /// No call was stamped since its last fault: a second one may be of the same moment.
    same_moment: bool,
    /// A call of another thread was under way over it at its last fault, or two calls since.
    overlapped: bool,
}

#[derive(Clone, Debug)]
struct Flight {
    what: What,
    /// But for those that were handed out again meanwhile.
    pages: Vec<usize>,
    call: Arc<Call>,
}

/// The page once the call has come to it.
fn come(state: State, flight: &Flight) -> State {
    let at_ns = flight.call.enter_ns;
    match (flight.what, state) {
        (What::Munmap, _) => State::Unmapped,
        // What is mapped anew is so at exit.
        (What::MapFixed, State::Unmapped) => state,
        (What::MapFixed, _) => State::Untouched,
        (What::Advise(_), State::Unmapped | State::Untouched) => state,
        // An offer leaves alone what is gone, and PAGEOUT what is offered.
        (What::Advise(A::PAGEOUT), State::Given(..)) => state,
        (What::Advise(_), State::Given(by, _)) if !is_offer(by) => state,
        (What::Advise(advice), _) => State::Given(advice, at_ns),
        (What::Refused(_) | What::Mmap, _) => state,
    }
}

fn is_offer(advice: A) -> bool {
    matches!(advice, A::FREE | A::PAGEOUT)
}

fn class(advice: A) -> C {
    match advice {
        A::FREE => C::RefaultFree,
        A::DONTNEED => C::RefaultDontneed,
        _ => C::RefaultOther,
    }
}

struct Threads {
    scene: Scene,
    places: Vec<Place>,
    flights: [Option<Flight>; THREADS],
    /// When the calls entered that have come back.
    over: BTreeSet<u64>,
}

impl Threads {
    fn new() -> Self {
        let mut scene = Scene::known();
        scene.map(0, PAGES as u64);
        let worlds = BTreeSet::from([World {
            state: State::Untouched,
            pending: Vec::new(),
        }]);
        let place = Place {
            worlds,
            same_moment: false,
            overlapped: false,
        };
        Self {
            scene,
            places: vec![place; PAGES],
            flights: [const { None }; THREADS],
            over: BTreeSet::new(),
        }
    }

    /// True if the kernel lets this call begin, and so that all of it is as `What` says.
    fn may_begin(&self, what: What, span: &Range<usize>) -> bool {
        let all = |test: &dyn Fn(State) -> bool| {
            let worlds = self.places[span.clone()].iter().flat_map(|p| &p.worlds);
            worlds.clone().all(|world| test(world.state))
        };
        let over = |ends: bool| {
            let flights = self.flights.iter().flatten();
            flights
                .filter(|flight| !ends || !matches!(flight.what, What::Advise(_)))
                .any(|flight| flight.pages.iter().any(|n| span.contains(n)))
        };
        match what {
            What::Advise(_) => all(&|state| state != State::Unmapped) && !over(true),
            What::Refused(_) => true,
            What::Munmap | What::MapFixed => !over(false),
            // What is free, or what another thread unmaps just now.
            What::Mmap => span.clone().all(|n| {
                let unmaps = |f: &Flight| f.what == What::Munmap;
                let free = |world: &World| world.state == State::Unmapped;
                let others = self.flights.iter().flatten();
                let only = others.filter(|f| f.pages.contains(&n)).all(unmaps);
                only && self.places[n].worlds.iter().any(free)
            }),
        }
    }

    fn begin(&mut self, thread: usize, what: What, span: Range<usize>) {
        if !self.may_begin(what, &span) {
            return;
        }
        let (first, pages) = (span.start as u64, span.len() as u64);
        let mmap = |flags| Op::Mmap {
            addr: page(first),
            len: pages * PAGE,
            prot: 3,
            flags,
            fd: -1,
            name: None,
        };
        let (op, ret) = match what {
            What::Advise(advice) => (madvise(advice, first, pages), 0),
            What::Refused(advice) => {
                let op = Op::Madvise {
                    advice,
                    addr: page(first) + 1,
                    len: pages * PAGE,
                };
                (op, -i64::from(libc::EINVAL))
            }
            What::Munmap => (munmap(first, pages), 0),
            What::Mmap => (mmap(0x22), page(first) as i64),
            What::MapFixed => (mmap(0x32), page(first) as i64),
        };
        let call = Arc::new(Call {
            pid: PID,
            tid: tid(thread),
            enter_ns: self.scene.tick(),
            exit_ns: u64::MAX,
            ret: Some(ret),
            op,
            released_bytes: None,
        });
        if call.op.enter_matters() {
            self.scene.enter(&call);
        }
        for n in span.clone() {
            let overlapped = self.overlapped(n);
            let place = &mut self.places[n];
            place.same_moment = false;
            place.overlapped |= overlapped;
            let pend = |mut world: World| {
                world.pending.push(thread);
                world
            };
            place.worlds = std::mem::take(&mut place.worlds)
                .into_iter()
                .map(pend)
                .collect();
        }
        let pages = span.collect();
        self.flights[thread] = Some(Flight { what, pages, call });
        self.spread();
    }

    /// Any call may come to any of its pages now.
    fn spread(&mut self) {
        for place in &mut self.places {
            let mut new: Vec<World> = place.worlds.iter().cloned().collect();
            while let Some(world) = new.pop() {
                for thread in world.pending.iter().copied() {
                    let flight = self.flights[thread].as_ref().expect("it is pending");
                    let after = World {
                        state: come(world.state, flight),
                        pending: without(&world.pending, thread),
                    };
                    if place.worlds.insert(after.clone()) {
                        new.push(after);
                    }
                }
            }
        }
    }

    fn end(&mut self, thread: usize) {
        let Some(flight) = self.flights[thread].take() else {
            return;
        };
        self.scene.tick();
        self.scene.leave(&flight.call);
        self.over.insert(flight.call.enter_ns);
        for n in flight.pages {
            let place = &mut self.places[n];
            place.same_moment = false;
            // It has come to the page, if only now.
            place
                .worlds
                .retain(|world| !world.pending.contains(&thread));
            match flight.what {
                // The address was free: who unmapped it has done so. And it is new.
                What::Mmap | What::MapFixed => {
                    place.worlds = BTreeSet::from([World {
                        state: State::Untouched,
                        pending: Vec::new(),
                    }]);
                    place.overlapped = false;
                    for other in self.flights.iter_mut().flatten() {
                        other.pages.retain(|page| *page != n);
                    }
                }
                _ => {}
            }
        }
    }

    /// A call that takes memory away is under way over page `n`.
    fn overlapped(&self, n: usize) -> bool {
        let mut flights = self.flights.iter().flatten();
        flights.any(|flight| {
            flight.pages.contains(&n) && !matches!(flight.what, What::Refused(_) | What::Mmap)
        })
    }

    /// A write to page `n` by a thread that is in no call finds nothing there, if that can be.
    fn fault(&mut self, thread: usize, n: usize) -> Result<(), TestCaseError> {
        let place = &self.places[n];
        let mut allowed: BTreeSet<C> = BTreeSet::new();
        let mut calls: BTreeSet<u64> = BTreeSet::new();
        let mut after = BTreeSet::new();
        for world in &place.worlds {
            let (class, state) = match self.credited(world) {
                State::There if !place.same_moment => continue,
                State::There => (C::Unknown, State::There),
                State::Unmapped => (C::Unknown, State::Unmapped),
                State::Untouched => (C::FirstTouch, State::There),
                State::Given(advice, at_ns) => {
                    calls.insert(at_ns);
                    (class(advice), State::There)
                }
            };
            allowed.insert(class);
            after.insert(World {
                state,
                ..world.clone()
            });
        }
        if allowed.is_empty() {
            return Ok(());
        }
        let overlapped = self.overlapped(n);
        let was = self.tell(thread, n);
        let place = &mut self.places[n];
        let settled = allowed.len() == 1 && allowed.contains(&was.class);
        prop_assert!(
            settled || was.ambiguous,
            "{:?} may be {:?}: {:?}",
            place,
            allowed,
            was
        );
        let mattered = overlapped || place.overlapped;
        prop_assert!(
            mattered || !was.ambiguous,
            "{:?} is settled: {:?}",
            place,
            was
        );
        if let Some(release) = was.release {
            // Where it is ambiguous, no time is better than a wrong one.
            let right = release
                .at_ns
                .map_or(was.ambiguous, |ns| calls.contains(&ns));
            prop_assert!(right, "{:?}: {:?}, of {:?}", place, was, calls);
        }
        *place = Place {
            worlds: after,
            same_moment: true,
            overlapped,
        };
        self.spread();
        Ok(())
    }

    /// Of a page that was only offered the last call to have entered has the credit, whoever took it,
    /// once the call that offered it is over: calls take memory away at enter.
    fn credited(&self, world: &World) -> State {
        match world.state {
            State::Given(advice, at_ns) if is_offer(advice) && self.over.contains(&at_ns) => {}
            state => return state,
        }
        let pending = world.pending.iter();
        let flights = pending.filter_map(|thread| self.flights[*thread].as_ref());
        flights
            .filter(|flight| matches!(flight.what, What::Advise(_)))
            .fold(world.state, come)
    }

    fn tell(&mut self, thread: usize, n: usize) -> Classified {
        let at_ns = self.scene.tick();
        let fault = Fault {
            at_ns,
            pid: PID,
            tid: tid(thread),
            addr: page(n as u64),
            present: false,
            access: Access::Write,
            by_kernel: false,
        };
        self.scene
            .apply(Event::Faults(FaultBatch::of(&fault)))
            .expect("the process is known")
    }
}

fn tid(thread: usize) -> u32 {
    PID + thread as u32
}

fn without(threads: &[usize], one: usize) -> Vec<usize> {
    threads.iter().copied().filter(|t| *t != one).collect()
}

/// What so many threads do.
fn acts(threads: usize, advice: Vec<A>) -> impl Strategy<Value = Vec<(usize, Act)>> {
    let advice = || select(advice.clone());
    let what = prop_oneof![
        10 => advice().prop_map(What::Advise),
        1 => advice().prop_map(What::Refused),
        2 => Just(What::Munmap),
        3 => Just(What::Mmap),
        1 => Just(What::MapFixed),
    ];
    let begin = (what, 0..PAGES, 1..4usize)
        .prop_map(|(what, at, len)| Act::Begin(what, at, len.min(PAGES - at)));
    let act = prop_oneof![
        4 => begin,
        3 => Just(Act::End),
        6 => (0..PAGES).prop_map(Act::Fault),
    ];
    prop::collection::vec((0..threads, act), 1..80)
}

/// Three kinds of give-back over one page at once are more than the ledger keeps apart.
fn two_or_three_threads() -> impl Strategy<Value = Vec<(usize, Act)>> {
    let mut advice = vec![A::FREE, A::DONTNEED, A::PAGEOUT];
    let three = acts(3, advice.clone());
    advice.push(A::REMOVE);
    prop_oneof![three, acts(2, advice)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn what_order_settles_is_exact_and_the_rest_is_ambiguous(acts in two_or_three_threads()) {
        let mut threads = Threads::new();
        for (thread, act) in acts {
            let busy = threads.flights[thread].is_some();
            match act {
                Act::Begin(what, at, len) if !busy => threads.begin(thread, what, at..at + len),
                Act::End => threads.end(thread),
                Act::Fault(n) if !busy => threads.fault(thread, n)?,
                _ => {}
            }
        }
    }
}
