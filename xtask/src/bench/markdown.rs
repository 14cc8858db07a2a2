//! The tables of a report as Markdown.
use std::fmt::Write as _;

use super::goals::{self, Verdict};
use super::report::{Kind, Report, Row, Sample, Table};
use super::units::{added, bytes, grouped, percent, time};

/// Those that tell of each event, as the README names them, and how their rows begin.
const PEERS: [(&str, &str); 4] = [
    ("perf record", "perf record -e page-faults"),
    ("perf trace", "perf trace"),
    ("bpftrace's printf", "bpftrace, printf"),
    ("strace", "strace"),
];

/// Everything: the machine, the targets, each workload.
pub fn full(report: &Report) -> String {
    let mut text = machine(report);
    let _ = write!(text, "\n### Targets\n\n{}", targets(report, |_| true));
    for table in &report.tables {
        let _ = write!(text, "\n### {}\n\n{}\n\n", table.title, table.about);
        text += &if table.event == "request" {
            requests(table)
        } else {
            events(table)
        };
    }
    text
}

/// For the README: the machine in a line, and what each thing costs.
pub fn short(report: &Report) -> String {
    let machine = &report.machine;
    let kind = if machine.virtualised {
        "a virtual machine"
    } else {
        "a machine"
    };
    let mut text = format!(
        "Measured by `cargo xtask bench` at {} on {}: {kind} with {} CPUs ({}), Linux {}; medians of {} rounds in which each \
         took its turn.\n",
        machine.commit, machine.date, machine.cpus, machine.cpu, machine.kernel, report.rounds
    );
    for warning in machine.warnings() {
        let _ = writeln!(text, "Beware: {warning}.");
    }
    text += "\n| | untraced | an empty BPF program adds | memtrace adds |";
    for (name, _) in PEERS {
        let _ = write!(text, " {name} adds |");
    }
    text += "\n|---|---|---|---|";
    text += &"---|".repeat(PEERS.len());
    text.push('\n');
    for table in &report.tables {
        let untraced = table.rows.iter().find(|row| row.kind == Kind::Untraced);
        let untraced = untraced
            .and_then(Row::values)
            .map_or("-".to_owned(), |s| time(s.median));
        // As it is run by default, or without the stream where only that was measured.
        let memtrace = table
            .row(goals::DEFAULT)
            .or_else(|| table.rows.iter().find(|row| row.kind == Kind::Memtrace));
        let mode = match memtrace {
            Some(row) if row.label != goals::DEFAULT => " (-q)",
            _ => "",
        };
        let _ = write!(
            text,
            "| {} | {untraced} | {} | {}{mode} |",
            table.title,
            told_from_chance(table, table.floor()),
            told_from_chance(table, memtrace),
        );
        for (_, label) in PEERS {
            let row = table.rows.iter().find(|row| row.label.starts_with(label));
            let _ = write!(text, " {} |", told_from_chance(table, row));
        }
        text.push('\n');
    }
    text += "\nmemtrace: with everything streamed to a file, or with -q. <: no more than untraced runs differ by among \
             themselves. -: not tried.\n";
    let _ = write!(text, "\n{}", targets(report, Verdict::is_known));
    text
}

/// What a row adds, or less than what where that can't be told from chance.
fn told_from_chance(table: &Table, row: Option<&Row>) -> String {
    let Some(cost) = row.and_then(|row| table.added(row)) else {
        return "-".to_owned();
    };
    let chance = table.chance();
    if cost.median.abs() > chance {
        added(cost.median)
    } else {
        format!("< {}", time(chance))
    }
}

