//! The states of the pages of an address space: runs where neighbours are alike, blocks where not.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Range;

use super::block::{self, Block};
use super::space::PAGE;
use super::word::Word;

/// Runs that may begin within a block's length before a block takes their place, which is not larger.
const MOST_RUNS: usize = 12;
/// A block with fewer bounds than this goes back to runs: so few that it is not made again soon.
const FEWEST_BOUNDS: usize = 4;

/// States of pages by address.
///
/// A run costs the same whatever its length, so that a call may name 64 TiB; an operation costs
/// O(log n) in the number of pieces, and as many more as it replaces. Pages that are given back and
/// touched one by one would make a run each: there blocks take their place, each found by one
/// look-up and searched by itself.
#[derive(Clone, Debug, Default)]
pub struct PageMap {
    /// By their first address. They don't overlap, and neighbouring runs are not alike, but for
    /// those that a block once lay between.
    pieces: BTreeMap<u64, Piece>,
    /// By their first address.
    blocks: HashMap<u64, Block, BuildHasherDefault<AddressHasher>>,
}

#[derive(Clone, Copy, Debug)]
enum Piece {
    Run {
        end: u64,
        word: Word,
    },
    /// One of the blocks.
    Block,
}

// What a run costs, beside its address: a million of them must not take more than they need.
const _: () = assert!(size_of::<Piece>() == 16);

impl Piece {
    fn end(&self, start: u64) -> u64 {
        match self {
            Self::Run { end, .. } => *end,
            Self::Block => start + block::BYTES,
        }
    }
}

impl PageMap {
    pub fn get(&self, at: u64) -> Option<Word> {
        if let Some(block) = self.blocks.get(&block_start(at)) {
            return block.get(page_of(at));
        }
        match self.before(at) {
            Some((_, Piece::Run { end, word })) => (at < end).then_some(word),
            _ => None,
        }
    }

    /// Reads what is held in blocks at these addresses, for the processor to have it at hand: far
    /// apart, each costs a wait for memory, and these look-ups wait for all of them at once.
    pub fn warm(&self, addresses: impl Iterator<Item = u64>) {
        for at in addresses {
            if let Some(block) = self.blocks.get(&block_start(at)) {
                std::hint::black_box(block.get(page_of(at)));
            }
        }
    }

    /// The state at `at`, and up to where the pages behind it have the same one: at least to the
    /// next page, at most to `limit`, and perhaps not as far as they do.
    pub fn run_at(&self, at: u64, limit: u64) -> (Option<Word>, u64) {
        let start = block_start(at);
        if let Some(block) = self.blocks.get(&start) {
            let last = pages_of(start, at..limit).end;
            let end = block.run_end(page_of(at), last);
            return (block.get(page_of(at)), start + end as u64 * PAGE);
        }
        match self.before(at) {
            Some((_, Piece::Run { end, word })) if at < end => (Some(word), limit.min(end)),
            _ => {
                let next = self.pieces.range(at..limit).next();
                (None, next.map_or(limit, |(start, _)| *start))
            }
        }
    }

    /// Calls `tell` for the runs within `range`, cut to it, in order.
    pub fn each(&self, range: Range<u64>, mut tell: impl FnMut(Range<u64>, Word)) {
        self.each_piece(range, |start, piece, cut| match piece {
            Piece::Run { word, .. } => tell(cut, word),
            Piece::Block => {
                for (pages, word) in self.blocks[&start].runs(pages_of(start, cut)) {
                    if let Some(word) = word {
                        tell(addresses_of(start, pages), word);
                    }
                }
            }
        });
    }

    /// The parts of `range` without a state, in order.
    pub fn gaps(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let mut gaps = Vec::new();
        let mut at = range.start;
        self.each_piece(range.clone(), |start, piece, cut| {
            if at < cut.start {
                gaps.push(at..cut.start);
            }
            at = cut.end;
            if matches!(piece, Piece::Block)
                && let block = &self.blocks[&start]
                && !block.is_full()
            {
                let runs = block.runs(pages_of(start, cut));
                let empty = runs.filter(|(_, word)| word.is_none());
                gaps.extend(empty.map(|(pages, _)| addresses_of(start, pages)));
            }
        });
        if at < range.end {
            gaps.push(at..range.end);
        }
        gaps
    }

    /// Gives all of `range` the state, or takes out what it held.
    pub fn put(&mut self, mut range: Range<u64>, word: Option<Word>) {
        if range.start >= range.end {
            return;
        }
        // Blocks that it covers in part stay blocks; all else becomes one run.
        let first = block_start(range.start);
        if self.put_in_block(range.start, &range, word) {
            range.start = first + block::BYTES;
            if range.start >= range.end {
                return;
            }
        }
        let last = block_start(range.end - 1);
        if last != first && self.put_in_block(range.end - 1, &range, word) {
            range.end = last;
        }
        if range.start >= range.end || self.put_in_run(&range, word) {
            return;
        }
        self.take_out(range.clone());
        if let Some(word) = word {
            self.insert_joined(range.clone(), word);
        }
        self.condense(range.start);
        if block_start(range.end) != block_start(range.start) {
            self.condense(range.end);
        }
    }

    /// If `at` is in a block of which `range` covers a part only, gives that part the state.
    fn put_in_block(&mut self, at: u64, range: &Range<u64>, word: Option<Word>) -> bool {
        let start = block_start(at);
        if range.start <= start && range.end.saturating_sub(start) >= block::BYTES {
            return false;
        }
        let Some(block) = self.blocks.get_mut(&start) else {
            return false;
        };
        block.fill(pages_of(start, range.clone()), word);
        if block.bounds() < FEWEST_BOUNDS {
            self.dissolve(start);
        }
        true
    }

