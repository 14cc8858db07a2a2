//! The pages of one aligned piece of an address space, each by itself: for where they differ much.

use std::ops::Range;

use super::cells::Cells;
use super::space::PAGE;
use super::word::Word;

/// As many as a page table has.
pub const PAGES: usize = 512;
pub const BYTES: u64 = PAGES as u64 * PAGE;

/// Number 0 is a page without a state; the others are places in the palette, and one more.
const MOST_NUMBERS: usize = u8::MAX as usize;

/// A state for each page. As a rule there are few different ones in a block, and pages have their
/// numbers: a byte each, so that all blocks of a large process still fit into a processor's cache.
#[derive(Clone, Debug)]
pub struct Block(Shape);

#[derive(Clone, Debug)]
enum Shape {
    Numbers {
        palette: Vec<Word>,
        cells: Box<Cells<u8, PAGES>>,
    },
    /// More different ones than there are numbers.
    Words(Box<Cells<Option<Word>, PAGES>>),
}

impl Block {
    pub fn new() -> Self {
        Self(Shape::Numbers {
            palette: Vec::new(),
            cells: Box::default(),
        })
    }

    pub fn get(&self, page: usize) -> Option<Word> {
        match &self.0 {
            Shape::Numbers { palette, cells } => word_of(palette, cells.get(page)),
            Shape::Words(cells) => cells.get(page),
        }
    }

    /// How many pages differ from the one before them.
    pub fn bounds(&self) -> usize {
        match &self.0 {
            Shape::Numbers { cells, .. } => cells.bounds(),
            Shape::Words(cells) => cells.bounds(),
        }
    }

    /// True if every page has a state.
    pub fn is_full(&self) -> bool {
        match &self.0 {
            Shape::Numbers { cells, .. } => cells.is_full(),
            Shape::Words(cells) => cells.is_full(),
        }
    }

    pub fn fill(&mut self, pages: Range<usize>, word: Option<Word>) {
        if pages.is_empty() {
            return;
        }
        if let Shape::Numbers { palette, cells } = &mut self.0 {
            if let Some(number) = number_of(palette, cells, word) {
                return cells.fill(pages, number);
            }
            let words = cells.map(|number| word_of(palette, number));
            self.0 = Shape::Words(Box::new(words));
        }
        if let Shape::Words(cells) = &mut self.0 {
            cells.fill(pages, word);
        }
    }

    /// Where the run that holds `page` ends, at `limit` at the latest.
    pub fn run_end(&self, page: usize, limit: usize) -> usize {
        match &self.0 {
            Shape::Numbers { cells, .. } => cells.run_end(page, limit),
            Shape::Words(cells) => cells.run_end(page, limit),
        }
    }

    /// The runs within `pages`, those without a state included.
    pub fn runs(&self, pages: Range<usize>) -> impl Iterator<Item = (Range<usize>, Option<Word>)> {
        let mut at = pages.start;
        std::iter::from_fn(move || {
            (at < pages.end).then(|| {
                let start = at;
                at = self.run_end(start, pages.end);
                (start..at, self.get(start))
            })
        })
    }
}

fn word_of(palette: &[Word], number: u8) -> Option<Word> {
    let place = usize::from(number).checked_sub(1)?;
    Some(palette[place])
}

/// The number of a state, a new one if it has none; None where there are no more.
fn number_of(
    palette: &mut Vec<Word>,
    cells: &mut Cells<u8, PAGES>,
    word: Option<Word>,
) -> Option<u8> {
    let Some(word) = word else { return Some(0) };
    // What is put now was most often put just before.
    let known = palette.iter().rposition(|other| *other == word);
    let place = known.unwrap_or_else(|| {
        if palette.len() == MOST_NUMBERS {
            drop_unused(palette, cells);
        }
        palette.push(word);
        palette.len() - 1
    });
    (place < MOST_NUMBERS).then(|| place as u8 + 1)
}

/// Numbers the states anew that some page still has.
fn drop_unused(palette: &mut Vec<Word>, cells: &mut Cells<u8, PAGES>) {
    let mut used = [false; MOST_NUMBERS + 1];
    cells.each(|number| used[usize::from(number)] = true);
    let mut left = Vec::new();
    let mut renumbered = [0; MOST_NUMBERS + 1];
    for (place, word) in palette.iter().enumerate() {
        if used[place + 1] {
            left.push(*word);
            renumbered[place + 1] = left.len() as u8;
        }
    }
    // Too few would be gained to do it again soon.
    if left.len() > MOST_NUMBERS * 3 / 4 {
        return;
    }
    *cells = cells.map(|number| renumbered[usize::from(number)]);
    *palette = left;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::pages::{Page, Release, Source};

    fn released(at_ns: u64) -> Word {
        Word::from(Page::Released(Release {
            source: Source::DontUnmap,
            at_ns: Some(at_ns),
            inherited: false,
        }))
    }

    fn is_numbers(block: &Block) -> bool {
        matches!(block.0, Shape::Numbers { .. })
    }

    #[test]
    fn as_many_states_as_pages_are_kept_apart() {
        let mut block = Block::new();
        for page in 0..PAGES {
            block.fill(page..page + 1, Some(released(page as u64)));
        }
        assert!(!is_numbers(&block) && block.is_full());
        for page in 0..PAGES {
            assert_eq!(block.get(page), Some(released(page as u64)));
        }
        assert_eq!(block.bounds(), PAGES - 1);
    }

    #[test]
    fn states_that_no_page_has_any_more_need_no_number() {
        let mut block = Block::new();
        for n in 0..10_000 {
            let page = n % 100;
            block.fill(page..page + 1, Some(released(n as u64)));
        }
        assert!(is_numbers(&block));
        for page in 0..100 {
            assert_eq!(block.get(page), Some(released(9900 + page as u64)));
        }
        assert_eq!((block.get(100), block.bounds()), (None, 100));
    }
}
