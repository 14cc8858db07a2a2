//! Where the views go: one trait, and a small module for each format.

use std::io;

use crate::ledger::event::Lost;
use crate::view::commands::Commands;
use crate::view::{Header, Line, MemStatsLine, Status, Summary, Total};

mod escape;
mod exit;
mod file;
pub mod json;
pub mod terminal;
pub mod text;

pub use escape::escape;
pub use file::{OutputFile, Stopped};
pub use json::JsonOutput;
pub use text::{TextOptions, TextOutput};

/// Takes what is to be shown, in the order in which it came.
///
/// Every error is the sink's own and is returned as it is. A closed pipe
/// ([`io::ErrorKind::BrokenPipe`]) is a normal end, which only the caller can bring about; after
/// any error the output is not to be used again.
pub trait Output {
    /// Everything is attached. Shown at once, since scripts wait for it; all else waits for
    /// [`Output::flush`].
    fn header(&mut self, header: &Header) -> io::Result<()>;

    /// One line of the live stream.
    fn line(&mut self, line: &Line) -> io::Result<()>;

    /// The end of an interval: one entry for each traced address space.
    fn status(&mut self, all: &[Status]) -> io::Result<()>;

    /// An answer of a Go process.
    fn memstats(&mut self, line: &MemStatsLine) -> io::Result<()>;

    /// Something more was lost; the running count.
    fn lost(&mut self, lost: &Lost) -> io::Result<()>;

    /// One address space, when all is over.
    fn summary(&mut self, summary: &Summary) -> io::Result<()>;

    /// One of many, whose figures are in [`Output::commands`] too: for programs, and not worth a page to read.
    fn summary_in_brief(&mut self, summary: &Summary) -> io::Result<()>;

    /// All address spaces by name, after the summaries, where these alone do not tell a reader of everything.
    fn commands(&mut self, commands: &Commands) -> io::Result<()>;

    /// The sum, last, when several processes were traced.
    fn total(&mut self, total: &Total) -> io::Result<()>;

    /// Hands everything so far to the sink; called at least once an interval and at the end.
    fn flush(&mut self) -> io::Result<()>;
}