fn machine(report: &Report) -> String {
    let machine = &report.machine;
    let mut text = format!(
        "Measured on {} at commit {}, in {:.0} minutes and {} rounds; in each, every variant has its turn, in \
         another order each time.\n\n",
        machine.date,
        machine.commit,
        report.seconds / 60.0,
        report.rounds
    );
    let virtualised = if machine.virtualised {
        ", virtualised"
    } else {
        ""
    };
    let _ = writeln!(
        text,
        "- {} × {}{virtualised}, {}",
        machine.cpus,
        machine.cpu,
        bytes(machine.memory_bytes as f64)
    );
    let _ = writeln!(
        text,
        "- Linux {}; transparent huge pages: {}, but off in the workloads; load average at the start: {:.2}",
        machine.kernel, machine.thp, machine.load
    );
    let _ = writeln!(text, "- {}", machine.programs.join("; "));
    let _ = writeln!(text, "- {}", machine.pinning);
    for warning in machine.warnings() {
        let _ = writeln!(text, "- **Beware**: {warning}");
    }
    for failure in &report.singles.failures {
        let _ = writeln!(text, "- **Failed**: {}", cell(failure));
    }
    text
}

fn targets(report: &Report, wanted: fn(Verdict) -> bool) -> String {
    let mut text = "| what | target | measured | |\n|---|---|---|---|\n".to_owned();
    let goals = goals::goals(report);
    for goal in goals.iter().filter(|goal| wanted(goal.verdict)) {
        let verdict = match goal.verdict {
            Verdict::Met => "met",
            Verdict::Missed => "**missed**",
            Verdict::NotMeasured => "not measured",
        };
        let _ = writeln!(
            text,
            "| {} | {} | {} | {verdict} |",
            goal.what, goal.target, goal.measured
        );
    }
    text
}

fn events(table: &Table) -> String {
    let event = &table.event;
    let mut text = format!(
        "| attached | a {event} takes (fastest to slowest run) | it adds (quartiles) | in CPU time | by the fastest rounds | × the floor | memtrace \
         adds, of that | tracer's CPU a {event} (of a core) | its memory | events seen |\n|---|---|---|---|---|---|---|---|---|---|\n"
    );
    let memtrace = table.rows.iter().find(|row| row.kind == Kind::Memtrace);
    for row in &table.rows {
        let Some(values) = row.values() else {
            text += &missing(row, 8);
            continue;
        };
        let gain = table.added(row).map_or("-".to_owned(), |s| {
            format!(
                "{} ({} to {})",
                added(s.median),
                added(s.lower_quartile),
                added(s.upper_quartile)
            )
        });
        let in_cpu_time = table.added_in_cpu_time(row);
        let at_best = table
            .added_at_best(row)
            .filter(|_| row.kind != Kind::Untraced);
        let is_other = matches!(row.kind, Kind::Floor | Kind::Peer);
        let to_floor = table
            .floor()
            .filter(|_| matches!(row.kind, Kind::Memtrace | Kind::Peer));
        let to_floor = to_floor.and_then(|floor| table.ratio(row, floor));
        let of_it = memtrace
            .filter(|_| is_other)
            .and_then(|own| table.ratio(own, row));
        let _ = writeln!(
            text,
            "| {} | {} ({} to {}) | {gain} | {} | {} | {} | {} | {} | {} | {} |",
            label(row),
            time(values.median),
            time(values.min),
            time(values.max),
            in_cpu_time.map_or("-".to_owned(), |s| added(s.median)),
            at_best.map_or("-".to_owned(), added),
            to_floor.map_or("-".to_owned(), |ratio| format!("{ratio:.1}")),
            of_it.map_or("-".to_owned(), goals::share),
            cpu(row),
            memory(row),
            seen(row),
        );
    }
    text
}

