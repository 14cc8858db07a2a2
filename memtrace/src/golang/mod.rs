//! What the Go runtime of a traced process tells of itself.

pub mod gctrace;
