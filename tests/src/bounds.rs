//! What a figure of memtrace's must be, given the truth: equal to it, or a bound on its proper side.

use crate::record::Record;

/// Bases whose figures are the truth itself.
const EQUAL: [&str; 3] = ["exact", "derived", "measured"];

/// Asserts that what an advice or an unmapping released encloses the truth, and is it where its
/// basis says so. Returns the basis.
#[track_caller]
pub fn released<'a>(summary: &'a Record, path: &str, truth: u64) -> &'a str {
    let most = summary.count(&format!("{path}.released_bytes"));
    let least = summary.count(&format!("{path}.released_at_least_bytes"));
    let basis = summary.text(&format!("{path}.released_basis"));
    enclosed(
        summary,
        &format!("{path} released"),
        (least, truth, most),
        basis,
    );
    basis
}

/// The same of the bytes that the faults of a class populated.
#[track_caller]
pub fn populated<'a>(summary: &'a Record, class: &str, truth: u64) -> &'a str {
    let least = summary.count(&format!("faults.bytes.{class}"));
    let most = summary.count(&format!("faults.bytes_at_most.{class}"));
    let basis = summary.text(&format!("faults.class_basis.{class}"));
    enclosed(summary, class, (least, truth, most), basis);
    basis
}

#[track_caller]
fn enclosed(summary: &Record, what: &str, (least, truth, most): (u64, u64, u64), basis: &str) {
    assert!(
        least <= truth && truth <= most,
        "{what}: {truth} bytes, not between {least} and {most} in\n{summary}"
    );
    assert!(
        !EQUAL.contains(&basis) || (least, most) == (truth, truth),
        "{what}: {truth} bytes, and {least} to {most} are called {basis} in\n{summary}"
    );
}
