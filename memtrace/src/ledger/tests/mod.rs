//! The ledger against synthetic events: what each must count, and a page-by-page model.

mod batches;
mod beginnings;
mod cells;
mod folded;
mod folios;
mod gaps;
mod lazy;
mod lazy_before;
mod lifecycle;
mod measured;
mod model;
mod overlap;
mod partial;
mod populate;
mod purity;
mod refaults;
mod release_failed;
mod released;
mod support;
