//! memtrace: shows what a process gives back to the kernel, what it takes again, and what its RSS really is.

pub mod attach;
pub mod cli;
pub mod clock;
pub mod config;
pub mod decode;
pub mod demo;
pub mod doctor;
pub mod golang;
pub mod kernel;
pub mod launch;
pub mod ledger;
pub mod order;
pub mod output;
mod overwrite;
mod pod;
pub mod proc;
pub mod reclaim;
pub mod rights;
pub mod runtime;
pub mod say;
pub mod session;
pub mod source;
pub mod units;
pub mod verdict;
pub mod view;
