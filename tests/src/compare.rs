//! Comparing quantities that agree only within what the runtimes of real programs do beside their work.

/// Asserts that `part` is `low` to `high` percent of `whole`.
#[track_caller]
pub fn is_percent(part: u64, low: u64, high: u64, whole: u64) {
    let possible = whole * low / 100..=whole * high / 100;
    assert!(possible.contains(&part), "{part} is not in {possible:?}");
}
