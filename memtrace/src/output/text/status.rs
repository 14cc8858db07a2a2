//! The status of an address space in one row.

use anstyle::Style;

use super::palette::Palette;
use super::rows::Row;
use super::words;
use crate::ledger::totals::Basis;
use crate::units::{Bytes, BytesPerSecond, Count, Nanos, PerSecond};
use crate::view::Status;

/// `pid comm  RSS 1.04G  FREE 120M/s  DONTNEED 3.00M/s  refault 12.3M/s  faults 12,004/s  lost 0`.
///
/// Figures of one kind have one width, so that they stay in their columns from row to row.
pub(super) fn row(status: &Status, palette: &Palette) -> Row {
    let plain = Style::new();
    let mut row = Row::default();
    let who = format!("{} {}", status.pid, words::comm(&status.comm));
    row.push(palette.strong, who);
    row.push(plain, format!("  RSS {:<5}", known(status.rss_bytes)));
    row.push(plain, lazily_free(status));
    let rates = &status.rates;
    for (name, bytes, style) in [
        ("FREE", rates.free_bytes, palette.give_back),
        ("DONTNEED", rates.dontneed_bytes, palette.give_back),
        (refaults(status), rates.refaulted_bytes, palette.refault),
    ] {
        let style = if bytes > 0.0 { style } else { plain };
        row.push(plain, "  ".to_owned());
        row.push(style, format!("{name} {:<7}", BytesPerSecond(bytes)));
    }
    row.push(plain, format!("  faults {:<7}", PerSecond(rates.faults)));
    let lost =
        status.lost.calls + status.lost.faults + status.lost.lifecycle + status.lost.populated;
    let style = if lost > 0 { palette.failure } else { plain };
    row.push(plain, "  ".to_owned());
    row.push(style, format!("lost {}", Count(lost)));
    row
}

/// `refault`, with a mark where its bytes are a lower bound.
fn refaults(status: &Status) -> &'static str {
    match status.totals.faults.refaults().basis {
        Basis::LowerBound => "refault ≥",
        _ => "refault",
    }
}

/// What was sampled of lazily free memory, with its age; empty where nothing was.
fn lazily_free(status: &Status) -> String {
    let Some(lazyfree) = status.lazyfree_bytes else {
        return String::new();
    };
    let effective = known(status.effective_rss_bytes);
    let age = match status.lazyfree_age_ns {
        Some(age) => format!(" ({} ago)", Nanos(age)),
        None => String::new(),
    };
    format!(
        "  LazyFree {:<5}  effective {effective:<5}{age}",
        Bytes(lazyfree)
    )
}

fn known(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "?".to_owned(), |bytes| Bytes(bytes).to_string())
}
