//! The tests that could not run on this machine: each appends a line to a file, read at the end.
use std::collections::BTreeSet;
use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

/// Names the file to the tests. What they print is captured by the test harness.
pub const FILE: &str = "MEMTRACE_NOT_RUN";

/// Under MEMTRACE_TEST_ALL=1, as in CI, whatever cannot be tested is a failure.
pub fn is_forbidden() -> bool {
    env::var_os("MEMTRACE_TEST_ALL").is_some_and(|value| value == "1")
}

/// One line per test, as in "NOT RUN: name: why; how to get it".
pub fn read(path: &Path) -> Result<BTreeSet<String>> {
    let text = fs::read_to_string(path)
        .with_context(|| format!("cannot read which tests did not run in {}", path.display()))?;
    Ok(text
        .lines()
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect())
}

pub fn summary(lines: &BTreeSet<String>) -> String {
    if lines.is_empty() {
        return "\nEvery test ran.\n".to_owned();
    }
    let mut text = format!("\n{} did not run:\n", lines.len());
    for line in lines {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {line}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_lists_what_did_not_run_or_says_that_all_did() {
        let line = "NOT RUN: a: no program go; apt-get install golang-go".to_owned();
        assert_eq!(
            summary(&BTreeSet::from([line.clone()])),
            format!("\n1 did not run:\n  {line}\n")
        );
        assert_eq!(summary(&BTreeSet::new()), "\nEvery test ran.\n");
    }
}
