//! The pages of one aligned piece of an address space, a word each: for where they differ much.

use std::ops::Range;

use super::space::PAGE;
use super::word::Word;

/// Pages in a block. A power of two: few, so that a block costs no more than the runs it replaces;
/// many, so that there are few blocks to search.
pub const PAGES: usize = 128;
pub const BYTES: u64 = PAGES as u64 * PAGE;

#[derive(Clone, Debug)]
pub struct Block {
    words: [Option<Word>; PAGES],
    /// How many pages differ from the one before them.
    bounds: u16,
    /// How many pages have no state.
    empty: u16,
}

impl Block {
    pub fn new() -> Self {
        Self {
            words: [None; PAGES],
            bounds: 0,
            empty: PAGES as u16,
        }
    }

    pub fn get(&self, page: usize) -> Option<Word> {
        self.words[page]
    }

    pub fn bounds(&self) -> usize {
        self.bounds.into()
    }

    pub fn is_full(&self) -> bool {
        self.empty == 0
    }

    pub fn fill(&mut self, pages: Range<usize>, word: Option<Word>) {
        if pages.len() == 1 {
            return self.set(pages.start, word);
        }
        let around = pages.start.saturating_sub(1)..(pages.end + 1).min(PAGES);
        self.bounds -= bounds(&self.words[around.clone()]);
        self.empty -= empty(&self.words[pages.clone()]);
        self.words[pages.clone()].fill(word);
        self.empty += empty(&self.words[pages]);
        self.bounds += bounds(&self.words[around]);
    }

    fn set(&mut self, page: usize, word: Option<Word>) {
        let old = std::mem::replace(&mut self.words[page], word);
        if page > 0 {
            let before = self.words[page - 1];
            self.bounds -= u16::from(before != old);
            self.bounds += u16::from(before != word);
        }
        if let Some(behind) = self.words.get(page + 1) {
            self.bounds -= u16::from(*behind != old);
            self.bounds += u16::from(*behind != word);
        }
        self.empty -= u16::from(old.is_none());
        self.empty += u16::from(word.is_none());
    }

    /// Where the run that holds `page` ends, at `limit` at the latest.
    pub fn run_end(&self, page: usize, limit: usize) -> usize {
        let word = self.words[page];
        let after = &self.words[page..limit];
        after
            .iter()
            .position(|other| *other != word)
            .map_or(limit, |run| page + run)
    }

    /// The runs within `pages`, those without a state included.
    pub fn runs(&self, pages: Range<usize>) -> impl Iterator<Item = (Range<usize>, Option<Word>)> {
        let mut at = pages.start;
        std::iter::from_fn(move || {
            (at < pages.end).then(|| {
                let start = at;
                at = self.run_end(start, pages.end);
                (start..at, self.words[start])
            })
        })
    }
}

fn bounds(words: &[Option<Word>]) -> u16 {
    words.windows(2).filter(|pair| pair[0] != pair[1]).count() as u16
}

fn empty(words: &[Option<Word>]) -> u16 {
    words.iter().filter(|word| word.is_none()).count() as u16
}
