//! Puts events back into the order of their times, as far behind as calls in flight ask for.

use std::collections::VecDeque;

use crate::ledger::event::Event;

/// Events held at most while a call is in flight: about 80 bytes each. Beyond it the oldest go on,
/// and what turns out to belong before them counts as late.
const MOST_HELD: usize = 512 * 1024;

/// Holds events until nothing earlier can come.
///
/// A call reaches us when it ends, but takes effect from its enter on; so whatever happened after
/// the enter of a call that still runs has to wait for it. Who reads the ring tells up to which
/// time all is in ([`Reorder::release`]).
#[derive(Debug, Default)]
pub struct Reorder {
    /// In order of time; equal times in the order of arrival.
    held: VecDeque<(u64, Event)>,
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
                | Event::Folios(_)
                | Event::Sample(_)
                | Event::Taken(_)
                | Event::Measuring(_)
        );
        if at_ns < self.given_ns && is_record {
            self.late += 1;
        }
        // Almost every event is the latest: look from the back.
        let mut place = self.held.len();
        let mut steps = 0;
        while place > 0 && self.held[place - 1].0 > at_ns {
            place -= 1;
            steps += 1;
            if steps == 16 {
                place = self.held.partition_point(|(held, _)| *held <= at_ns);
                break;
            }
        }
        self.held.insert(place, (at_ns, event));
    }

    /// The next event, if it happened before `complete_ns` or too many are held.
    pub fn release(&mut self, complete_ns: u64) -> Option<Event> {
        let (at_ns, _) = self.held.front()?;
        if *at_ns >= complete_ns && self.held.len() <= MOST_HELD {
            return None;
        }
        let (at_ns, event) = self.held.pop_front()?;
        self.given_ns = self.given_ns.max(at_ns);
        Some(event)
    }

    /// Events that came after one of a later time had been given out.
    pub fn late(&self) -> u64 {
        self.late
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::event::{Access, Fault};
    use proptest::prelude::*;

    fn at(at_ns: u64, addr: u64) -> Event {
        Event::Fault(Fault {
            at_ns,
            pid: 1,
            tid: 1,
            addr,
            present: false,
            access: Access::Read,
            by_kernel: false,
        })
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

    proptest! {
        #[test]
        fn it_sorts_and_keeps_equal_times_in_order_of_arrival(
            times in prop::collection::vec(0..40u64, 0..200)
        ) {
            let mut order = Reorder::default();
            for (i, &time) in times.iter().enumerate() {
                order.push(at(time, i as u64));
            }
            let mut expected: Vec<_> = times.iter().copied().zip(0u64..).collect();
            expected.sort();
            let got: Vec<_> = std::iter::from_fn(|| order.release(u64::MAX))
                .map(|event| match event {
                    Event::Fault(fault) => (fault.at_ns, fault.addr),
                    _ => unreachable!("only faults were pushed"),
                })
                .collect();
            prop_assert_eq!(got, expected);
        }
    }
}
