//! The summary's lines on what the other advice would have come to.

use crate::units::{Bytes, Count, Nanos};
use crate::view::Summary;
use crate::view::what_if::{Range, ToDontneed, ToFree};

/// Less is nothing to decide by: threads' stacks alone come to that.
const LEAST_BYTES: u64 = 1 << 20;
const LEAST_FAULTS: u64 = 256;

/// A line for each direction in which there is something to decide, and one for what they assume.
pub(super) fn lines(summary: &Summary) -> Vec<String> {
    let Some(what_if) = &summary.what_if else {
        return Vec::new();
    };
    let much = |range: Range, least| range.most.is_none_or(|most| most >= least);
    let matters = |bytes: Option<Range>, faults| {
        bytes.is_none_or(|bytes| much(bytes, LEAST_BYTES)) || much(faults, LEAST_FAULTS)
    };
    let to_dontneed = what_if
        .to_dontneed
        .filter(|it| matters(it.rss_less_bytes, it.more_faults));
    let to_free = what_if
        .to_free
        .filter(|it| matters(Some(it.rss_more_bytes), it.fewer_faults));
    let mut lines: Vec<String> = [to_dontneed.map(dontneed), to_free.map(free)]
        .into_iter()
        .flatten()
        .collect();
    if !lines.is_empty() {
        lines.push(format!("    assumed: {}", what_if.assumptions().join("; ")));
    }
    lines
}

fn dontneed(switched: ToDontneed) -> String {
    let over_time = match (switched.rss_less_mean_bytes, switched.rss_less_peak_bytes) {
        (Some(mean), Some(peak)) => {
            format!(" ({} on average, {} at the most)", Bytes(mean), Bytes(peak))
        }
        _ => String::new(),
    };
    // The end is named by its least: the rest is what CPUs hold back for a moment.
    let rss = switched.rss_less_bytes.map_or(
        "RSS lower by an unknown amount (nobody looked)".to_owned(),
        |bytes| format!("RSS {} lower at the end{over_time}", Bytes(bytes.least)),
    );
    format!(
        "what if MADV_DONTNEED instead of MADV_FREE: {rss}, {} more page faults, {} more CPU time",
        faults(switched.more_faults),
        time(switched.more_cpu_ns),
    )
}

fn free(switched: ToFree) -> String {
    format!(
        "what if MADV_FREE instead of MADV_DONTNEED: RSS {} higher until the kernel takes it, {} fewer page \
         faults, {} less CPU time",
        range(switched.rss_more_bytes, |bytes| Bytes(bytes).to_string()),
        faults(switched.fewer_faults),
        time(switched.less_cpu_ns),
    )
}

fn faults(count: Range) -> String {
    match count {
        Range {
            least: 0,
            most: None,
        } => "an unknown number of".to_owned(),
        count => range(count, |count| Count(count).to_string()),
    }
}

fn time(spent: Option<Range>) -> String {
    match spent {
        None
        | Some(Range {
            least: 0,
            most: None,
        }) => "an unknown amount of".to_owned(),
        Some(spent) => range(spent, |ns| Nanos(ns).to_string()),
    }
}

/// `25 to 30`, `up to 30`, or what is known of it.
fn range(range: Range, show: impl Fn(u64) -> String) -> String {
    match (range.least, range.most) {
        (0, None) => "an unknown amount".to_owned(),
        (least, None) => format!("at least {}", show(least)),
        (least, Some(most)) if least == most => show(most),
        (0, Some(most)) => format!("up to {}", show(most)),
        (least, Some(most)) => format!("{} to {}", show(least), show(most)),
    }
}
