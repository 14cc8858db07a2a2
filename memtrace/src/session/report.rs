//! The end of a run: the self-check, and the summaries with what limits them.

use std::collections::HashMap;

use super::ending::Ending;
use super::recognise::Recognise;
use super::{calibrate, nothing_lost};
use crate::attach::Counts;
use crate::decode::Delivered;
use crate::golang;
use crate::golang::explain::{Beside, explain};
use crate::ledger::advice::Advice;
use crate::ledger::event::Lost;
use crate::ledger::folded::Folded;
use crate::ledger::totals::Totals;
use crate::ledger::{Ledger, Mm};
use crate::runtime::Kind;
use crate::units::{Count, counted};
use crate::verdict::{self, Facts, Verdict};
use crate::view::Summary;
use crate::view::balance::{Balance, Outside};
use crate::view::commands::{Command, Commands, pages};
use crate::view::what_if::{Figures, WhatIf};

/// What the kernel side could not deliver, as the ledger and the outputs take it.
pub fn lost(at_ns: u64, counts: &Counts) -> Lost {
    Lost {
        at_ns,
        calls: counts.calls_lost + counts.join_overflow + counts.calls_missed,
        faults: counts.faults_lost,
        lifecycle: counts.lives_lost + counts.targets_overflow,
        populated: counts.populated_lost,
    }
}

/// The two sides of the self-check, and what else can make a run inexact.
pub struct Check {
    pub counts: Counts,
    pub delivered: Delivered,
    pub late: u64,
    pub malformed: u64,
    /// Recorded of processes that nobody told of.
    pub strays: u64,
    /// Traced processes that live on.
    pub alive: u64,
    pub ending: Ending,
}

impl Check {
    /// Nothing lost, and every record that the kernel side counted has come, in time to take its place.
    pub fn exact(&self) -> bool {
        nothing_lost(&lost(0, &self.counts))
            && self.late == 0
            && self.counts.missed == 0
            && self.malformed == 0
            && self.strays == 0
            && self.differences().is_empty()
    }

    /// The classes in which seen is not delivered + lost.
    fn differences(&self) -> Vec<String> {
        let (counts, delivered) = (&self.counts, &self.delivered);
        [
            (
                "faults",
                counts.faults_seen,
                delivered.faults,
                counts.faults_lost,
            ),
            (
                "calls",
                counts.calls_seen,
                delivered.calls,
                counts.calls_lost,
            ),
            (
                "lifecycle events",
                counts.lives_seen,
                delivered.lives,
                counts.lives_lost,
            ),
            (
                "populated memory",
                counts.populated_seen,
                delivered.populated,
                counts.populated_lost,
            ),
        ]
        .into_iter()
        .filter(|(_, seen, delivered, lost)| *seen != delivered + lost)
        .map(|(what, seen, delivered, lost)| {
            format!(
                "self-check failed: {what}: kernel counted {}, received {}, lost {}",
                Count(seen),
                Count(delivered),
                Count(lost)
            )
        })
        .collect()
    }

    /// Sentences on what limits every figure of the run.
    fn notes(&self) -> Vec<String> {
        let mut notes = self.differences();
        let counts = &self.counts;
        let mut note = |count: u64, what: &str, so: &str| {
            if count > 0 {
                notes.push(format!("{}{so}", counted(count, what)));
            }
        };
        note(
            counts.missed,
            "program run",
            " left out by the kernel, since another was running on that CPU: calls or faults are missing",
        );
        note(
            self.late,
            "record",
            " came too late to take its place among the others (of a call that took longer than 2 s, mostly): \
             where threads overlapped, the order may be off",
        );
        note(
            counts.join_overflow,
            "call",
            " without arguments: too many threads were inside calls at once",
        );
        note(
            counts.calls_missed,
            "call",
            " whose end was not seen: the kernel left a program out",
        );
        note(
            counts.targets_overflow,
            "child process",
            " not traced: too many at once",
        );
        note(
            self.strays,
            "event",
            " of processes that nobody told of, or after their end: not counted (a bug, please report it, where \
             nothing was lost)",
        );
        note(self.malformed, "chunk", " of records could not be read");
        if self.ending == Ending::TargetsGone {
            note(
                self.alive,
                "process",
                " that the command left behind, traced no longer",
            );
        }
        notes
    }
}

