//! What a tracer says that it has seen, to be compared with what really happened.
use serde::{Deserialize, Serialize};

/// None where it does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    pub faults: Option<u64>,
    pub madvise_calls: Option<u64>,
    pub lost: Option<u64>,
    /// memtrace's own word.
    pub exact: Option<bool>,
}
