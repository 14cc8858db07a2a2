//! Compares a process's summary with what the model says, each figure by what its basis claims.

use std::collections::BTreeMap;
use std::fmt;

use super::figures::Figures;
use super::model::{Class, Expected, Process, Unmap};
use super::places::{PAGE, PAGES};

/// A figure that is not what it claims to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The figure and what it claimed: equal kinds are told as one.
    pub kind: String,
    pub detail: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.detail)
    }
}

/// What was compared, and what was found.
#[derive(Debug, Default)]
pub struct Verdict {
    pub differences: Vec<Difference>,
    /// Figures by the basis that they claimed: how often each was checked.
    pub checked: BTreeMap<String, u64>,
}

/// Pages outside of the arena that may come without a fault.
const OUTSIDE: u64 = 4;

struct Check<'a> {
    process: &'a Process,
    figures: &'a Figures,
    verdict: Verdict,
}

/// Compares everything.
pub fn compare(process: &Process, figures: &Figures) -> Verdict {
    let mut check = Check {
        process,
        figures,
        verdict: Verdict::default(),
    };
    check.exactness();
    check.lines();
    check.classes();
    check.calls();
    check.advice();
    check.unmaps();
    check.bytes();
    check.unfaulted();
    check.balance();
    check.verdict
}

impl Check<'_> {
    fn differ(&mut self, kind: &str, detail: String) {
        self.verdict.differences.push(Difference {
            kind: kind.to_owned(),
            detail,
        });
    }

    /// A figure by its basis: equal, or on the right side of the truth. `most` is the largest that the truth
    /// can be, where it is not known to the byte.
    fn by_basis(&mut self, name: &str, basis: &str, figure: u64, truth: (u64, u64)) {
        let (least, most) = truth;
        *self.verdict.checked.entry(basis.to_owned()).or_default() += 1;
        let holds = match basis {
            "lower_bound" => figure <= most,
            "upper_bound" => figure >= least,
            "exact" | "measured" | "derived" => (least..=most).contains(&figure),
            _ => false,
        };
        if !holds {
            let truth = if least == most {
                format!("{least}")
            } else {
                format!("{least} to {most}")
            };
            self.differ(
                &format!("{name} ({basis})"),
                format!("{figure}, in truth {truth}"),
            );
        }
    }

    fn equal(&mut self, name: &str, figure: Option<u64>, truth: u64) {
        *self.verdict.checked.entry("count".to_owned()).or_default() += 1;
        if figure != Some(truth) {
            self.differ(name, format!("{figure:?}, in truth {truth}"));
        }
    }

    fn null(&mut self, name: &str) {
        let key = format!("null {name}");
        *self.verdict.checked.entry(key).or_default() += 1;
    }

    fn exactness(&mut self) {
        if !self.figures.is_exact() {
            let notes = self.figures.at("notes").to_string();
            self.differ("not exact", notes);
        }
    }

    /// Each fault's line, page by page.
    fn lines(&mut self) {
        let truth = &self.process.truth;
        let mut wrong: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for page in (0..PAGES).filter(|page| !truth.wild.contains(page)) {
            let expected = truth.faults.get(&page).cloned().unwrap_or_default();
            let seen = self.figures.faults.get(&page).cloned().unwrap_or_default();
            let twice = truth.twice.get(&page).copied().unwrap_or(0);
            let refused = truth.refused.get(&page).copied().unwrap_or(0);
            for kind in unmatched(expected, seen, twice, refused) {
                wrong.entry(kind).or_default().push(page);
            }
        }
        // Which of two calls gave a page back that was perhaps there again in between is in doubt.
        let ambiguous = self.figures.number("faults.ambiguous");
        let may_be = truth.raced || truth.neighbours;
        if ambiguous.is_none_or(|faults| faults > truth.shaken) && !may_be {
            let ambiguous = self.figures.at("faults.ambiguous").to_string();
            self.differ("ambiguous faults", ambiguous);
        }
        for (kind, pages) in wrong {
            let first = &pages[..pages.len().min(8)];
            self.differ(
                &format!("fault line: {kind}"),
                format!("{} faults, on pages {first:?}", pages.len()),
            );
        }
    }

    /// The summary's counts are those of the lines.
    fn classes(&mut self) {
        for class in Class::ALL {
            let name = format!("faults.{}", class.name());
            let lines = self.figures.lines.get(&class).copied().unwrap_or(0);
            self.equal(
                &format!("{name} by its lines"),
                self.figures.number(&name),
                lines,
            );
        }
        let zero_writes = self.figures.zero_writes;
        let figure = self.figures.number("faults.zero_page_writes");
        self.equal("faults.zero_page_writes by its lines", figure, zero_writes);
    }

    fn calls(&mut self) {
        let [calls, failed, bytes] = self.process.truth.mmap;
        for (key, truth) in [("calls", calls), ("failed", failed), ("bytes", bytes)] {
            let name = format!("map.mmap.{key}");
            self.equal(&name, self.figures.number(&name), truth);
        }
    }

    fn advice(&mut self) {
        for (name, given) in self.process.truth.advice.clone() {
            // What refaults name stands here too, without a call in this process.
            let at = |key: &str| format!("advice.{name}.{key}");
            if given.calls == 0 && self.figures.number(&at("calls")).is_none() {
                if given.refaults > 0 {
                    self.differ(&at("refaults"), "the advice is missing".to_owned());
                }
                continue;
            }
            self.equal(&at("calls"), self.figures.number(&at("calls")), given.calls);
            self.equal(
                &at("failed"),
                self.figures.number(&at("failed")),
                given.failed,
            );
            if !given.unsure {
                let requested = self.figures.number(&at("requested_bytes"));
                self.equal(&at("requested_bytes"), requested, given.requested * PAGE);
                let partial = self.figures.number(&at("partial"));
                self.equal(&at("partial"), partial, given.partial);
            }
            let least = if name == "MADV_FREE" {
                given.marked
            } else {
                given.released
            };
            self.released(
                &at("released"),
                least,
                given.unsure || self.process.truth.raced,
            );
            if !self.process.truth.raced {
                let doubtful = given.refaults_doubtful + self.process.truth.shaken;
                self.refaults(&at("refaults"), given.refaults, doubtful);
            }
        }
    }

    fn refaults(&mut self, name: &str, least: u64, doubtful: u64) {
        let Some(figure) = self.figures.number(name) else {
            if least > 0 {
                self.differ(name, format!("null, in truth {least}"));
            }
            return;
        };
        if !(least..=least + doubtful).contains(&figure) {
            self.differ(name, format!("{figure}, in truth {least} (+{doubtful})"));
        }
    }

    /// So many pages in bytes, by as much less or more as no event tells of.
    fn perhaps_without_unseen(&self, pages: u64) -> (u64, u64) {
        let seen = pages.saturating_sub(self.process.truth.unseen);
        let most = pages + self.process.truth.unseen;
        (seen * PAGE, most * PAGE)
    }

    /// `name` with `_bytes` and `_basis` behind it.
    fn released(&mut self, name: &str, pages: u64, unsure: bool) {
        let basis = self
            .figures
            .text(&format!("{name}_basis"))
            .map(str::to_owned);
        match (self.figures.number(&format!("{name}_bytes")), basis) {
            (Some(figure), Some(basis)) if !unsure => {
                let truth = self.perhaps_without_unseen(pages);
                self.by_basis(&format!("{name}_bytes"), &basis, figure, truth);
            }
            (Some(_), Some(_)) => {}
            (None, None) => {
                if pages > 0 {
                    self.null(&format!("{name}_bytes"));
                }
            }
            (bytes, basis) => self.differ(name, format!("{bytes:?} with the basis {basis:?}")),
        }
    }

    fn unmaps(&mut self) {
        for how in Unmap::ALL {
            let given = self
                .process
                .truth
                .unmap
                .get(&how)
                .cloned()
                .unwrap_or_default();
            let at = |key: &str| format!("unmap.{}.{key}", how.name());
            if how == Unmap::Munmap {
                self.equal(&at("calls"), self.figures.number(&at("calls")), given.calls);
            }
            let failed = match how {
                Unmap::Munmap => at("failed"),
                Unmap::Mremap => "map.mremap.failed".to_owned(),
                _ => String::new(),
            };
            if !failed.is_empty() {
                self.equal(&failed, self.figures.number(&failed), given.failed);
            }
            self.released(&at("released"), given.released, given.unsure);
        }
    }

    /// The bytes of each class, with those of faults elsewhere.
    fn bytes(&mut self) {
        let truth = &self.process.truth;
        let (refused, doubtful) = (truth.refused.values().sum::<u64>(), truth.came_doubtful);
        let twice: u64 = truth.twice.values().sum();
        let raced = truth.raced;
        for class in Class::ALL {
            let name = format!("faults.bytes.{}", class.name());
            let basis = format!("faults.class_basis.{}", class.name());
            let Some(figure) = self.figures.number(&name) else {
                self.differ(&name, "null".to_owned());
                continue;
            };
            let Some(basis) = self.figures.text(&basis).map(str::to_owned) else {
                if figure != 0 {
                    self.differ(&name, format!("{figure} without a basis"));
                }
                continue;
            };
            let elsewhere = self.figures.elsewhere.get(&class).copied().unwrap_or(0);
            let least = truth.came.get(&class).copied().unwrap_or(0);
            let lines = self.figures.lines.get(&class).copied().unwrap_or(0);
            let mut most = least + elsewhere + doubtful + refused;
            let mut floor = least;
            match class {
                // A copy is a page, though the count of pages stays; elsewhere files come with others around.
                Class::Cow => most += lines * 512,
                Class::File => most += elsewhere * 16 + lines,
                Class::Unknown => most += twice + elsewhere,
                _ => floor += elsewhere,
            }
            if !raced {
                self.by_basis(&name, &basis, figure, (floor * PAGE, most * PAGE));
            }
        }
    }

    fn unfaulted(&mut self) {
        let truth = &self.process.truth;
        let (pages, raced) = (truth.unfaulted, truth.raced);
        if let Some(figure) = self.figures.number("unfaulted_bytes") {
            // Of what lies outside of the arena the model knows nothing.
            let most = (pages + truth.came_doubtful + OUTSIDE) * PAGE;
            let basis = self.figures.text("unfaulted_basis").unwrap_or("none");
            let basis = basis.to_owned();
            // khugepaged brings memory when it likes.
            let by_others = self.process.folio >= 512;
            if !raced && !by_others {
                self.by_basis("unfaulted_bytes", &basis, figure, (pages * PAGE, most));
            }
        } else {
            self.null("unfaulted_bytes");
        }
    }

    /// What became of lazily free memory. A fork shares pages, and who shares decides.
    fn balance(&mut self) {
        let truth = self.process.truth.clone();
        if truth.shared || truth.raced || self.figures.at("lazy_balance").is_null() {
            if truth.marked > 0 && !truth.shared && !truth.raced {
                self.differ("lazy_balance", "null".to_owned());
            }
            return;
        }
        let at = |key: &str| format!("lazy_balance.{key}");
        let bound = |check: &mut Self, key: &str, basis: &str, pages: u64| {
            let truth = check.perhaps_without_unseen(pages);
            match check.figures.number(&at(key)) {
                Some(figure) => check.by_basis(&at(key), basis, figure, truth),
                None => check.null(&at(key)),
            }
        };
        bound(self, "marked_bytes", "upper_bound", truth.marked);
        bound(self, "dropped_bytes", "upper_bound", truth.dropped);
        // What the last look still showed may have been written again since: the two together are a bound.
        let both = ["reused_silently_bytes", "dropped_bytes"];
        if let [Some(reused), Some(dropped)] = both.map(|key| self.figures.number(&at(key))) {
            let pages = self.perhaps_without_unseen(truth.reused + truth.dropped);
            self.by_basis(
                &at("reused + dropped"),
                "upper_bound",
                reused + dropped,
                pages,
            );
        }
        bound(
            self,
            "reclaimed_at_least_bytes",
            "lower_bound",
            truth.reclaimed,
        );
        bound(
            self,
            "reclaimed_at_most_bytes",
            "upper_bound",
            truth.reclaimed,
        );
        if let Some(basis) = self.figures.text(&at("reclaimed_basis")).map(str::to_owned) {
            bound(self, "reclaimed_bytes", &basis, truth.reclaimed);
        }
        bound(self, "still_lazy_bytes", "measured", 0);
    }
}

