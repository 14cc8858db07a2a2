//! The page map against one cell a page.

use proptest::prelude::*;

use super::*;
use crate::ledger::pages::Page;

const PAGES: u64 = 2 * block::PAGES as u64;
/// Where it lies: so that blocks of the map begin within it.
const BASE: u64 = 7 * block::BYTES / 2;

fn word(n: u8) -> Word {
    [
        Page::Maybe,
        Page::Unknown,
        Page::POPULATED,
        Page::Zero {
            class: crate::ledger::totals::FaultClass::FirstTouch,
            release: None,
        },
    ][usize::from(n)]
    .into()
}

fn addresses(pages: Range<u64>) -> Range<u64> {
    BASE + pages.start * PAGE..BASE + pages.end * PAGE
}

#[derive(Clone, Debug)]
enum Step {
    Put(u64, u64, Option<u8>),
    /// Single pages, one in so many: what makes blocks.
    Comb(u64, u64, u64, Option<u8>),
}

fn step() -> impl Strategy<Value = Step> {
    let state = || prop::option::of(0..4u8);
    let at = || 0..PAGES;
    prop_oneof![
        (at(), 0..20u64, state()).prop_map(|(at, len, word)| Step::Put(at, len, word)),
        (at(), 0..PAGES, state()).prop_map(|(at, len, word)| Step::Put(at, len, word)),
        (at(), 0..PAGES, 2..5u64, state()).prop_map(|(at, len, of, w)| Step::Comb(at, len, of, w)),
    ]
}

fn check(map: &PageMap, cells: &[Option<Word>]) -> Result<(), TestCaseError> {
    let mut seen = vec![None; cells.len()];
    let mut end = 0;
    map.each(0..u64::MAX, |run, word| {
        assert!(end <= run.start && run.start < run.end, "out of order");
        end = run.end;
        for at in run.step_by(PAGE as usize) {
            seen[((at - BASE) / PAGE) as usize] = Some(word);
        }
    });
    prop_assert_eq!(&seen[..], cells);
    let limit = BASE + PAGES * PAGE;
    for (n, cell) in cells.iter().enumerate() {
        let at = BASE + n as u64 * PAGE;
        prop_assert_eq!(map.get(at), *cell);
        let (word, until) = map.run_at(at, limit);
        prop_assert_eq!(word, *cell);
        prop_assert!(at < until && until <= limit);
        let pages = ((until - at) / PAGE) as usize;
        prop_assert!(cells[n..n + pages].iter().all(|other| other == cell));
    }
    let gaps: Vec<u64> = map
        .gaps(addresses(5..PAGES - 5))
        .into_iter()
        .flat_map(|gap| gap.step_by(PAGE as usize))
        .collect();
    let empty: Vec<u64> = (5..PAGES - 5)
        .filter(|n| cells[*n as usize].is_none())
        .map(|n| BASE + n * PAGE)
        .collect();
    prop_assert_eq!(gaps, empty);
    Ok(())
}

proptest! {
    #[test]
    fn pieces_agree_with_one_cell_a_page(steps in prop::collection::vec(step(), 1..25)) {
        let mut map = PageMap::default();
        let mut cells = vec![None; PAGES as usize];
        for step in steps {
            let (at, len, of, state) = match step {
                Step::Put(at, len, state) => (at, len, 0, state.map(word)),
                Step::Comb(at, len, of, state) => (at, len, of, state.map(word)),
            };
            let pages = at..(at + len).min(PAGES);
            if of == 0 {
                map.put(addresses(pages.clone()), state);
                cells[pages.start as usize..pages.end as usize].fill(state);
            } else {
                for n in pages.step_by(of as usize) {
                    map.put(addresses(n..n + 1), state);
                    cells[n as usize] = state;
                }
            }
            check(&map, &cells)?;
        }
        map.put(addresses(0..PAGES), None);
        prop_assert!(map.pieces.is_empty() && map.blocks.is_empty(), "what is taken out is gone");
    }
}

#[test]
fn pages_touched_one_by_one_are_a_block_until_they_are_alike() {
    let mut map = PageMap::default();
    map.put(addresses(0..PAGES), Some(word(0)));
    for n in (0..PAGES).step_by(2) {
        map.put(addresses(n..n + 1), Some(word(1)));
    }
    // It begins in the middle of a block, and so ends in one.
    assert_eq!(map.blocks.len(), 3);
    for n in (1..PAGES).step_by(2) {
        map.put(addresses(n..n + 1), Some(word(1)));
    }
    assert_eq!((map.blocks.len(), map.pieces.len()), (0, 1));
}

#[test]
fn a_range_without_measure_is_one_piece() {
    let mut map = PageMap::default();
    for _ in 0..2 {
        map.put(0..u64::MAX, Some(word(0)));
        assert_eq!(map.pieces.len(), 1);
        for n in 0..PAGES {
            map.put(addresses(n * 2..n * 2 + 1), Some(word(1)));
        }
        assert!(!map.blocks.is_empty());
    }
    map.put(0..u64::MAX, None);
    assert!(map.pieces.is_empty() && map.blocks.is_empty());
}
