//! The status of an address space in one row.

use anstyle::Style;

use super::palette::Palette;
use super::rows::Row;
use super::words;
use crate::ledger::totals::Basis;
use crate::units::{Bytes, BytesPerSecond, Count, Nanos, PerSecond};
use crate::view::Status;

/// A look younger than this needs no age.
const FRESH_NS: u64 = 1_000_000_000;

/// `pid comm  RSS 1.04G = 252M + 812M lazy  FREE 120M/s  DONTNEED 3.00M/s  refault 12.3M/s  faults 12,004/s  lost 0`.
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
    match status.totals.faults.refaults().basis() {
        Basis::LowerBound => "refault ≥",
        _ => "refault",
    }
}

/// What RSS was made of at the last look, with its age; empty where nobody looked.
fn lazily_free(status: &Status) -> String {
    let Some(lazyfree) = status.lazyfree_bytes else {
        return String::new();
    };
    let effective = known(status.effective_rss_bytes);
    // Of this moment, as far as anyone can see.
    let age = match status.lazyfree_age_ns {
        Some(age) if age > FRESH_NS => format!(" ({} ago)", Nanos(age)),
        _ => String::new(),
    };
    format!(" = {effective:<5} + {:<5} lazy{age}", Bytes(lazyfree))
}

fn known(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "?".to_owned(), |bytes| Bytes(bytes).to_string())
}
