//! The summary's table of Go's own books beside the kernel's.

use super::table::Table;
use crate::golang::Report;
use crate::golang::books::{Line, Row, Source};
use crate::output::escape::escape;
use crate::units::{Bytes, Nanos, Percent, counted, signed_bytes};

/// The longest URL or message that is shown whole.
const COLUMNS: usize = 300;
/// A sentence may be long; it holds names of mappings, which are the target's.
const SENTENCE: usize = 1200;
/// Read as good as at the end.
const STALE_NS: u64 = 1_000_000_000;

/// Nothing where nobody asked.
pub(super) fn lines(report: Option<&Report>) -> Vec<String> {
    let Some(report) = report else {
        return Vec::new();
    };
    let mut lines = Vec::new();
    match &report.table {
        Some(table) => {
            let age = match table.age_ns {
                age if age >= STALE_NS => format!(", {} before the end", Nanos(age)),
                _ => String::new(),
            };
            lines.push(format!(
                "Go's books beside the RSS (MemStats and smaps, read {} apart{age}):",
                Nanos(table.apart_ns)
            ));
            lines.extend(rows(&table.books.lines, table.books.rss_bytes));
        }
        None => lines.push(format!("Go's books: no table: {}", no_table(report))),
    }
    lines.extend(
        report
            .sentences
            .iter()
            .map(|text| format!("  {}", escape(text, SENTENCE))),
    );
    // Where that is why there is no table, it is said already.
    if (report.table.is_some() || report.no_table.is_some())
        && report.failed > 0
        && let Some(problem) = &report.problem
    {
        lines.push(format!("note: {}", unanswered(report, problem)));
    }
    lines
}

fn no_table(report: &Report) -> String {
    match (&report.no_table, &report.problem) {
        (Some(why), _) => escape(why, COLUMNS),
        (None, Some(problem)) => unanswered(report, problem),
        (None, None) => format!("no answer came from {}", escape(&report.url, COLUMNS)),
    }
}

fn unanswered(report: &Report, problem: &str) -> String {
    format!(
        "{} of {} for MemStats had no answer of use, the last: {}",
        report.failed,
        counted(report.asked, "question"),
        escape(problem, COLUMNS)
    )
}

fn rows(lines: &[Line], rss_bytes: u64) -> Vec<String> {
    let mut table = Table::new(&["", "of RSS", ""]);
    let share = |bytes: i64| {
        let sign = if bytes < 0 { "-" } else { "" };
        let part = bytes.unsigned_abs() as f64 / rss_bytes.max(1) as f64;
        format!("{sign}{}", Percent(part))
    };
    for line in lines {
        let always = matches!(line.row, Row::HeapInUse | Row::Unexplained);
        if line.bytes == 0 && !always {
            continue;
        }
        let bytes = match (line.row, u64::try_from(line.bytes)) {
            (Row::Unexplained, _) | (_, Err(_)) => signed_bytes(line.bytes),
            (_, Ok(bytes)) => Bytes(bytes).to_string(),
        };
        let mark = match line.source {
            Source::AtMost => "≤",
            Source::AtLeast => "≥",
            _ => "",
        };
        table.push(vec![
            format!("  {}", name(line.row)),
            format!("{mark}{bytes}"),
            share(line.bytes),
            String::new(),
        ]);
    }
    table.push(vec![
        "  = RSS".to_owned(),
        Bytes(rss_bytes).to_string(),
        share(i64::try_from(rss_bytes).unwrap_or(i64::MAX)),
        String::new(),
    ]);
    table.lines().split_off(1)
}

fn name(row: Row) -> &'static str {
    match row {
        Row::HeapInUse => "heap in use (HeapInuse)",
        Row::HeapIdle => "heap idle, not given back (HeapIdle - HeapReleased)",
        Row::HeapLazilyFree => "heap given back, still resident (lazily free)",
        Row::Stacks => "goroutine stacks (StackInuse)",
        Row::Metadata => "the runtime's own (MSpan, MCache, GC, other)",
        Row::CHeap => "not Go's: [heap] of C's malloc",
        Row::OtherAnon => "not Go's: other anonymous memory (C's malloc, mmap)",
        Row::Files => "not Go's: mapped files, the program's code included",
        Row::Shared => "not Go's: shared memory",
        Row::Rest => "not Go's: first stack, vdso",
        Row::Unexplained => "unexplained: neither side accounts for it",
    }
}
