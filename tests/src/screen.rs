//! What bytes leave on a terminal's screen: as much of a terminal as memtrace makes use of, and a panic for all else.

use std::iter::Peekable;
use std::str::Chars;

/// A screen with all that has scrolled off its top.
pub struct Screen {
    columns: usize,
    rows: usize,
    lines: Vec<Vec<char>>,
    /// How many lines have scrolled off.
    top: usize,
    row: usize,
    column: usize,
    /// Whether any colour or weight was set.
    pub styled: bool,
}

impl Screen {
    pub fn of(bytes: &[u8], columns: usize, rows: usize) -> Self {
        Self::replay(bytes, columns, rows, |_| ())
    }

    /// As [`Screen::of`], with a look at each line feed before it acts. What is cut off at the end,
    /// of a character or a sequence, is left out.
    pub fn replay(bytes: &[u8], columns: usize, rows: usize, mut look: impl FnMut(&Self)) -> Self {
        let mut screen = Self {
            columns,
            rows,
            lines: vec![Vec::new()],
            top: 0,
            row: 0,
            column: 0,
            styled: false,
        };
        let text = bytes.utf8_chunks().next();
        let mut chars = text.map_or("", |text| text.valid()).chars().peekable();
        while let Some(char) = chars.next() {
            match char {
                '\n' => {
                    look(&screen);
                    screen.down();
                }
                '\r' => screen.column = 0,
                '\u{1b}' => screen.sequence(&mut chars),
                char if char.is_control() => panic!("{char:?} is nothing that memtrace writes"),
                char => screen.put(char),
            }
        }
        screen
    }

    /// Every line, without the blanks at its end.
    pub fn lines(&self) -> Vec<String> {
        let text = |line: &Vec<char>| line.iter().collect::<String>().trim_end().to_owned();
        self.lines.iter().map(text).collect()
    }

    /// The line that the cursor stands on.
    pub fn last(&self) -> String {
        let lines = self.lines();
        assert_eq!(self.row + 1, lines.len(), "something is below the cursor");
        lines.into_iter().next_back().unwrap_or_default()
    }

    /// True where the cursor stands on the screen's lowest row.
    pub fn is_at_bottom(&self) -> bool {
        self.row + 1 == self.top + self.rows
    }

    fn put(&mut self, char: char) {
        // Only the character after the last column wraps, as on most terminals.
        if self.column == self.columns {
            self.column = 0;
            self.down();
        }
        let line = &mut self.lines[self.row];
        if line.len() <= self.column {
            line.resize(self.column + 1, ' ');
        }
        line[self.column] = char;
        self.column += 1;
    }

    fn down(&mut self) {
        self.row += 1;
        if self.row == self.lines.len() {
            self.lines.push(Vec::new());
        }
        self.top = self.top.max((self.row + 1).saturating_sub(self.rows));
    }

    /// ESC [ NUMBERS LETTER.
    fn sequence(&mut self, chars: &mut Peekable<Chars<'_>>) {
        match chars.next() {
            Some('[') => {}
            None => return,
            Some(other) => panic!("ESC {other:?} is nothing that memtrace writes"),
        }
        let mut numbers = String::new();
        while let Some(char) = chars.next_if(|char| char.is_ascii_digit() || *char == ';') {
            numbers.push(char);
        }
        match (chars.next(), &numbers[..]) {
            (Some('m'), _) => self.styled = true,
            (Some('J'), "") => {
                self.lines.truncate(self.row + 1);
                self.lines[self.row].truncate(self.column);
            }
            (Some('A'), numbers) => {
                let up: usize = numbers.parse().expect("so many rows");
                self.row = self.row.saturating_sub(up).max(self.top);
            }
            (None, _) => {}
            (letter, _) => panic!("ESC [ {numbers} {letter:?} is nothing that memtrace writes"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_is_cleared_makes_room_for_others() {
        let screen = Screen::of(b"one\r\n\x1b[1mstatus\x1b[0m\r\x1b[Jtwo\r\nstatus", 80, 24);
        assert_eq!(screen.lines(), ["one", "two", "status"]);
        assert_eq!(screen.last(), "status");
        assert!(screen.styled && !screen.is_at_bottom());
        let screen = Screen::of(b"one\r\nsta\r\ntus\r\x1b[1A\x1b[Jtwo", 80, 24);
        assert_eq!(screen.lines(), ["one", "two"]);
    }

    #[test]
    fn what_scrolls_off_the_top_is_out_of_the_cursors_reach() {
        let screen = Screen::of(b"one\r\ntwo\r\nthree\r\x1b[7A\x1b[J", 80, 2);
        assert_eq!(screen.lines(), ["one", ""]);
    }

    #[test]
    fn the_character_after_the_last_column_wraps() {
        let screen = Screen::of(b"1234", 4, 2);
        assert_eq!(screen.lines(), ["1234"]);
        let screen = Screen::of(b"12345", 4, 2);
        assert_eq!(screen.lines(), ["1234", "5"]);
        assert!(screen.is_at_bottom());
    }

    #[test]
    fn what_is_cut_off_at_the_end_is_left_out() {
        for bytes in [&b"x\xe2\x80"[..], b"x\x1b", b"x\x1b[1"] {
            assert_eq!(Screen::of(bytes, 80, 24).lines(), ["x"]);
        }
    }
}
