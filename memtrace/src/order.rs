//! Puts events back into the order of their times, as far behind as calls in flight ask for.

use std::collections::VecDeque;

use crate::ledger::event::Event;

/// The most that is held while a call is in flight, in bytes of events and their faults. Beyond it
/// the oldest go on, and what turns out to belong before them counts as late.
const MOST_HELD: usize = 48 << 20;

/// Holds events until nothing earlier can come.
///
/// A call reaches us when it ends, but takes effect from its enter on; so whatever happened after
/// the enter of a call that still runs has to wait for it, though not for ever. Who reads the ring
/// tells up to which time all is in ([`Reorder::release`]); what comes later all the same is counted.
#[derive(Debug, Default)]
pub struct Reorder {
    /// In order of time; equal times in the order of arrival.
    sorted: VecDeque<(u64, Event)>,
    /// As they came since `sorted` was asked last. They are sorted all at once: each CPU sends
    /// its own in order, so that they are a few runs which a sort of neighbours merges fast.
    fresh: Vec<(u64, Event)>,
    held_bytes: usize,
    /// The time of the last event given out.
    given_ns: u64,
    late: u64,
}

impl Reorder {
    pub fn push(&mut self, event: Event) {
        let at_ns = event.at_ns();
        // What is read from /proc is stamped with the event that it explains, and is no record.
        let is_record = !matches!(
            event,
            Event::Mappings(_)
                | Event::Executable(_)
                | Event::Folios(_)
                | Event::Flags(_)
                | Event::Sample(_)
                | Event::Taken(_)
                | Event::Measuring(_)
                | Event::Gap(_)
        );
        if at_ns < self.given_ns && is_record {
            self.late += 1;
        }
        self.held_bytes += held_bytes(&event);
        self.fresh.push((at_ns, event));
    }

    /// The next event, if it happened before `complete_ns` or too many are held.
    pub fn release(&mut self, complete_ns: u64) -> Option<Event> {
        if !self.fresh.is_empty() {
            self.settle();
        }
        let (at_ns, _) = self.sorted.front()?;
        if *at_ns >= complete_ns && self.held_bytes <= MOST_HELD {
            return None;
        }
        let (at_ns, event) = self.sorted.pop_front()?;
        self.held_bytes -= held_bytes(&event);
        self.given_ns = self.given_ns.max(at_ns);
        Some(event)
    }

    /// Events that came after one of a later time had been given out.
    pub fn late(&self) -> u64 {
        self.late
    }

    /// Puts what is fresh into its place.
    fn settle(&mut self) {
        // Stable: equal times stay in the order of arrival.
        self.fresh.sort_by_key(|(at_ns, _)| *at_ns);
        let first_ns = self.fresh[0].0;
        let place = self.sorted.partition_point(|(at_ns, _)| *at_ns <= first_ns);
        let mut later = self.sorted.split_off(place).into_iter().peekable();
        for (at_ns, event) in self.fresh.drain(..) {
            while let Some(before) = later.next_if(|(later_ns, _)| *later_ns <= at_ns) {
                self.sorted.push_back(before);
            }
            self.sorted.push_back((at_ns, event));
        }
        self.sorted.extend(later);
    }
}

fn held_bytes(event: &Event) -> usize {
    let more = match event {
        Event::Faults(batch) => batch.entry_bytes(),
        Event::Mappings(mappings) => size_of_val(&mappings.list[..]),
        _ => 0,
    };
    size_of::<(u64, Event)>() + more
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::event::{Access, Fault, FaultBatch, Mapping, MappingKind, Mappings};
    use proptest::prelude::*;

    fn at(at_ns: u64, addr: u64) -> Event {
        Event::Faults(FaultBatch::of(&Fault {
            at_ns,
            pid: 1,
            tid: 1,
            addr: addr << 12,
            present: false,
            access: Access::Read,
            by_kernel: false,
        }))
    }

    #[test]
    fn nothing_goes_on_that_an_earlier_event_may_still_precede() {
        let mut order = Reorder::default();
        order.push(at(10, 0));
        order.push(at(5, 0));
        assert_eq!(order.release(5), None);
        assert_eq!(order.release(6), Some(at(5, 0)));
        assert_eq!(order.release(10), None);
        assert_eq!(order.release(u64::MAX), Some(at(10, 0)));
        assert_eq!(order.late(), 0);
        order.push(at(9, 0));
        assert_eq!(order.late(), 1);
        assert_eq!(order.release(u64::MAX), Some(at(9, 0)));
    }

    #[test]
    fn what_is_held_is_bounded_by_its_bytes() {
        let mut order = Reorder::default();
        let faults = vec![0; 1 << 20];
        for n in 0..64 {
            order.push(Event::Faults(FaultBatch::new(
                n,
                1,
                1,
                faults.clone().into(),
            )));
        }
        let given = std::iter::from_fn(|| order.release(0)).count();
        assert_eq!(given, 64 - 47);
    }

    #[test]
    fn mappings_count_as_large_as_they_are() {
        let one = Mapping {
            kind: MappingKind::Anon,
            shared: false,
            flags: crate::ledger::event::VmFlags::default(),
            name: None,
        };
        let list = vec![(0..1, one); 10_000];
        let mut order = Reorder::default();
        for at_ns in 0..200 {
            order.push(Event::Mappings(Mappings {
                at_ns,
                until_ns: at_ns,
                pid: 1,
                fresh: true,
                heap_end: None,
                whole: false,
                list: list.clone(),
            }));
        }
        let given = std::iter::from_fn(|| order.release(0)).count();
        let bytes = size_of_val(&list[..]);
        assert!((200 - given) * bytes <= MOST_HELD, "{given} given out");
        assert!(given < 200);
    }

    proptest! {
        #[test]
        fn it_sorts_and_keeps_equal_times_in_order_of_arrival(
            times in prop::collection::vec(0..40u64, 0..200),
            looks in 1..50usize,
        ) {
            let mut order = Reorder::default();
            for (i, &time) in times.iter().enumerate() {
                order.push(at(time, i as u64));
                // Looking on the way changes nothing.
                if i % looks == 0 {
                    prop_assert_eq!(order.release(0), None);
                }
            }
            let mut expected: Vec<_> = times.iter().copied().zip(0u64..).collect();
            expected.sort();
            let got: Vec<_> = std::iter::from_fn(|| order.release(u64::MAX))
                .map(|event| match event {
                    Event::Faults(batch) => batch.faults().next().expect("one fault"),
                    _ => unreachable!("only faults were pushed"),
                })
                .map(|fault| (fault.at_ns, fault.addr >> 12))
                .collect();
            prop_assert_eq!(got, expected);
        }
    }
}
