//! What a Go process says of its own memory, and how that fits what the kernel says.

pub mod books;
pub mod endpoint;
pub mod explain;
pub mod fetch;
pub mod gctrace;
pub mod memstats;
pub mod poll;
pub mod profile;

use books::Books;
use memstats::MemStats;
use profile::InUse;

/// One answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    pub stats: MemStats,
    /// None from expvar, and from a program that does not sample.
    pub in_use: Option<InUse>,
}

/// All that was learnt by `--go-pprof` in a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// The URL as typed.
    pub url: String,
    pub asked: u64,
    /// Of these, without an answer of use.
    pub failed: u64,
    /// What went wrong the last time that it did. Not escaped.
    pub problem: Option<String>,
    /// The last answer, and how long before the end it came.
    pub last: Option<Reading>,
    pub last_age_ns: u64,
    pub released_at_start: Option<u64>,
    /// The most HeapInuse of all answers.
    pub peak_in_use: Option<u64>,
    pub table: Option<Table>,
    /// Why there is no table.
    pub no_table: Option<String>,
    /// What the figures mean.
    pub sentences: Vec<String>,
}

/// The table, and how well its two sides belong together.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    pub books: Books,
    /// The reading it was made from.
    pub reading: Reading,
    /// Before the end.
    pub age_ns: u64,
    /// From the answer with MemStats to the end of the read of smaps.
    pub apart_ns: u64,
}