/// What the summaries need to know beside the ledger.
pub struct Surroundings<'a> {
    pub recognise: &'a mut Recognise,
    /// Calls that have not ended when the run did, by process.
    pub unfinished: &'a HashMap<u32, u64>,
    /// Processes whose mappings may not be read, and why not.
    pub unreadable: &'a HashMap<u32, String>,
    /// Children that are not followed, by parent.
    pub unfollowed: &'a HashMap<u32, u64>,
    /// Of these, the ones that share their memory.
    pub unfollowed_sharers: &'a HashMap<u32, u64>,
    /// Processes that share memory since before tracing, by the one that stands for them.
    pub shared_with: &'a HashMap<u32, Vec<u32>>,
    /// Why what was done to the memory of a process may not all be known.
    pub doubts: &'a HashMap<u32, String>,
    pub follow_forks: bool,
    /// Of the run.
    pub notes: &'a [String],
    /// Lazily freed memory that reclaim took on the whole machine meanwhile.
    pub machine_lazyfreed_bytes: Option<u64>,
    /// Why it is not known what the kernel took of one process.
    pub reclaim_unknown: Option<String>,
    /// The process that was asked for MemStats, and what it said.
    pub go: Option<(u32, golang::Report)>,
    /// Of that process.
    pub last_image: u32,
}

/// One summary for each address space.
pub fn summaries(ledger: &Ledger, check: &Check, around: &mut Surroundings<'_>) -> Vec<Summary> {
    let exact = check.exact();
    let mut notes = check.notes();
    notes.extend_from_slice(around.notes);
    let lost = ledger.lost();
    let mut summaries: Vec<Summary> = ledger
        .mms()
        .iter()
        .map(|mm| {
            let end_ns = mm.end_ns.unwrap_or(mm.start_ns);
            let mut notes = notes.clone();
            notes.extend(own_notes(mm, around));
            let runtimes = around.recognise.of(mm);
            notes.extend_from_slice(&runtimes.problems);
            Summary {
                pid: mm.pid,
                image: mm.image,
                start_ns: mm.start_ns,
                duration_ns: end_ns.saturating_sub(mm.start_ns),
                comm: mm.comm.clone(),
                // A call that came but could not be placed is as good as lost.
                exact: exact && mm.totals.untargeted_calls == 0 && all_seen(mm, around),
                lost,
                stray_events: check.strays,
                notes,
                totals: totals(&mm.totals, &lost),
                rss: mm.rss.clone(),
                balance: balance(mm, around),
                reclaim_unknown: around.reclaim_unknown.clone(),
                rss_age_ns: mm.rss.last_at_ns.map(|at_ns| end_ns.saturating_sub(at_ns)),
                exit: mm.exit,
                runtimes,
                effects: Vec::new(),
                verdict: None,
                go: go(mm, around, &lost),
                what_if: None,
                gctrace: None,
            }
        })
        .collect();
    // Measured only where there is something to reckon with.
    let gives_back = |one: &Summary| {
        let advice = &one.totals.advice;
        one.balance.is_some() || advice.contains_key(&Advice::DONTNEED)
    };
    let refaulted = |one: &Summary| one.totals.faults.refaults().faults > 0;
    let fault = summaries
        .iter()
        .any(|one| refaulted(one) || gives_back(one))
        .then(calibrate::fault_cost)
        .flatten();
    for (summary, mm) in summaries.iter_mut().zip(ledger.mms()) {
        summary.effects = verdict::effects(&summary.runtimes.list, &summary.totals);
        let lost_faults = summary.lost.faults + check.counts.missed;
        let fault_ns = fault.map(|fault| fault.mean_ns);
        summary.verdict = Some(judge(summary, mm, lost_faults, fault_ns));
        summary.what_if = WhatIf::of(&Figures {
            totals: &summary.totals,
            lazy: &mm.lazy(),
            balance: summary.balance.as_ref(),
            rss: &summary.rss,
            end_ns: summary.start_ns + summary.duration_ns,
            fault,
        });
    }
    summaries
}

