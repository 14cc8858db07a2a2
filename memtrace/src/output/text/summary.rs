//! The summary: what was given back and what came again in a table, and the rest in sentences.

use super::palette::{Palette, paint};
use super::table::Table;
use super::words::{self, listed};
use super::{books, gctrace, rss, verdict, what_if};
use crate::ledger::advice::{Advice, GiveBack};
use crate::ledger::event::Lost;
use crate::ledger::totals::{Basis, FaultClass, FaultTotals, MapTotals, ReleaseTotals, Totals};
use crate::output::escape::escape;
use crate::output::exit::Exit;
use crate::units::{Bytes, Count, Nanos, Percent, counted};
use crate::view::{Summary, Total};

/// The longest note that is shown whole; ours are far shorter, but may hold a target's names.
const NOTE_COLUMNS: usize = 400;

/// One address space; begins with an empty line.
pub(super) fn summary(summary: &Summary, palette: &Palette) -> String {
    let image = match summary.image {
        0 => String::new(),
        execs => format!(", after {}", counted(execs.into(), "exec")),
    };
    let mut title = vec![
        format!(
            "{} (pid {}{image})",
            words::comm(&summary.comm),
            summary.pid
        ),
        Nanos(summary.duration_ns).to_string(),
    ];
    title.extend(summary.exit.map(|status| Exit::of(status).to_string()));
    let mut lines = vec![String::new()];
    lines.push(heading(&title, summary.exact, palette));
    lines.extend(given_back(&summary.totals));
    lines.extend(faults(&summary.totals.faults));
    lines.extend(mapped(&summary.totals));
    lines.extend(rss::lines(summary));
    lines.extend(books::lines(summary.go.as_ref()));
    lines.extend(what_if::lines(summary));
    lines.extend(gctrace::lines(summary));
    lines.extend(remarks(&summary.totals));
    lines.extend(not_exact(summary.exact, &summary.lost, palette));
    let notes = summary.notes.iter();
    lines.extend(notes.map(|note| format!("note: {}", escape(note, NOTE_COLUMNS))));
    lines.extend(verdict::lines(summary, palette));
    lines.join("\n")
}

/// The sum over several processes; begins with an empty line.
pub(super) fn total(total: &Total, palette: &Palette) -> String {
    let title = [
        format!("all {} processes", Count(total.processes)),
        Nanos(total.duration_ns).to_string(),
    ];
    let mut lines = vec![String::new()];
    lines.push(heading(&title, total.exact, palette));
    lines.extend(given_back(&total.totals));
    lines.extend(faults(&total.totals.faults));
    lines.extend(mapped(&total.totals));
    lines.extend(remarks(&total.totals));
    lines.extend(not_exact(total.exact, &total.lost, palette));
    let notes = total.notes.iter();
    lines.extend(notes.map(|note| format!("note: {}", escape(note, NOTE_COLUMNS))));
    lines.join("\n")
}

fn heading(title: &[String], exact: bool, palette: &Palette) -> String {
    let (style, state) = if exact {
        (palette.strong, "complete, nothing lost")
    } else {
        (palette.failure, "NOT EXACT")
    };
    let title = paint(palette.strong, title.join(" · "));
    format!("{title} · {}", paint(style, state))
}

/// What a row of the table counts, and the class of the faults that undo it.
struct Kind<'a> {
    name: String,
    totals: &'a ReleaseTotals,
    refault: Option<FaultClass>,
}

/// Advice first, what gives back before the rest, then what ends mappings; only what was seen.
fn kinds(totals: &Totals) -> Vec<Kind<'_>> {
    let mut advice: Vec<(&Advice, &ReleaseTotals)> = totals.advice.iter().collect();
    advice.sort_by_key(|(advice, _)| match advice.give_back() {
        Some(GiveBack::Free) => 0,
        Some(GiveBack::DontNeed) => 1,
        Some(GiveBack::Other) => 2,
        None => 3,
    });
    let advice = advice.into_iter().map(|(advice, totals)| Kind {
        name: advice.to_string(),
        totals,
        refault: advice.give_back().map(|how| match how {
            GiveBack::Free => FaultClass::RefaultFree,
            GiveBack::DontNeed => FaultClass::RefaultDontneed,
            GiveBack::Other => FaultClass::RefaultOther,
        }),
    });
    let unmap = [
        ("munmap", &totals.unmap.munmap),
        ("mmap over", &totals.unmap.map_fixed),
        ("mremap", &totals.unmap.mremap),
        ("brk", &totals.unmap.brk),
    ];
    let unmap = unmap.into_iter().map(|(name, totals)| Kind {
        name: name.to_owned(),
        totals,
        refault: None,
    });
    let seen = |kind: &Kind<'_>| kind.totals.calls > 0 || kind.totals.refaults > 0;
    advice.chain(unmap).filter(seen).collect()
}