/// What does not fit together, as words: faults without a line, lines without a fault, other classes.
fn unmatched(
    mut expected: Vec<Expected>,
    mut seen: Vec<Expected>,
    twice: u64,
    refused: u64,
) -> Vec<String> {
    // Certain ones first, so that what may be anything takes what is left.
    expected.sort_by_key(|one| !one.is_one());
    expected.retain(
        |wanted| match seen.iter().position(|&line| wanted.allows(line)) {
            Some(index) => {
                seen.remove(index);
                false
            }
            None => true,
        },
    );
    let mut spare = twice;
    seen.retain(|&line| {
        let forgiven = line == Expected::fault(Class::Unknown) && spare > 0;
        spare -= u64::from(forgiven);
        !forgiven
    });
    let forgiven = (refused as usize * 2).min(seen.len());
    seen.drain(..forgiven);
    let mut words = Vec::new();
    for wanted in &expected {
        match seen.pop() {
            Some(line) => words.push(format!("{} is told as {}", wanted.words(), line.words())),
            None => words.push(format!("{} is missing", wanted.words())),
        }
    }
    words.extend(
        seen.iter()
            .map(|line| format!("{} is no fault", line.words())),
    );
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(expected: &[Expected], seen: &[Expected], twice: u64, refused: u64) -> Vec<String> {
        unmatched(expected.to_vec(), seen.to_vec(), twice, refused)
    }

    #[test]
    fn lines_that_are_missing_too_many_or_of_another_class_are_told() {
        let first = Expected::fault(Class::FirstTouch);
        let again = Expected::fault(Class::RefaultDontneed);
        assert_eq!(told(&[first, again], &[again, first], 0, 0), [""; 0]);
        assert_eq!(told(&[first], &[], 0, 0), ["first_touch is missing"]);
        assert_eq!(told(&[], &[again], 0, 0), ["refault_dontneed is no fault"]);
        assert_eq!(
            told(&[first], &[Expected::zero_write(Class::FirstTouch)], 0, 0),
            ["first_touch is told as zero_page_write of first_touch"]
        );
    }

    #[test]
    fn what_may_be_either_takes_what_is_certain_last() {
        let first = Expected::fault(Class::FirstTouch);
        let again = Expected::fault(Class::RefaultDontneed);
        assert_eq!(
            told(&[first.or(again), first], &[first, again], 0, 0),
            [""; 0]
        );
        let unknown = Expected::fault(Class::Unknown);
        assert_eq!(told(&[first], &[first, unknown], 1, 0), [""; 0]);
        assert_eq!(
            told(&[first], &[first, unknown], 0, 0),
            ["unknown is no fault"]
        );
        assert_eq!(told(&[], &[again, again], 0, 1), [""; 0]);
    }
}
