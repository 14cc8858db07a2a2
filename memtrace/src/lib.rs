//! memtrace: shows what a process gives back to the kernel, what it takes again, and what its RSS really is.

pub mod ledger;
pub mod units;
pub mod view;
