//! What this machine lacks for the eBPF build, told all at once rather than one per attempt.
use std::fmt;

/// One thing that is missing: what, what was seen instead, and the commands that get it.
#[derive(Debug, Clone)]
pub struct Missing {
    pub what: String,
    pub seen: Vec<String>,
    pub get: Vec<String>,
}

/// The error that names everything that is missing.
#[derive(Debug)]
pub struct MissingAll(pub Vec<Missing>);

impl fmt::Display for MissingAll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the eBPF object cannot be built here, because this is missing:"
        )?;
        for Missing { what, seen, get } in &self.0 {
            write!(f, "\n  - {what}")?;
            for line in seen {
                write!(f, "\n      seen: {line}")?;
            }
            for line in get {
                write!(f, "\n      get it: {line}")?;
            }
        }
        write!(
            f,
            "\nOnly this task needs them; `cargo build` takes the committed object and stable Rust."
        )
    }
}

impl std::error::Error for MissingAll {}
