//! The ledger against synthetic events: what each must count, and a page-by-page model.

mod lifecycle;
mod model;
mod overlap;
mod partial;
mod refaults;
mod support;
