//! The differential tester of the ledger: random programs, the kernel's truth, and what memtrace says of them.
//!
//! A [`session::Session`] runs memtrace and a program that does what it is told. [`generate`] chooses
//! steps, [`play`] has them done and takes the truth between two of them (pagemap, smaps, the thread's own
//! fault counts), [`model`] says what each ought to count, and [`compare`] holds the summary against that,
//! each figure by what its basis claims. [`trial`] puts it together and makes failing programs small.

pub mod compare;
pub mod figures;
pub mod generate;
pub mod mode;
pub mod model;
pub mod places;
pub mod play;
pub mod protocol;
pub mod random;
pub mod session;
pub mod settings;
pub mod snapshot;
pub mod step;
pub mod trial;
