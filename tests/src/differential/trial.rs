//! A trial: one program played and judged, and made smaller where it shows a difference.

use std::collections::BTreeMap;

use super::compare::{Difference, compare};
use super::figures::Figures;
use super::mode::Mode;
use super::play::{Plan, Played, play};
use super::session::{Programs, Trouble};
use super::step::Step;

/// What a program came to.
pub struct Outcome {
    pub steps: Vec<Step>,
    pub differences: Vec<Difference>,
    pub checked: BTreeMap<String, u64>,
    pub faults: u64,
    pub processes: usize,
}

/// Plays and judges programs: as many as one run takes, of which there is one at least.
pub fn trial(programs: &Programs, mode: &Mode, plans: &[Plan]) -> Result<Vec<Outcome>, Trouble> {
    let played = play(programs, mode, plans)?;
    played.into_iter().map(judge).collect()
}

fn judge(played: Played) -> Result<Outcome, Trouble> {
    let mut outcome = Outcome {
        steps: played.steps,
        differences: Vec::new(),
        checked: BTreeMap::new(),
        faults: 0,
        processes: played.processes.len(),
    };
    for process in &played.processes {
        if !process.traced {
            continue;
        }
        let figures = Figures::read(&played.output, process.pid, process.places)?;
        outcome.faults += figures.number("faults.total").unwrap_or(0);
        let verdict = compare(process, &figures);
        outcome.differences.extend(verdict.differences);
        for (basis, times) in verdict.checked {
            *outcome.checked.entry(basis).or_default() += times;
        }
    }
    Ok(outcome)
}

/// The fewest steps found that show a difference of the same kind, in at most so many runs.
pub fn shrink(
    programs: &Programs,
    mode: &Mode,
    steps: &[Step],
    kind: &str,
    runs: usize,
) -> (Vec<Step>, Option<Difference>) {
    let mut small = Small {
        steps: steps.to_vec(),
        shown: None,
        runs,
    };
    let mut size = steps.len().div_ceil(2);
    while size > 0 && small.runs > 0 {
        let smaller = small.without(programs, mode, kind, size);
        size = match (smaller, size) {
            (true, 1) => 1,
            (true, _) => size.min(small.steps.len().div_ceil(2)),
            (false, _) => size / 2,
        };
    }
    (small.steps, small.shown)
}

/// A program that is being made smaller.
struct Small {
    steps: Vec<Step>,
    shown: Option<Difference>,
    runs: usize,
}

impl Small {
    /// Leaves out so many steps at one place, where the difference stays: whether it did anywhere.
    fn without(&mut self, programs: &Programs, mode: &Mode, kind: &str, size: usize) -> bool {
        /// Programs of one run.
        const MOST: usize = 12;
        let mut smaller = false;
        let mut at = 0;
        while at < self.steps.len() && self.runs > 0 {
            self.runs -= 1;
            let places: Vec<usize> = (at..self.steps.len()).step_by(size).take(MOST).collect();
            let mut candidates = Vec::new();
            for &place in &places {
                candidates.push(self.left(place, place + size));
            }
            let plans: Vec<Plan> = candidates.iter().map(|one| Plan::Fixed(one)).collect();
            let outcomes = match trial(programs, mode, &plans) {
                Ok(outcomes) => outcomes,
                // One of them can't be played; the first alone may be.
                Err(_) => trial(programs, mode, &plans[..1]).unwrap_or_default(),
            };
            let tried = outcomes.len().max(1);
            let shows = |outcome: &Outcome| {
                let mut all = outcome.differences.iter();
                all.find(|one| one.kind == kind).cloned()
            };
            let hit = outcomes.iter().enumerate().find_map(|(index, outcome)| {
                let fewer = candidates[index].len() < self.steps.len();
                shows(outcome).filter(|_| fewer).map(|shown| (index, shown))
            });
            match hit {
                Some((index, shown)) => {
                    at = places[index];
                    self.steps = candidates.swap_remove(index);
                    self.shown = Some(shown);
                    smaller = true;
                }
                None => at = places.get(tried).copied().unwrap_or(self.steps.len()),
            }
        }
        smaller
    }

    /// All but those; where memtrace attaches stays.
    fn left(&self, from: usize, to: usize) -> Vec<Step> {
        let mut steps = Vec::new();
        for (index, step) in self.steps.iter().enumerate() {
            if !(from..to).contains(&index) || *step == Step::Attach {
                steps.push(step.clone());
            }
        }
        steps
    }
}
