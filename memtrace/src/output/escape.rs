//! Makes text that a traced program controls safe to show on a terminal, and bounds its length.

use unicode_width::UnicodeWidthChar;

/// Shows `text` in at most `columns` columns, with `…` at the end where it was cut.
///
/// What could act on a terminal or mislead its reader is shown as a visible escape: control
/// characters (ESC and the C1 ones included), line breaks, marks that reverse or hide text, spaces
/// other than the plain one, combining marks, and what Unicode has not assigned. A backslash is
/// doubled, so that no escape can be forged. What is not UTF-8 becomes U+FFFD.
pub fn escape(text: impl AsRef<[u8]>, columns: usize) -> String {
    let text = text.as_ref();
    if text.len() <= columns && text.iter().all(|b| plain(*b)) {
        return String::from_utf8_lossy(text).into_owned();
    }
    let mut shown = Bounded::new(columns);
    'text: for chunk in text.utf8_chunks() {
        for c in chunk.valid().chars() {
            let whole = match c {
                // escape_debug is for Rust literals, where these need one.
                '\'' | '"' => shown.push(c.encode_utf8(&mut [0; 4])),
                _ => shown.push(&c.escape_debug().collect::<String>()),
            };
            if !whole {
                break 'text;
            }
        }
        if !chunk.invalid().is_empty() && !shown.push("\u{fffd}") {
            break;
        }
    }
    shown.finish()
}

/// True for what stands for itself in one column.
fn plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b'\\'
}

/// How many columns of a terminal plain text takes.
pub(super) fn width(text: &str) -> usize {
    if text.is_ascii() {
        return text.len();
    }
    text.chars().map(|c| c.width().unwrap_or(0)).sum()
}

/// Cuts text that is safe already to `columns` columns.
pub(super) fn fit(text: &str, columns: usize) -> String {
    let mut shown = Bounded::new(columns);
    for c in text.chars() {
        if !shown.push(c.encode_utf8(&mut [0; 4])) {
            break;
        }
    }
    shown.finish()
}

/// Pads text that is safe already to `columns` columns, with spaces at its end.
pub(super) fn pad(text: &str, columns: usize) -> String {
    let spaces = columns.saturating_sub(width(text));
    format!("{text}{:spaces$}", "")
}

/// Text that remembers where it would have to be cut for an ellipsis to fit.
struct Bounded {
    text: String,
    columns: usize,
    used: usize,
    /// The length up to which one column is left for the ellipsis.
    cut: usize,
    whole: bool,
}

impl Bounded {
    fn new(columns: usize) -> Self {
        Self {
            text: String::new(),
            columns,
            used: 0,
            cut: 0,
            whole: true,
        }
    }

    /// Adds a piece whole; false where there is no room for it.
    fn push(&mut self, piece: &str) -> bool {
        let wide = width(piece);
        if self.used + wide > self.columns {
            self.whole = false;
            return false;
        }
        self.text.push_str(piece);
        self.used += wide;
        if self.used < self.columns {
            self.cut = self.text.len();
        }
        true
    }

    fn finish(mut self) -> String {
        if !self.whole && self.columns > 0 {
            self.text.truncate(self.cut);
            self.text.push('…');
        }
        self.text
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plain_names_stay_as_they_are() {
        for name in [
            "bigmap",
            "libc.so.6",
            "it's \"fine\"",
            "größe",
            "日本語",
            "🦀",
            "",
        ] {
            assert_eq!(escape(name, 40), name);
        }
    }

    #[test]
    fn what_acts_on_a_terminal_is_shown_instead() {
        for (hostile, shown) in [
            ("\x1b[2Jgone", r"\u{1b}[2Jgone"),
            ("\x1b]0;title\x07", r"\u{1b}]0;title\u{7}"),
            ("\u{9b}31mred", r"\u{9b}31mred"),
            ("a\nb\rc\td", r"a\nb\rc\td"),
            ("null\0", r"null\0"),
            ("\x7f", r"\u{7f}"),
            ("\u{2028}\u{2029}", r"\u{2028}\u{2029}"),
        ] {
            assert_eq!(escape(hostile, 80), shown);
        }
    }

    #[test]
    fn what_misleads_the_reader_is_shown_instead() {
        for (hostile, shown) in [
            ("\u{202e}gnp.exe", r"\u{202e}gnp.exe"),
            ("\u{2066}a\u{2069}", r"\u{2066}a\u{2069}"),
            ("a\u{200b}b\u{feff}", r"a\u{200b}b\u{feff}"),
            ("a\u{a0}b", r"a\u{a0}b"),
            ("e\u{301}", r"e\u{301}"),
            ("\u{e0041}", r"\u{e0041}"),
            (r"\u{1b}", r"\\u{1b}"),
        ] {
            assert_eq!(escape(hostile, 80), shown);
        }
    }

    #[test]
    fn bytes_that_are_not_utf_8_are_replaced() {
        assert_eq!(escape(b"a\xffb\xc3", 40), "a\u{fffd}b\u{fffd}");
    }

    #[test]
    fn long_text_is_cut_at_an_ellipsis_and_never_within_an_escape() {
        assert_eq!(escape("abcdef", 6), "abcdef");
        assert_eq!(escape("abcdefg", 6), "abcde…");
        assert_eq!(escape("ab\x1bcdefg", 7), "ab…");
        assert_eq!(escape("ab\x1b", 8), r"ab\u{1b}");
        assert_eq!(escape("日本語", 6), "日本語");
        assert_eq!(escape("日本語", 5), "日本…");
        assert_eq!(escape("日本語", 4), "日…");
        assert_eq!(escape("abc", 1), "…");
        assert_eq!(escape("abc", 0), "");
    }

    #[test]
    fn a_mountain_of_combining_marks_stays_within_its_columns() {
        let hostile = format!("x{}", "\u{301}".repeat(10_000));
        let shown = escape(hostile, 20);
        assert!(shown.len() < 40, "{shown}");
    }

    proptest! {
        #[test]
        fn whatever_it_is_given_it_is_printable_and_bounded(
            text in prop::collection::vec(any::<u8>(), 0..60),
            columns in 0usize..30,
        ) {
            let shown = escape(&text, columns);
            prop_assert!(width(&shown) <= columns);
            prop_assert!(shown.chars().all(|c| !c.is_control()));
        }

        #[test]
        fn characters_of_every_script_are_printable_and_bounded(
            text in prop::collection::vec(any::<char>(), 0..60),
            columns in 0usize..30,
        ) {
            let shown = escape(text.iter().collect::<String>(), columns);
            prop_assert!(width(&shown) <= columns);
            let harmless = |c: char| !c.is_control() && c != '\u{202e}';
            prop_assert!(shown.chars().all(harmless));
        }
    }
}