fn requests(table: &Table) -> String {
    let mut text = "| attached | requests/s (slowest to fastest run) | of untraced | p99 (lowest to highest) | faults/s | \
                    tracer's CPU a request (of a core) | its memory | lost |\n|---|---|---|---|---|---|---|---|\n"
        .to_owned();
    let untraced = table.rows.iter().find(|row| row.kind == Kind::Untraced);
    let untraced = untraced.and_then(Row::values);
    for row in &table.rows {
        let Some(values) = row.values() else {
            text += &missing(row, 6);
            continue;
        };
        let rate = |ns: f64| grouped((1e9 / ns) as u64);
        let p99 = row.spread_of(|sample| sample.p99_us);
        let faults = row.spread_of(|sample| sample.faults_per_second);
        let lost = row.spread_of(|sample| sample.seen.lost.map(|lost| lost as f64));
        let _ = writeln!(
            text,
            "| {} | {} ({} to {}) | {} | {} | {} | {} | {} | {} |",
            label(row),
            rate(values.median),
            rate(values.max),
            rate(values.min),
            untraced.map_or("-".to_owned(), |base| percent(
                base.median / values.median * 100.0
            )),
            p99.map_or("-".to_owned(), |s| format!(
                "{} ({} to {})",
                time(s.median * 1e3),
                time(s.min * 1e3),
                time(s.max * 1e3)
            )),
            faults.map_or("-".to_owned(), |s| grouped(s.median as u64)),
            cpu(row),
            memory(row),
            lost.map_or("-".to_owned(), |s| grouped(s.max as u64)),
        );
    }
    text
}

/// A row without samples says why across the others' columns.
fn missing(row: &Row, empty: usize) -> String {
    let why = row.missing.as_deref().unwrap_or("not measured");
    format!("| {} | {}{}|\n", label(row), cell(why), " |".repeat(empty))
}

fn label(row: &Row) -> String {
    let label = match row.kind {
        Kind::Peer => format!("`{}`", row.label),
        _ => row.label.clone(),
    };
    match (&row.missing, row.samples.len()) {
        (Some(why), 1..) => format!("{label} ({})", cell(why)),
        _ => label,
    }
}

fn cpu(row: &Row) -> String {
    let each = row.spread_of(|sample| sample.cpu_ns_per_event);
    let part = row.spread_of(|sample| sample.cpu_percent);
    match (each, part) {
        (Some(each), Some(part)) => format!("{} ({})", time(each.median), percent(part.median)),
        _ => "-".to_owned(),
    }
}

fn memory(row: &Row) -> String {
    let spread = row.spread_of(|sample| sample.peak_bytes.map(|bytes| bytes as f64));
    spread.map_or("-".to_owned(), |s| bytes(s.median))
}

/// How much of what happened the tracer has told of, in all runs; memtrace also says what it lost.
fn seen(row: &Row) -> String {
    let pairs = |of: fn(&Sample) -> (Option<u64>, Option<u64>)| {
        let both = row
            .samples
            .iter()
            .filter_map(move |sample| match of(sample) {
                (Some(seen), Some(happened)) => Some((seen, happened)),
                _ => None,
            });
        both.fold(None, |sum: Option<(u64, u64)>, (seen, happened)| {
            let (a, b) = sum.unwrap_or((0, 0));
            Some((a + seen, b + happened))
        })
    };
    // Where calls are what is measured, they are what counts.
    let calls = pairs(|sample| (sample.seen.madvise_calls, sample.madvise_calls));
    let Some((seen, happened)) = calls.or_else(|| pairs(|s| (s.seen.faults, s.faults))) else {
        return "-".to_owned();
    };
    // Some count a few more: those that the kernel made on the target's behalf.
    let mut text = if seen >= happened {
        "all".to_owned()
    } else {
        // Rounded down, so that only all is 100.
        let part = (seen as f64 / happened as f64 * 10_000.0).floor() / 100.0;
        format!("{part:.2} %")
    };
    let lost: u64 = row
        .samples
        .iter()
        .filter_map(|sample| sample.seen.lost)
        .sum();
    if lost > 0 {
        let _ = write!(text, ", {} lost", grouped(lost));
    }
    if row
        .samples
        .iter()
        .any(|sample| sample.seen.exact == Some(false))
    {
        text += ", not exact";
    }
    text
}

/// Text that can stand in a cell.
fn cell(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    text.chars()
        .take(300)
        .collect::<String>()
        .replace('|', "\\|")
}

#[cfg(test)]
#[path = "markdown_tests.rs"]
mod tests;
