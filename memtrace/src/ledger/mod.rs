//! The ledger: what memory was given back, by which call, and which faults brought it back.

pub mod advice;
pub mod event;
pub mod totals;