    /// Makes runs of a block.
    fn dissolve(&mut self, start: u64) {
        self.pieces.remove(&start);
        let Some(block) = self.blocks.remove(&start) else {
            return;
        };
        for (pages, word) in block.runs(0..block::PAGES) {
            if let Some(word) = word {
                self.insert_joined(addresses_of(start, pages), word);
            }
        }
    }

    /// If one run holds all of `range`, gives that part the state: what most operations come to.
    fn put_in_run(&mut self, range: &Range<u64>, word: Option<Word>) -> bool {
        let Some((&start, Piece::Run { end, word: old })) =
            self.pieces.range_mut(..=range.start).next_back()
        else {
            return false;
        };
        let (old_end, old) = (*end, *old);
        // At its end it may have to be joined with what follows.
        if old_end <= range.end {
            return false;
        }
        if word == Some(old) {
            return true;
        }
        if start < range.start {
            *end = range.start;
            if let Some(word) = word {
                let end = range.end;
                self.pieces.insert(range.start, Piece::Run { end, word });
            }
        } else {
            self.pieces.remove(&start);
            if let Some(word) = word {
                self.insert_behind(range.clone(), word);
            }
        }
        let rest = Piece::Run {
            end: old_end,
            word: old,
        };
        self.pieces.insert(range.end, rest);
        self.condense(range.start);
        true
    }

    /// Takes out `range`, where no block lies that it covers in part only.
    fn take_out(&mut self, range: Range<u64>) {
        self.split(range.start);
        self.split(range.end);
        while let Some((&start, _)) = self.pieces.range(range.clone()).next() {
            if let Some(Piece::Block) = self.pieces.remove(&start) {
                self.blocks.remove(&start);
            }
        }
    }

    /// Makes `at` a boundary between runs.
    fn split(&mut self, at: u64) {
        if let Some((_, Piece::Run { end, word })) = self.pieces.range_mut(..at).next_back()
            && at < *end
        {
            let rest = Piece::Run {
                end: *end,
                word: *word,
            };
            *end = at;
            self.pieces.insert(at, rest);
        }
    }

    /// Inserts a run into an empty place and joins it with neighbours that are alike.
    fn insert_joined(&mut self, range: Range<u64>, word: Word) {
        let Range { start, mut end } = range;
        if let Some(Piece::Run {
            end: next_end,
            word: next,
        }) = self.pieces.get(&end)
            && *next == word
        {
            let next_end = *next_end;
            self.pieces.remove(&end);
            end = next_end;
        }
        self.insert_behind(start..end, word);
    }

    /// Inserts a run into an empty place and joins it with the one before it, if that is alike.
    fn insert_behind(&mut self, range: Range<u64>, word: Word) {
        if let Some((_, Piece::Run { end, word: before })) =
            self.pieces.range_mut(..range.start).next_back()
            && *end == range.start
            && *before == word
        {
            *end = range.end;
            return;
        }
        let end = range.end;
        self.pieces.insert(range.start, Piece::Run { end, word });
    }

    /// Makes a block of the runs around `at`, if they are many.
    fn condense(&mut self, at: u64) {
        let start = block_start(at);
        let Some(end) = start.checked_add(block::BYTES) else {
            return;
        };
        if self.pieces.range(start..end).count() <= MOST_RUNS {
            return;
        }
        let mut block = Block::new();
        self.each(start..end, |run, word| {
            block.fill(pages_of(start, run), Some(word));
        });
        self.take_out(start..end);
        self.pieces.insert(start, Piece::Block);
        self.blocks.insert(start, block);
    }

    /// The last piece that begins at `at` or before it.
    fn before(&self, at: u64) -> Option<(u64, Piece)> {
        let (start, piece) = self.pieces.range(..=at).next_back()?;
        Some((*start, *piece))
    }

    /// Calls `tell` for the pieces that `range` meets, each with its start and the part it covers.
    fn each_piece(&self, range: Range<u64>, mut tell: impl FnMut(u64, Piece, Range<u64>)) {
        if range.start >= range.end {
            return;
        }
        let first = match self.before(range.start) {
            Some((start, piece)) if range.start < piece.end(start) => start,
            _ => range.start,
        };
        for (&start, piece) in self.pieces.range(first..range.end) {
            let cut = start.max(range.start)..piece.end(start).min(range.end);
            tell(start, *piece, cut);
        }
    }
}

fn block_start(at: u64) -> u64 {
    at - at % block::BYTES
}

fn page_of(at: u64) -> usize {
    (at % block::BYTES / PAGE) as usize
}

/// The pages of the block at `start` that are in `range`.
fn pages_of(start: u64, range: Range<u64>) -> Range<usize> {
    let page = |at: u64| (at.saturating_sub(start).min(block::BYTES) / PAGE) as usize;
    page(range.start)..page(range.end)
}

fn addresses_of(start: u64, pages: Range<usize>) -> Range<u64> {
    start + pages.start as u64 * PAGE..start + pages.end as u64 * PAGE
}

/// Spreads addresses over a table: they differ in their middle bits, and a look-up is all that
/// most faults cost.
#[derive(Clone, Copy, Debug, Default)]
struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn write_u64(&mut self, address: u64) {
        // Fibonacci hashing; the table takes low bits and high ones.
        let product = u128::from(address) * 0x9e37_79b9_7f4a_7c15;
        self.0 = product as u64 ^ (product >> 64) as u64;
    }

    fn write(&mut self, bytes: &[u8]) {
        unreachable!("only addresses are hashed, not {} bytes", bytes.len());
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
#[path = "page_map_tests.rs"]
mod tests;
