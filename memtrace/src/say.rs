//! What memtrace has to say beside its data: lines on stderr, which nobody may be reading any more.

use std::fmt::Display;
use std::io::{self, Write as _};

/// Writes a line that begins with the program's name.
pub fn say(text: impl Display) {
    write(&format!("memtrace: {text}\n"));
}

/// Writes the text as it is, by one write(2): whole beside the lines of others.
///
/// A stderr that can't be written is no reason to end, and `eprint!` would panic.
pub fn write(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}
