//! From chunks to totals and lines: decode, order, ledger and stream in a row, whatever the source.

use std::io;

use crate::decode::{Delivered, Malformed, Record, decode};
use crate::ledger::Ledger;
use crate::ledger::event::Event;
use crate::ledger::rules::Rules;
use crate::order::Reorder;
use crate::output::Output;
use crate::source::Chunk;
use crate::view::filter::Filter;

use super::returns::Returns;
use super::stream::Stream;

/// What stands between a source and an output, and asks nobody else.
#[derive(Debug, Default)]
pub struct Pipeline {
    pub ledger: Ledger,
    pub order: Reorder,
    pub delivered: Delivered,
    /// None: totals only.
    pub stream: Option<Stream>,
    /// Where there is no stream: ranges whose faults are counted apart.
    pub returns: Option<Returns>,
}

impl Pipeline {
    /// Of a kernel that follows these rules. With a filter, the lines that pass it are shown.
    pub fn new(rules: Rules, stream: Option<Filter>) -> Self {
        Self {
            ledger: Ledger::of(rules),
            stream: stream.map(Stream::new),
            ..Self::default()
        }
    }

    /// Takes a chunk in; `to_events` makes events of its records.
    ///
    /// # Errors
    /// Where the rest of the chunk can't be read.
    pub fn take_in(
        &mut self,
        chunk: &Chunk,
        mut to_events: impl FnMut(Record, &mut Reorder),
    ) -> Result<(), Malformed> {
        let order = &mut self.order;
        decode(&chunk.records, &mut self.delivered, |record| {
            to_events(record, order);
        })
    }

    /// The next event that nothing can precede any more.
    pub fn next(&mut self, complete_ns: u64) -> Option<Event> {
        self.order.release(complete_ns)
    }

    /// Applies an event to the ledger and shows what it was.
    ///
    /// # Errors
    /// The output's own.
    pub fn apply(&mut self, event: &Event, output: &mut dyn Output) -> io::Result<()> {
        match (&mut self.stream, &mut self.returns) {
            (Some(stream), _) => return stream.apply(&mut self.ledger, event, output),
            (None, Some(returns)) => returns.apply(&mut self.ledger, event),
            (None, None) => self.ledger.apply(event),
        }
        Ok(())
    }
}
