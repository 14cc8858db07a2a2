//! Many address spaces: what they came to by name, and which of them have a page of their own in a text.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::Summary;
use crate::ledger::Mm;
use crate::ledger::advice::Advice;
use crate::ledger::totals::Totals;
use crate::verdict::Kind;

/// Pages that a reader has patience for. Up to so many address spaces have one each.
const MOST_PAGES: usize = 10;
/// Who gave back so much is worth a page, in bytes.
const MUCH: u64 = 1 << 20;

/// Address spaces of one name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Command {
    /// Not escaped. None for those of all names beyond a number of them.
    pub comm: Option<String>,
    /// The executable, where all of those whose executable is known had the same. Not escaped.
    pub exe: Option<String>,
    pub images: u64,
    /// When the first of them began, and when the last ended.
    pub start_ns: u64,
    pub end_ns: u64,
    /// Nothing lost, and every call could be placed.
    pub exact: bool,
    /// The highest sample of RSS in any of them; None where none was sampled.
    pub peak_rss_bytes: Option<u64>,
    /// What limits the figures, in plain sentences.
    pub notes: Vec<String>,
    pub totals: Totals,
}

impl Command {
    fn of(summary: &Summary) -> Self {
        Self {
            comm: Some(summary.comm.clone()),
            images: 1,
            start_ns: summary.start_ns,
            end_ns: summary.start_ns + summary.duration_ns,
            exact: summary.exact,
            peak_rss_bytes: summary.rss.peak_bytes,
            totals: summary.totals.clone(),
            ..Self::default()
        }
    }

    /// Adds those of another name, or more of the same.
    pub fn add(&mut self, other: &Self) {
        self.images += other.images;
        self.start_ns = self.start_ns.min(other.start_ns);
        self.end_ns = self.end_ns.max(other.end_ns);
        self.exact &= other.exact;
        self.peak_rss_bytes = self.peak_rss_bytes.max(other.peak_rss_bytes);
        self.totals.add(&other.totals);
    }

    /// The most that is known to have been resident in one of them, or to have been brought in all.
    fn size(&self) -> u64 {
        let resident = self.peak_rss_bytes.unwrap_or(0);
        resident.max(self.totals.faults.all().bytes)
    }
}

/// What all address spaces of a run came to, by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Commands {
    /// Every name, the largest first; those that no name is known of any more come last.
    pub all: Vec<Command>,
    /// The part of them that has no summary.
    pub folded: Vec<Command>,
    /// How many have a summary and no page.
    pub without_page: u64,
    /// What these are, where their figures tell.
    pub verdicts: Vec<(Kind, u64)>,
}

impl Commands {
    /// Sums up by name what has a summary, and has a page or not, with what has none.
    pub fn of(summaries: &[Summary], pages: &[bool], folded: Vec<Command>) -> Self {
        let mut names: BTreeMap<Option<String>, Command> = BTreeMap::new();
        for one in summaries
            .iter()
            .map(Command::of)
            .chain(folded.iter().cloned())
        {
            match names.get_mut(&one.comm) {
                Some(sum) => sum.add(&one),
                None => {
                    names.insert(one.comm.clone(), one);
                }
            }
        }
        let mut all: Vec<Command> = names.into_values().collect();
        all.sort_by_key(|one| (one.comm.is_none(), Reverse(one.size())));
        let paged = summaries.iter().zip(pages);
        let briefly: Vec<&Summary> = paged
            .filter(|(_, page)| !**page)
            .map(|(one, _)| one)
            .collect();
        let mut verdicts: Vec<(Kind, u64)> = Vec::new();
        for kind in briefly.iter().filter_map(|one| telling(one)) {
            match verdicts.iter_mut().find(|(known, _)| *known == kind) {
                Some((_, count)) => *count += 1,
                None => verdicts.push((kind, 1)),
            }
        }
        Self {
            all,
            folded,
            without_page: briefly.len() as u64,
            verdicts,
        }
    }

    /// True where pages alone do not tell of everything.
    pub fn is_needed(&self) -> bool {
        self.without_page > 0 || !self.folded.is_empty()
    }

    /// Address spaces that have no summary.
    pub fn images_folded(&self) -> u64 {
        self.folded.iter().map(|one| one.images).sum()
    }
}

/// Which address spaces have a page: all, where they are few; else those that were named, and of those that
/// live, gave much back or have a verdict the most telling.
pub fn pages(summaries: &[Summary], mms: &[Mm]) -> Vec<bool> {
    let few = summaries.len() <= MOST_PAGES;
    let mut pages: Vec<bool> = mms.iter().map(|mm| few || mm.named).collect();
    if few {
        return pages;
    }
    let mut others: Vec<(bool, bool, u64, usize)> = Vec::new();
    for (at, (one, mm)) in summaries.iter().zip(mms).enumerate() {
        let verdict = telling(one).is_some();
        let worth = verdict || !mm.ended() || given_back_bytes(&one.totals) >= MUCH;
        if worth && !mm.named {
            others.push((verdict, !mm.ended(), Command::of(one).size(), at));
        }
    }
    others
        .sort_by_key(|(verdict, alive, size, at)| Reverse((*verdict, *alive, *size, Reverse(*at))));
    let named = pages.iter().filter(|page| **page).count();
    for (.., at) in others.into_iter().take(MOST_PAGES.saturating_sub(named)) {
        pages[at] = true;
    }
    pages
}

/// Its verdict, unless that is that there is too little to tell.
fn telling(summary: &Summary) -> Option<Kind> {
    let kind = summary.verdict.as_ref()?.kind;
    (kind != Kind::NotEnoughData).then_some(kind)
}

