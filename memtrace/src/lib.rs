//! memtrace: shows what a process gives back to the kernel, what it takes again, and what its RSS really is.

pub mod kernel;
pub mod ledger;
pub mod proc;
pub mod units;
pub mod view;