/// The table and its footnote.
fn given_back(totals: &Totals) -> Vec<String> {
    let kinds = kinds(totals);
    let mut lines = Vec::new();
    if !kinds.is_empty() {
        let released = kinds.iter().any(|kind| kind.totals.released.is_some());
        lines.extend(table(&kinds, released, &totals.faults));
        lines.extend(footnote(&kinds));
    }
    if nothing_given_back(totals) {
        lines.push("nothing was given back".to_owned());
    }
    lines
}

fn table(kinds: &[Kind<'_>], released: bool, faults: &FaultTotals) -> Vec<String> {
    let mut headings = vec!["calls", "failed", "requested"];
    if released {
        headings.push("released");
    }
    headings.extend(["refaulted", "rate", "median wait"]);
    let mut table = Table::new(&headings);
    let dash = || "-".to_owned();
    for kind in kinds {
        let totals = kind.totals;
        let mut row = vec![
            kind.name.clone(),
            Count(totals.calls).to_string(),
            Count(totals.failed).to_string(),
            Bytes(totals.requested_bytes).to_string(),
        ];
        if released {
            row.push(totals.released.map_or_else(dash, |released| {
                let bound = match released.basis {
                    Basis::UpperBound if released.bytes > 0 => "≤",
                    _ => "",
                };
                format!("{bound}{}", Bytes(released.bytes))
            }));
        }
        match kind.refault {
            None => row.extend([dash(), dash(), dash()]),
            Some(class) => {
                // A bound stays one in what is derived from it.
                let mark = |bound| if bound { "≥" } else { "" };
                let lost = totals.refaulted_bytes > 0 && faults.class(class).lost;
                let loose = totals.refaulted_extra_bytes > 0 || lost;
                let bound = mark(loose);
                let ratio_bound = mark(lost || totals.ratio_is_bound());
                let rate = totals.refault_ratio();
                let wait = totals.ages.quantile_ns(0.5);
                row.extend([
                    format!("{bound}{}", Bytes(totals.refaulted_bytes)),
                    rate.map_or_else(dash, |(ratio, _)| {
                        format!("{ratio_bound}{}", Percent(ratio))
                    }),
                    wait.map_or_else(dash, |age| Nanos(age).to_string()),
                ]);
            }
        }
        table.push(row);
    }
    table.lines()
}

/// What the rate is of and what the wait means, where the table has any.
fn footnote(kinds: &[Kind<'_>]) -> Option<String> {
    let ratios = kinds.iter().filter(|kind| kind.refault.is_some());
    let bases: Vec<&str> = ratios
        .filter_map(|kind| kind.totals.refault_ratio())
        .map(|(_, basis)| basis)
        .collect();
    let of = match (bases.contains(&"released"), bases.contains(&"requested")) {
        (false, false) => return None,
        (true, false) => "released bytes",
        (false, true) => "requested bytes",
        (true, true) => "released bytes, or of requested ones where those are not known",
    };
    Some(format!(
        "rate: of {of} · median wait: from release to refault"
    ))
}

/// True where no call can have given anything back.
fn nothing_given_back(totals: &Totals) -> bool {
    let unmap = &totals.unmap;
    let advice = totals.advice.iter();
    advice
        .filter(|(advice, _)| advice.give_back().is_some())
        .map(|(_, totals)| totals)
        .chain([&unmap.munmap, &unmap.map_fixed, &unmap.mremap, &unmap.brk])
        .all(|kind| kind.requested_bytes == 0 && kind.calls == kind.failed && kind.partial == 0)
}

fn faults(faults: &FaultTotals) -> Vec<String> {
    if faults.total == 0 {
        return vec!["no page faults".to_owned()];
    }
    let count = |class| faults.class(class).faults;
    let refaults: Vec<String> = [
        ("FREE", FaultClass::RefaultFree),
        ("DONTNEED", FaultClass::RefaultDontneed),
        ("other", FaultClass::RefaultOther),
    ]
    .into_iter()
    .filter(|(_, class)| count(*class) > 0)
    .map(|(name, class)| format!("{name} {}", Count(count(class))))
    .collect();
    let parts: Vec<String> = [
        ("first touch", count(FaultClass::FirstTouch), String::new()),
        (
            "refault",
            faults.refaults().faults,
            format!(" ({})", refaults.join(", ")),
        ),
        ("copy-on-write", count(FaultClass::Cow), String::new()),
        ("swap-in", count(FaultClass::SwapIn), String::new()),
        ("file", count(FaultClass::File), String::new()),
        ("zero-page write", faults.zero_page_writes, String::new()),
        ("unknown", count(FaultClass::Unknown), String::new()),
    ]
    .into_iter()
    .filter(|(_, count, _)| *count > 0)
    .map(|(name, count, detail)| format!("{name} {}{detail}", Count(count)))
    .collect();
    let mut lines = vec![format!(
        "faults {}: {}",
        Count(faults.total),
        parts.join(" · ")
    )];
    lines.push(populated(faults));
    if faults.zero_page_writes > 0 {
        lines.push(
            "a zero-page write follows a read of the same page: the read was counted in its class, \
             the write adds its bytes there"
                .to_owned(),
        );
    }
    if faults.ambiguous > 0 {
        lines.push(format!(
            "{} in overlapping calls: the time stamps do not settle their class (ambiguous)",
            counted(faults.ambiguous, "fault"),
        ));
    }
    lines
}

/// The bytes of the faults, and how far they can be trusted.
fn populated(faults: &FaultTotals) -> String {
    let of_basis = |basis| {
        let names: Vec<String> = FaultClass::ALL
            .into_iter()
            .filter(|class| faults.class(*class).faults > 0)
            .filter(|class| faults.class(*class).basis() == basis)
            .map(|class| words::class(class).to_owned())
            .collect();
        (!names.is_empty()).then(|| listed(&names))
    };
    let all = faults.all();
    let bound = of_basis(Basis::LowerBound);
    let least = Bytes(all.bytes).to_string();
    let mut text = match all.most_bytes() {
        // What shows alike is alike for a reader.
        Some(most) if Bytes(most).to_string() == least => format!("faults populated {least}"),
        Some(most) => format!("faults populated {least} to {}", Bytes(most)),
        None => format!("faults populated ≥{least}"),
    };
    if let Some(classes) = bound {
        text += &if all.lost {
            format!("; bytes are a lower bound for {classes}: faults were lost")
        } else {
            format!("; bytes are a lower bound for {classes}: a fault may bring many pages")
        };
    }
    if let Some(classes) = of_basis(Basis::Measured) {
        text += &format!("; measured for {classes}");
    }
    if let Some(classes) = of_basis(Basis::Derived) {
        text += &format!("; derived for {classes}");
    }
    text
}

/// The calls that add memory.
fn mapped(totals: &Totals) -> Option<String> {
    let map = &totals.map;
    let part = |(name, totals): (&str, &MapTotals)| {
        let failed = match totals.failed {
            0 => String::new(),
            failed => format!(", {} failed", Count(failed)),
        };
        let calls = counted(totals.calls, "call");
        format!("{name} {} ({calls}{failed})", Bytes(totals.bytes))
    };
    let parts: Vec<String> = [
        ("mmap", &map.mmap),
        ("brk", &map.brk),
        ("mremap", &map.mremap),
    ]
    .into_iter()
    .filter(|(_, totals)| totals.calls > 0)
    .map(part)
    .collect();
    (!parts.is_empty()).then(|| format!("mapped: {}", parts.join(" · ")))
}

/// What else limits or explains the figures.
fn remarks(totals: &Totals) -> Vec<String> {
    let mut lines = Vec::new();
    let unmap = &totals.unmap;
    let all = || {
        let ends = [&unmap.munmap, &unmap.map_fixed, &unmap.mremap, &unmap.brk];
        totals.advice.values().chain(ends)
    };
    let partial: u64 = all().map(|kind| kind.partial).sum();
    if partial > 0 {
        lines.push(format!(
            "{} failed, yet applied to a part of the range; only that part is requested",
            counted(partial, "call"),
        ));
    }
    let inherited: u64 = all().map(|kind| kind.inherited_refaulted_bytes).sum();
    if inherited > 0 {
        lines.push(format!(
            "{} of what refaulted was given back before the fork and has no part in the rate",
            Bytes(inherited),
        ));
    }
    lines
}

fn not_exact(exact: bool, lost: &Lost, palette: &Palette) -> Option<String> {
    let text = match words::lost(lost) {
        None if exact => return None,
        None => "not exact, though no loss was counted: the notes say why".to_owned(),
        Some(counts) => {
            format!("not exact: {counts} could not be delivered; raise --ringbuf-size")
        }
    };
    Some(paint(palette.failure, text))
}