/// Which summaries have a page to read, and what all address spaces came to by name.
pub fn commands(summaries: &[Summary], ledger: &Ledger, check: &Check) -> (Vec<bool>, Commands) {
    let pages = pages(summaries, ledger.mms());
    let exact = check.exact();
    let lost = ledger.lost();
    let folded = ledger.folded().map(|(name, sum)| Command {
        comm: name.map(str::to_owned),
        exe: sum.exe.path().map(str::to_owned),
        images: sum.images,
        start_ns: sum.start_ns,
        end_ns: sum.end_ns,
        exact: exact && sum.totals.untargeted_calls == 0,
        peak_rss_bytes: sum.peak_rss_bytes,
        notes: notes_on_folded(sum),
        totals: totals(&sum.totals, &lost),
    });
    let commands = Commands::of(summaries, &pages, folded.collect());
    (pages, commands)
}

/// The summary that what Go's runtime told belongs to: the last image of the process that was named, unless
/// another one is the only one with Go in it (a shell may have launched it).
pub fn gos_own(summaries: &mut [Summary], pid: u32) -> Option<&mut Summary> {
    let is_go = |one: &Summary| one.runtimes.list.iter().any(|it| it.kind == Kind::Go);
    let named = summaries.iter().rposition(|one| one.pid == pid);
    let mut go = (0..summaries.len()).filter(|at| is_go(&summaries[*at]));
    let at = match (named, go.next(), go.next()) {
        (Some(named), _, _) if is_go(&summaries[named]) => named,
        (_, Some(only), None) => only,
        (named, _, _) => named?,
    };
    summaries.get_mut(at)
}

fn judge(summary: &Summary, mm: &Mm, lost_faults: u64, fault_ns: Option<u64>) -> Verdict {
    verdict::judge(&Facts {
        pid: summary.pid,
        start_ns: summary.start_ns,
        duration_ns: summary.duration_ns,
        from_start: mm.from_start,
        exact: summary.exact,
        lost_faults,
        ended: mm.ended(),
        rss: &summary.rss,
        totals: &summary.totals,
        runtimes: &summary.runtimes.list,
        fault_ns,
    })
}

/// What a Go process said, beside what the kernel side saw of it.
fn go(mm: &Mm, around: &Surroundings<'_>, lost: &Lost) -> Option<golang::Report> {
    let (pid, report) = around.go.as_ref()?;
    // One process is asked, and of its images the last one answered.
    if mm.pid != *pid || mm.image != around.last_image {
        return None;
    }
    let mut report = report.clone();
    let advice = &mm.totals.advice;
    let requested = |advised: Advice| advice.get(&advised).map_or(0, |one| one.requested_bytes);
    if let Some(table) = &report.table {
        let beside = Beside {
            in_use: table.reading.in_use,
            released_at_start: report.released_at_start,
            calls_lost: lost.calls > 0,
            peak_in_use: report.peak_in_use,
            freed_bytes: requested(Advice::FREE),
            dontneeded_bytes: requested(Advice::DONTNEED),
            refaulted_bytes: mm.totals.faults.refaults().bytes,
        };
        report.sentences = explain(&table.books, &beside);
    }
    Some(report)
}

fn totals(of: &Totals, lost: &Lost) -> Totals {
    let mut totals = of.clone();
    // What lost faults brought would pass for what came without one.
    if lost.faults > 0 || lost.populated > 0 {
        totals.unfaulted_bytes = None;
    }
    totals
}

fn balance(mm: &Mm, around: &Surroundings<'_>) -> Option<Balance> {
    let free = mm.totals.advice.get(&Advice::FREE);
    let outside = Outside {
        refaulted_bytes: free.map_or(0, |free| free.refaulted_bytes),
        machine_bytes: around.machine_lazyfreed_bytes,
        ended: mm.ended(),
    };
    Balance::of(&mm.lazy(), &mm.rss, &outside)
}

