//! Columns of text that line up: names to the left, figures to the right.

use crate::output::escape::width;

/// A table with a heading over each column but the first.
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(headings: &[&str]) -> Self {
        let mut first = vec![String::new()];
        first.extend(headings.iter().map(|heading| (*heading).to_owned()));
        Self { rows: vec![first] }
    }

    /// Adds a row: its name, and a cell for each heading.
    pub(super) fn push(&mut self, row: Vec<String>) {
        self.rows.push(row);
    }

    /// The lines, without trailing spaces.
    pub(super) fn lines(&self) -> Vec<String> {
        let columns = self.rows[0].len();
        let widest = |column: usize| self.rows.iter().map(move |row| width(&row[column])).max();
        let widths: Vec<usize> = (0..columns).map(|c| widest(c).unwrap_or(0)).collect();
        let line = |row: &Vec<String>| {
            let mut text = String::new();
            for (at, cell) in row.iter().enumerate() {
                let spaces = widths[at] - width(cell);
                match at {
                    0 => text += &format!("{cell}{:spaces$}", ""),
                    _ => text += &format!("  {:spaces$}{cell}", ""),
                }
            }
            text.trim_end().to_owned()
        };
        self.rows.iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_line_up_at_their_ends() {
        let mut table = Table::new(&["calls", "wait"]);
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        table.push(row(["MADV_FREE", "1,240", "850 µs"]));
        table.push(row(["brk", "3", "-"]));
        assert_eq!(
            table.lines(),
            [
                "           calls    wait",
                "MADV_FREE  1,240  850 µs",
                "brk            3       -",
            ]
        );
    }
}
