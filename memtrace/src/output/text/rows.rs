//! The status on the last rows of a terminal: cleared before anything else is written there, and
//! drawn again after it.

use std::io::{self, Write};

use anstyle::Style;

use super::palette::paint;
use crate::output::escape::{fit, width};
use crate::output::terminal::Size;

/// More rows than this push the stream off the screen.
const MOST_ROWS: usize = 8;
/// Columns that stay free behind a row. One that fills the last makes some terminals wrap, and so would the `^C`
/// that they show where the cursor stands.
const FREE_COLUMNS: usize = 3;

/// A row in pieces, each in its style, so that it can be cut to a width.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Row(Vec<(Style, String)>);

impl Row {
    pub(super) fn push(&mut self, style: Style, text: String) {
        self.0.push((style, text));
    }

    pub(super) fn plain(text: String) -> Self {
        Self(vec![(Style::new(), text)])
    }

    /// The whole row.
    pub(super) fn whole(&self) -> String {
        self.0
            .iter()
            .map(|(style, text)| paint(*style, text))
            .collect()
    }

    /// The row cut to `columns` columns.
    fn cut(&self, columns: usize) -> String {
        let used: usize = self.0.iter().map(|(_, text)| width(text)).sum();
        if used <= columns {
            return self.whole();
        }
        let mut cut = String::new();
        let mut left = columns;
        for (style, text) in &self.0 {
            let wide = width(text);
            // The last column that is left is for the ellipsis of a later piece.
            if wide >= left {
                cut.push_str(&paint(*style, fit(&format!("{text}……"), left)));
                break;
            }
            cut.push_str(&paint(*style, text));
            left -= wide;
        }
        cut
    }
}

/// The rows that stay at the bottom.
#[derive(Debug, Default)]
pub(super) struct Rows {
    rows: Vec<Row>,
    /// How many of the terminal's rows they take right now.
    drawn: usize,
}

impl Rows {
    /// Replaces what is shown; nothing is drawn yet.
    pub(super) fn set(&mut self, rows: Vec<Row>) {
        self.rows = rows;
    }

    /// Takes the rows off the terminal, so that other lines can be written.
    pub(super) fn clear(&mut self, sink: &mut impl Write) -> io::Result<()> {
        match std::mem::take(&mut self.drawn) {
            0 => Ok(()),
            1 => write!(sink, "\r\x1b[J"),
            // The cursor stands on the last of them.
            n => write!(sink, "\r\x1b[{}A\x1b[J", n - 1),
        }
    }

    /// Puts the rows at the bottom, with the cursor after the last.
    pub(super) fn draw(&mut self, sink: &mut impl Write, size: Size) -> io::Result<()> {
        self.clear(sink)?;
        let columns = size.columns.saturating_sub(FREE_COLUMNS);
        let room = MOST_ROWS.min(size.rows.saturating_sub(1)).max(1);
        let mut shown = self.rows.clone();
        if shown.len() > room {
            shown.truncate(room - 1);
            let more = self.rows.len() - shown.len();
            shown.push(Row::plain(format!("… and {more} more")));
        }
        for (at, row) in shown.iter().enumerate() {
            let end = if at > 0 { "\r\n" } else { "" };
            write!(sink, "{end}{}", row.cut(columns))?;
        }
        self.drawn = shown.len();
        Ok(())
    }

    /// True where there is something to draw that is not on the terminal.
    pub(super) fn are_due(&self) -> bool {
        self.drawn == 0 && !self.rows.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use anstyle::AnsiColor;

    use super::*;

    fn row(text: &str) -> Row {
        Row::plain(text.to_owned())
    }

    fn drawn(rows: &mut Rows, columns: usize, height: usize) -> String {
        let mut sink = Vec::new();
        let size = Size {
            columns,
            rows: height,
        };
        rows.draw(&mut sink, size).expect("a Vec takes all");
        String::from_utf8(sink).expect("what was drawn is UTF-8")
    }

    fn cleared(rows: &mut Rows) -> String {
        let mut sink = Vec::new();
        rows.clear(&mut sink).expect("a Vec takes all");
        String::from_utf8(sink).expect("what was drawn is UTF-8")
    }

    #[test]
    fn rows_are_cleared_before_they_are_drawn_again() {
        let mut rows = Rows::default();
        assert_eq!(cleared(&mut rows), "");
        rows.set(vec![row("one")]);
        assert_eq!(drawn(&mut rows, 80, 24), "one");
        assert_eq!(drawn(&mut rows, 80, 24), "\r\x1b[Jone");
        rows.set(vec![row("one"), row("two"), row("three")]);
        assert_eq!(drawn(&mut rows, 80, 24), "\r\x1b[Jone\r\ntwo\r\nthree");
        assert_eq!(cleared(&mut rows), "\r\x1b[2A\x1b[J");
        assert_eq!(cleared(&mut rows), "");
    }

    #[test]
    fn rows_leave_room_for_a_key_before_the_last_column() {
        let mut rows = Rows::default();
        rows.set(vec![row("0123456789")]);
        assert_eq!(drawn(&mut rows, 13, 24), "0123456789");
        rows.drawn = 0;
        assert_eq!(drawn(&mut rows, 12, 24), "01234567…");
        for columns in 1..=3 {
            rows.drawn = 0;
            assert_eq!(drawn(&mut rows, columns, 24), "");
        }
    }

    #[test]
    fn a_styled_row_is_cut_by_what_is_seen_of_it() {
        let red: Style = AnsiColor::Red.on_default();
        let mut row = row("abc");
        row.push(red, "def".to_owned());
        row.push(Style::new(), "ghi".to_owned());
        assert_eq!(row.cut(9), format!("abc{red}def{red:#}ghi"));
        assert_eq!(row.cut(8), format!("abc{red}def{red:#}g…"));
        assert_eq!(row.cut(6), format!("abc{red}de…{red:#}"));
        assert_eq!(row.cut(4), format!("abc{red}…{red:#}"));
        assert_eq!(row.cut(3), "ab…");
    }

    #[test]
    fn many_rows_leave_room_for_the_stream() {
        let mut rows = Rows::default();
        rows.set((0..20).map(|n| row(&format!("row {n}"))).collect());
        let text = drawn(&mut rows, 80, 24);
        assert_eq!(text.lines().count(), MOST_ROWS);
        assert!(text.ends_with("\r\nrow 6\r\n… and 13 more"), "{text}");
        rows.drawn = 0;
        assert_eq!(drawn(&mut rows, 80, 3), "row 0\r\n… and 19 more");
        rows.drawn = 0;
        assert_eq!(drawn(&mut rows, 80, 1), "… and 20 more");
    }
}
