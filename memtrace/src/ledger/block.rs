//! The pages of one aligned piece of an address space, for where they differ: few runs, or a word each.

use std::ops::Range;

use super::space::PAGE;
use super::word::Word;

/// As many as a page table has.
pub const PAGES: usize = 512;
pub const BYTES: u64 = PAGES as u64 * PAGE;

/// More runs than this become a word for each page, which takes twice the memory then, and far less
/// than that for each run as they get more.
const MOST_RUNS: usize = 128;
/// Fewer words than this that differ from the one before become runs: so few that they do not soon
/// go back.
const FEWEST_BOUNDS: usize = 64;

/// Every page is in a run, if only in one without a state.
#[derive(Clone, Debug)]
pub struct Block(Shape);

#[derive(Clone, Debug)]
enum Shape {
    /// In order, the first from page 0 on; neighbours differ.
    Runs(Vec<Run>),
    Words(Box<Words>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    start: u16,
    word: Option<Word>,
}

#[derive(Clone, Debug)]
struct Words {
    words: [Option<Word>; PAGES],
    /// How many differ from the one before them.
    bounds: usize,
    /// How many have no state.
    empty: usize,
}

impl Block {
    pub fn new() -> Self {
        Self(Shape::Runs(vec![Run {
            start: 0,
            word: None,
        }]))
    }

    pub fn get(&self, page: usize) -> Option<Word> {
        match &self.0 {
            Shape::Runs(runs) => runs[place(runs, page)].word,
            Shape::Words(words) => words.words[page],
        }
    }

    /// How many pages differ from the one before them.
    pub fn bounds(&self) -> usize {
        match &self.0 {
            Shape::Runs(runs) => runs.len() - 1,
            Shape::Words(words) => words.bounds,
        }
    }

    /// True if every page has a state.
    pub fn is_full(&self) -> bool {
        match &self.0 {
            Shape::Runs(runs) => runs.iter().all(|run| run.word.is_some()),
            Shape::Words(words) => words.empty == 0,
        }
    }

    pub fn fill(&mut self, pages: Range<usize>, word: Option<Word>) {
        if pages.is_empty() {
            return;
        }
        match &mut self.0 {
            Shape::Runs(runs) => {
                fill_runs(runs, pages, word);
                if runs.len() > MOST_RUNS {
                    self.0 = Shape::Words(Words::of(runs));
                }
            }
            Shape::Words(words) => {
                match pages.len() {
                    1 => words.set(pages.start, word),
                    _ => words.fill(pages, word),
                }
                if words.bounds < FEWEST_BOUNDS {
                    self.0 = Shape::Runs(words.runs());
                }
            }
        }
    }

    /// Where the run that holds `page` ends, at `limit` at the latest.
    pub fn run_end(&self, page: usize, limit: usize) -> usize {
        match &self.0 {
            Shape::Runs(runs) => runs
                .get(place(runs, page) + 1)
                .map_or(limit, |next| limit.min(next.start.into())),
            Shape::Words(words) => words.run_end(page, limit),
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

/// Which of the runs holds `page`.
fn place(runs: &[Run], page: usize) -> usize {
    runs.partition_point(|run| usize::from(run.start) <= page) - 1
}

fn fill_runs(runs: &mut Vec<Run>, pages: Range<usize>, word: Option<Word>) {
    let (first, last) = (place(runs, pages.start), place(runs, pages.end - 1));
    let before = runs[first];
    let behind = runs[last];
    let end = runs.get(last + 1).map_or(PAGES, |next| next.start.into());
    // What is left of the runs that it begins and ends in, and whether their neighbours are alike.
    let keeps_before = usize::from(before.start) < pages.start;
    let alike_before = match (keeps_before, first) {
        (true, _) => before.word == word,
        (false, 0) => false,
        (false, _) => runs[first - 1].word == word,
    };
    let keeps_behind = pages.end < end && behind.word != word;
    let alike_behind = pages.end == end && runs.get(last + 1).is_some_and(|r| r.word == word);
    let run = |start: usize, word| Run {
        start: start as u16,
        word,
    };
    let new = [
        keeps_before.then_some(before),
        (!alike_before).then(|| run(pages.start, word)),
        keeps_behind.then(|| run(pages.end, behind.word)),
    ];
    // No more room than it takes: there may be a million of them.
    runs.reserve_exact(2);
    let replaced = first..last + 1 + usize::from(alike_behind);
    runs.splice(replaced, new.into_iter().flatten());
}

impl Words {
    fn of(runs: &[Run]) -> Box<Self> {
        let mut words = Box::new(Self {
            words: [None; PAGES],
            bounds: 0,
            empty: PAGES,
        });
        for (n, run) in runs.iter().enumerate() {
            let end = runs.get(n + 1).map_or(PAGES, |next| next.start.into());
            words.fill(run.start.into()..end, run.word);
        }
        words
    }

    fn runs(&self) -> Vec<Run> {
        let mut runs = Vec::with_capacity(self.bounds + 1);
        let mut at = 0;
        while at < PAGES {
            runs.push(Run {
                start: at as u16,
                word: self.words[at],
            });
            at = self.run_end(at, PAGES);
        }
        runs
    }

    fn run_end(&self, page: usize, limit: usize) -> usize {
        let word = self.words[page];
        let mut behind = self.words[page..limit].iter();
        let end = behind.position(|other| *other != word);
        end.map_or(limit, |pages| page + pages)
    }

    fn set(&mut self, page: usize, word: Option<Word>) {
        let old = std::mem::replace(&mut self.words[page], word);
        if page > 0 {
            let before = self.words[page - 1];
            self.bounds += usize::from(before != word);
            self.bounds -= usize::from(before != old);
        }
        if let Some(&behind) = self.words.get(page + 1) {
            self.bounds += usize::from(behind != word);
            self.bounds -= usize::from(behind != old);
        }
        self.empty += usize::from(word.is_none());
        self.empty -= usize::from(old.is_none());
    }

    fn fill(&mut self, pages: Range<usize>, word: Option<Word>) {
        let around = pages.start.saturating_sub(1)..(pages.end + 1).min(PAGES);
        self.bounds -= bounds(&self.words[around.clone()]);
        self.empty -= empty(&self.words[pages.clone()]);
        self.words[pages.clone()].fill(word);
        self.empty += empty(&self.words[pages]);
        self.bounds += bounds(&self.words[around]);
    }
}

fn bounds(words: &[Option<Word>]) -> usize {
    words.windows(2).filter(|pair| pair[0] != pair[1]).count()
}

fn empty(words: &[Option<Word>]) -> usize {
    words.iter().filter(|word| word.is_none()).count()
}