/// Whether all that work on an address space are traced.
fn all_seen(mm: &Mm, around: &Surroundings<'_>) -> bool {
    let doubted = mm.image == 0 && around.doubts.contains_key(&mm.pid);
    !doubted && !around.unfollowed_sharers.contains_key(&mm.pid)
}

/// Of the processes that share an address space, so many are named.
const MOST_NAMED: usize = 5;

/// Sentences on who else works on an address space since before tracing.
fn notes_on_sharers(mm: &Mm, around: &Surroundings<'_>) -> Vec<String> {
    let mut notes = Vec::new();
    if mm.image > 0 {
        return notes;
    }
    if let Some(others) = around.shared_with.get(&mm.pid) {
        let mut named: Vec<String> = others.iter().take(MOST_NAMED).map(u32::to_string).collect();
        if let Some(more) = others
            .len()
            .checked_sub(MOST_NAMED)
            .filter(|more| *more > 0)
        {
            named.push(format!("{more} more"));
        }
        let (what, share) = match others.len() {
            1 => ("process", "shares"),
            _ => ("processes", "share"),
        };
        notes.push(format!(
            "{what} {} {share} its memory since before tracing began: what is done from there counts here too",
            named.join(", ")
        ));
    }
    notes.extend(around.doubts.get(&mm.pid).cloned());
    notes
}

/// Sentences on what limits the figures of one address space.
fn own_notes(mm: &Mm, around: &Surroundings<'_>) -> Vec<String> {
    let mut notes = notes_on_sharers(mm, around);
    if let Some(why) = around.unreadable.get(&mm.pid) {
        notes.push(format!(
            "its mappings and LazyFree can't be read: {why}; what was mapped before is unknown"
        ));
    } else if mm.mappings_missed() {
        notes.push(
            "its mappings could not be read in time: faults on what exec mapped have no class"
                .to_owned(),
        );
    }
    notes.extend(unseen(&mm.totals));
    if let Some(calls) = around.unfinished.get(&mm.pid) {
        let calls = counted(*calls, "call");
        notes.push(format!(
            "{calls} still running when tracing stopped: not included"
        ));
    }
    notes.extend(untargeted(&mm.totals));
    if let Some(children) = around.unfollowed.get(&mm.pid) {
        let forks = counted(*children, "fork");
        let why = if around.follow_forks {
            "in this pid namespace, which is not the machine's first, they can't be followed"
        } else {
            "-f follows them"
        };
        notes.push(format!(
            "{forks} into processes that are not traced ({why})"
        ));
    }
    if let Some(children) = around.unfollowed_sharers.get(&mm.pid) {
        let forks = counted(*children, "fork");
        notes.push(format!(
            "{forks} (vfork, posix_spawn) into processes that share its memory and are not traced: what they did \
             there is not known"
        ));
    }
    notes
}

/// The same on what many came to.
fn notes_on_folded(sum: &Folded) -> Vec<String> {
    let missed = (sum.mappings_unknown > 0).then(|| {
        format!(
            "the mappings of {} of {} could not be read in time: faults on what exec mapped have no class",
            Count(sum.mappings_unknown),
            counted(sum.images, "address space")
        )
    });
    let others = [unseen(&sum.totals), untargeted(&sum.totals)];
    missed
        .into_iter()
        .chain(others.into_iter().flatten())
        .collect()
}

fn unseen(totals: &Totals) -> Option<String> {
    (totals.unseen_calls > 0).then(|| {
        format!(
            "{} of which only the end was seen (under way when tracing began, or refused by seccomp): \
             what was done there is not known",
            counted(totals.unseen_calls, "call")
        )
    })
}

fn untargeted(totals: &Totals) -> Option<String> {
    (totals.untargeted_calls > 0).then(|| {
        format!(
            "{} of process_madvise not counted: the target process could not be identified",
            counted(totals.untargeted_calls, "range")
        )
    })
}
