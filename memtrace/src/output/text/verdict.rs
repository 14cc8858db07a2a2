//! The summary's last lines: what the RSS is, why, and what to do.

use super::palette::{Palette, paint};
use crate::output::escape::escape;
use crate::verdict::{Confidence, Kind, Verdict};
use crate::view::Summary;

/// The longest sentence that is shown whole; ours are shorter, but may hold a target's settings.
const COLUMNS: usize = 400;

/// The verdict with its grounds; nothing where nobody judged.
pub(super) fn lines(summary: &Summary, palette: &Palette) -> Vec<String> {
    let Some(verdict) = &summary.verdict else {
        return Vec::new();
    };
    let mut headline = headline(verdict);
    let none = verdict.kind == Kind::NotEnoughData;
    // Said in one line: there may be hundreds of processes of a few milliseconds.
    if none && let Some(why) = verdict.evidence.first() {
        headline += &format!(" ({})", escape(why, COLUMNS));
    }
    let mut lines = vec![paint(palette.strong, headline)];
    let mut add = |mark: &str, text: &str| {
        lines.push(format!("  {mark}{}", escape(text, COLUMNS)));
    };
    for evidence in verdict.evidence.iter().filter(|_| !none) {
        add("", evidence);
    }
    if !summary.runtimes.is_empty() {
        add("runtime: ", &summary.runtimes.to_string());
    }
    for effect in &summary.effects {
        add("", effect);
    }
    for doubt in &verdict.doubts {
        add("but: ", doubt);
    }
    for advice in verdict.advice.iter().filter(|_| !none) {
        add("→ ", advice);
    }
    lines
}

fn headline(verdict: &Verdict) -> String {
    let confidence = match (verdict.kind, verdict.confidence) {
        // That there is not enough is certain.
        (Kind::NotEnoughData, _) => String::new(),
        (_, Confidence::High) => " (high confidence)".to_owned(),
        (_, Confidence::Medium) => " (medium confidence)".to_owned(),
        (_, Confidence::Low) => " (low confidence)".to_owned(),
    };
    format!("verdict: {}{confidence}", verdict.kind.headline())
}
