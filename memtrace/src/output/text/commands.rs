//! The table of commands: a row for each name, where there are too many address spaces for a page each.

use super::palette::{Palette, paint};
use super::table::Table;
use super::words::listed;
use crate::ledger::totals::Basis;
use crate::output::escape::escape;
use crate::units::{Bytes, Count, counted};
use crate::view::commands::{Command, Commands, given_back_bytes};

/// A name that is 15 plain characters, which is the most that the kernel keeps, is shown whole.
const NAME_COLUMNS: usize = 16;
/// Names beyond these share a row.
const MOST_ROWS: usize = 20;

/// All names; begins with an empty line.
pub(super) fn table(commands: &Commands, palette: &Palette) -> String {
    let images: u64 = commands.all.iter().map(|one| one.images).sum();
    let title = format!("commands · {} by name", counted(images, "address space"));
    let mut lines = vec![String::new(), paint(palette.strong, title)];
    let mut table = Table::new(&[
        "runs",
        "peak RSS",
        "faults",
        "populated",
        "given back",
        "refaulted",
    ]);
    let (shown, others) = shown(&commands.all);
    for one in shown {
        table.push(row(name(one), one));
    }
    if let Some((others, names)) = &others {
        table.push(row(names.clone(), others));
    }
    lines.extend(table.lines());
    lines.push(
        "runs: each fork and each exec · peak RSS: the highest sample of any of them".to_owned(),
    );
    lines.push("given back: what MADV_FREE, MADV_DONTNEED and the like were applied to".to_owned());
    if !commands.verdicts.is_empty() {
        let kinds: Vec<String> = commands
            .verdicts
            .iter()
            .map(|(kind, count)| format!("{} {}", Count(*count), kind.name().replace('_', " ")))
            .collect();
        lines.push(format!(
            "verdicts on those without a page: {}",
            listed(&kinds)
        ));
    }
    if commands.without_page > 0 {
        lines.push(format!(
            "{} have no page here; --format json has a summary of each",
            Count(commands.without_page)
        ));
    }
    lines.join("\n")
}

/// The rows that are shown, and the sum of the others with what they are called.
fn shown(all: &[Command]) -> (&[Command], Option<(Command, String)>) {
    let named = all.iter().take_while(|one| one.comm.is_some()).count();
    // One more row takes no more room than a row that says so.
    if named <= MOST_ROWS {
        return (all, None);
    }
    let (shown, rest) = all.split_at(MOST_ROWS);
    let mut others = Command::default();
    rest.iter().for_each(|one| others.add(one));
    let names = if named < all.len() {
        "all others".to_owned()
    } else {
        counted((named - MOST_ROWS) as u64, "other name")
    };
    (shown, Some((others, names)))
}

fn name(command: &Command) -> String {
    match &command.comm {
        Some(comm) => escape(comm, NAME_COLUMNS),
        None => "others".to_owned(),
    }
}

fn row(name: String, command: &Command) -> Vec<String> {
    let faults = &command.totals.faults;
    let refaults = faults.refaults();
    let bounded = |bytes: u64, basis: Basis| {
        let bound = if basis == Basis::LowerBound && bytes > 0 {
            "≥"
        } else {
            ""
        };
        format!("{bound}{}", Bytes(bytes))
    };
    let peak = command.peak_rss_bytes;
    vec![
        name,
        Count(command.images).to_string(),
        peak.map_or_else(|| "-".to_owned(), |bytes| Bytes(bytes).to_string()),
        Count(faults.total).to_string(),
        bounded(faults.all().bytes, faults.all().basis()),
        Bytes(given_back_bytes(&command.totals)).to_string(),
        bounded(refaults.bytes, refaults.basis()),
    ]
}