/// What advice such as MADV_FREE and MADV_DONTNEED was applied to, in bytes.
pub fn given_back_bytes(totals: &Totals) -> u64 {
    let gives_back = |(advice, _): &(&Advice, _)| advice.give_back().is_some();
    let given = totals.advice.iter().filter(gives_back);
    given.fold(0, |sum: u64, (_, one)| {
        sum.saturating_add(one.requested_bytes)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Ledger;
    use crate::ledger::event::{Begin, Event, Exit, Fork, Lost};
    use crate::ledger::totals::{FaultClass, RssHistory};
    use crate::runtime::Runtimes;
    use crate::verdict::{Confidence, Verdict};

    /// The first was named; of its children, so many, the last ones live.
    fn ledger(children: u32, live: u32) -> Ledger {
        let mut ledger = Ledger::default();
        ledger.apply(&Event::Begin(Begin {
            at_ns: 0,
            pid: 1,
            comm: "make".to_owned(),
            before_exec: false,
        }));
        for pid in 2..children + 2 {
            ledger.apply(&Event::Fork(Fork {
                at_ns: 1,
                parent_pid: 1,
                pid,
                shares_vm: false,
                followed: true,
            }));
            if pid < children + 2 - live {
                ledger.apply(&Event::Exit(Exit {
                    at_ns: 2,
                    pid,
                    status: Some(0),
                }));
            }
        }
        ledger
    }

    /// A summary of each, with the larger the later bytes of faults, and no verdict.
    fn summaries(ledger: &Ledger) -> Vec<Summary> {
        let summary = |(n, mm): (usize, &Mm)| {
            let mut totals = Totals::default();
            totals.faults.class_mut(FaultClass::FirstTouch).bytes = n as u64 * 4096;
            Summary {
                pid: mm.pid,
                image: mm.image,
                start_ns: 10 * n as u64,
                duration_ns: 5,
                comm: format!("name{}", n % 3),
                exact: true,
                lost: Lost::default(),
                stray_events: 0,
                notes: Vec::new(),
                totals,
                rss: RssHistory::default(),
                balance: None,
                reclaim_unknown: None,
                rss_age_ns: None,
                exit: None,
                runtimes: Runtimes::default(),
                effects: Vec::new(),
                verdict: None,
                go: None,
                what_if: None,
                gctrace: None,
            }
        };
        ledger.mms().iter().enumerate().map(summary).collect()
    }

    fn verdict(kind: Kind) -> Option<Verdict> {
        Some(Verdict {
            kind,
            confidence: Confidence::Low,
            evidence: Vec::new(),
            doubts: Vec::new(),
            advice: Vec::new(),
        })
    }

    /// Which of them have a page.
    fn paged(summaries: &[Summary], ledger: &Ledger) -> Vec<usize> {
        let pages = pages(summaries, ledger.mms());
        (0..pages.len()).filter(|at| pages[*at]).collect()
    }

    #[test]
    fn a_few_have_a_page_each_and_of_many_those_that_tell() {
        let few = ledger(9, 0);
        assert_eq!(paged(&summaries(&few), &few).len(), 10);

        let many = ledger(39, 2);
        let mut all = summaries(&many);
        all[5].verdict = verdict(Kind::Growth);
        all[6].verdict = verdict(Kind::NotEnoughData);
        for (at, advice) in [
            (7, Advice::FREE),
            (8, Advice::HUGEPAGE),
            (9, Advice::DONTNEED),
        ] {
            let bytes = if at == 9 { MUCH - 1 } else { MUCH };
            let totals = &mut all[at].totals;
            totals.advice.entry(advice).or_default().requested_bytes = bytes;
        }
        assert_eq!(paged(&all, &many), [0, 5, 7, 38, 39]);
    }

    #[test]
    fn of_very_many_that_tell_the_largest_have_a_page() {
        let many = ledger(99, 99);
        let mut all = summaries(&many);
        // A verdict comes before size.
        all[3].verdict = verdict(Kind::Churn);
        let expected = [0, 3, 92, 93, 94, 95, 96, 97, 98, 99];
        assert_eq!(paged(&all, &many), expected);
    }

    #[test]
    fn names_add_up_over_summaries_and_what_has_none() {
        let ledger = ledger(4, 0);
        let mut all = summaries(&ledger);
        all[1].verdict = verdict(Kind::Churn);
        all[2].exact = false;
        all[3].rss.peak_bytes = Some(1 << 30);
        let mut folded = vec![Command::of(&all[1]), Command::of(&all[0])];
        folded[0].images = 7;
        folded[0].start_ns = 1;
        folded[1].comm = None;
        folded[1].peak_rss_bytes = Some(1 << 40);
        let commands = Commands::of(&all, &[true, false, false, true, true], folded.clone());
        let told: Vec<_> = commands
            .all
            .iter()
            .map(|one| {
                let bytes = one.totals.faults.all().bytes / 4096;
                (one.comm.as_deref(), one.images, bytes, one.exact)
            })
            .collect();
        // The largest first, though the nameless are larger.
        assert_eq!(
            told,
            [
                (Some("name0"), 2, 3, true),
                (Some("name1"), 9, 1 + 4 + 1, true),
                (Some("name2"), 1, 2, false),
                (None, 1, 0, true),
            ]
        );
        let name1 = &commands.all[1];
        assert_eq!((name1.start_ns, name1.end_ns), (1, 45));
        assert_eq!((commands.without_page, commands.images_folded()), (2, 8));
        assert_eq!(commands.verdicts, [(Kind::Churn, 1)]);
        assert_eq!(commands.folded, folded);
        assert!(commands.is_needed());
        assert!(!Commands::of(&all, &[true; 5], Vec::new()).is_needed());
    }
}
