//! Writes JSON strings so that a terminal which shows them cannot be acted upon.

use std::io::{self, Write};

use serde_json::ser::Formatter;

/// Compact JSON in which every character that is not printable is a `\u` escape, and not only
/// those below U+0020 that JSON demands: a reader gets the same string back.
pub(super) struct TerminalSafe;

impl Formatter for TerminalSafe {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut written = 0;
        for (at, c) in fragment.char_indices() {
            if printable(c) {
                continue;
            }
            writer.write_all(&fragment.as_bytes()[written..at])?;
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
            written = at + c.len_utf8();
        }
        writer.write_all(&fragment.as_bytes()[written..])
    }
}

fn printable(c: char) -> bool {
    // escape_debug knows Unicode's tables; what it leaves alone is one character long.
    matches!(c, ' '..='~') || (!c.is_ascii() && c.escape_debug().len() == 1)
}
