//! What a whole fuzzing came to.

use std::collections::BTreeMap;
use std::fmt;

use memtrace_tests::differential::compare::Difference;
use memtrace_tests::differential::mode::Mode;
use memtrace_tests::differential::trial::Outcome;

#[derive(Default)]
pub struct Tally {
    pub programs: u64,
    steps: usize,
    faults: u64,
    /// Runs of which nothing can be said.
    pub troubles: u64,
    /// Figures by the basis that they claimed.
    checked: BTreeMap<String, u64>,
    /// Kinds of differences, with how often in which mode, and the first of them.
    found: BTreeMap<String, Found>,
}

#[derive(Default)]
struct Found {
    modes: BTreeMap<String, u64>,
    first: String,
}

impl Tally {
    pub fn add(&mut self, outcome: &Outcome) {
        self.programs += 1;
        self.steps += outcome.steps.len();
        self.faults += outcome.faults;
        for (basis, times) in &outcome.checked {
            *self.checked.entry(basis.clone()).or_default() += times;
        }
    }

    /// Counts a difference: whether it is the first of its kind.
    pub fn find(&mut self, mode: &Mode, seed: u64, difference: &Difference) -> bool {
        let found = self.found.entry(difference.kind.clone()).or_default();
        let is_first = found.modes.is_empty();
        if is_first {
            found.first = format!("{} seed {seed}: {}", mode.name(), difference.detail);
        }
        *found.modes.entry(mode.name()).or_default() += 1;
        is_first
    }

    pub fn is_clean(&self) -> bool {
        self.found.is_empty() && self.programs > 0
    }

    /// One line on how far it is.
    pub fn progress(&self) -> String {
        format!(
            "{} programs, {} steps, {} faults, {} runs not judged, {} kinds of differences",
            self.programs,
            self.steps,
            self.faults,
            self.troubles,
            self.found.len()
        )
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.progress())?;
        let checked = self.checked.iter();
        let checked: Vec<String> = checked.map(|(what, n)| format!("{what} {n}")).collect();
        writeln!(f, "figures checked: {}", checked.join(", "))?;
        for (kind, found) in &self.found {
            let times: u64 = found.modes.values().sum();
            let modes = found.modes.iter();
            let modes: Vec<String> = modes.map(|(mode, n)| format!("{mode} {n}")).collect();
            writeln!(f, "{times:6} x {kind}")?;
            writeln!(f, "         first {}", found.first)?;
            writeln!(f, "         in {}", modes.join(", "))?;
        }
        Ok(())
    }
}
