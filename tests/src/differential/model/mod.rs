//! An independent model, page by page: what each step ought to count, by the kernel's rules and by what pagemap showed.
//!
//! It shares nothing with the ledger. Where pages went or came is read from the kernel before and after each
//! step; only why a fault happened, and what a failed call was applied to, is concluded from the rules.

mod calls;
mod fork;
mod page;
mod process;
mod touch;
mod truth;

pub use page::{Class, Expected};
pub use process::Process;
pub use truth::{Given, Truth, Unmap};
