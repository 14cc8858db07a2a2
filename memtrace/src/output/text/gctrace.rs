//! What Go's runtime told: its lines in a compact form, and what they come to.

use crate::golang::gctrace::digest::Digest;
use crate::golang::gctrace::{Event, GcLine, ScavengerLine};
use crate::output::escape::escape;
use crate::units::{Bytes, Count, Nanos, counted};
use crate::view::Summary;
use crate::view::gctrace::Beside;

/// The longest name of a file that is shown.
const SOURCE_COLUMNS: usize = 80;

/// What a line is about, and what it says.
pub(super) fn words(event: &Event) -> (String, String) {
    match event {
        Event::Gc(line) => (format!("gc {}", line.cycle), collection(line)),
        Event::Scavenger(line) => ("scavenger".to_owned(), scavenger(line)),
    }
}

fn collection(line: &GcLine) -> String {
    let mut parts = vec![
        format!(
            "heap {} → {}, {} live",
            Bytes(line.heap_before_bytes),
            Bytes(line.heap_after_bytes),
            Bytes(line.heap_live_bytes)
        ),
        goal(line),
        format!("took {}", Nanos(line.clock_ns)),
    ];
    if let Some(percent) = line.cpu_percent {
        parts.push(format!("{percent}% of CPU so far"));
    }
    if line.forced {
        parts.push("forced".to_owned());
    }
    parts.join(", ")
}

fn goal(line: &GcLine) -> String {
    match line.goal_bytes {
        Some(bytes) => format!("goal {}", Bytes(bytes)),
        None => "no goal".to_owned(),
    }
}

fn scavenger(line: &ScavengerLine) -> String {
    let sizes = [
        ("gave back", line.work_bytes),
        ("released now", line.released_bytes),
        ("in use", line.in_use_bytes),
        ("idle", line.idle_bytes),
        ("consumed", line.consumed_bytes),
    ];
    let mut parts: Vec<String> = sizes
        .into_iter()
        .filter_map(|(name, bytes)| Some(format!("{name} {}", Bytes(bytes?))))
        .collect();
    if let Some(percent) = line.used_percent {
        parts.push(format!("{percent}% of the rest in use"));
    }
    if line.forced {
        parts.push("forced".to_owned());
    }
    parts.join(", ")
}

/// The summary's lines; none where nobody listened.
pub(super) fn lines(summary: &Summary) -> Vec<String> {
    let Some(trace) = &summary.gctrace else {
        return Vec::new();
    };
    let source = source(&trace.source);
    let digest = &trace.digest;
    let mut lines = vec![match &digest.last {
        Some(last) => format!("gctrace: {}", told(digest, last)),
        None => format!(
            "gctrace: no gc line in {source} ({}): Go writes them with GODEBUG=gctrace=1 in the \
             environment of the program{}",
            counted(digest.passed_over, "other line"),
            given_back(digest).map_or(String::new(), |text| format!("; {text}")),
        ),
    }];
    if let Some(beside) = trace.beside(&summary.rss) {
        lines.push(beside_rss(&beside));
    }
    if digest.steps_back > 0 {
        lines.push(format!(
            "gctrace: the cycles' numbers went back {}: several processes write to {source}, or one was \
             started anew, and these figures are of them all",
            times(digest.steps_back)
        ));
    }
    lines
}

fn source(name: &str) -> String {
    match name {
        "-" => "standard input".to_owned(),
        "stderr" => "the command's stderr".to_owned(),
        file => escape(file, SOURCE_COLUMNS),
    }
}

fn told(digest: &Digest, last: &GcLine) -> String {
    let before = match digest.cycles_before {
        0 => String::new(),
        before if before == digest.cycles => " (before the trace)".to_owned(),
        before => format!(" ({} of them before the trace)", Count(before)),
    };
    let peak = digest.peak_live_bytes.unwrap_or(last.heap_live_bytes);
    let mut text = format!(
        "{}{before}; live heap {} after the last (peak {}), {}",
        counted(digest.cycles, "GC cycle"),
        Bytes(last.heap_live_bytes),
        Bytes(peak),
        goal(last),
    );
    if let Some(given_back) = given_back(digest) {
        text += &format!("; {given_back}");
    }
    text
}

/// What the scavenger says; None where it said nothing.
fn given_back(digest: &Digest) -> Option<String> {
    let consumed = match digest.consumed_bytes {
        Some(bytes) => format!(", {} consumed", Bytes(bytes)),
        None => String::new(),
    };
    // The work of all lines is less than that: some versions tell of a part of it only.
    match (digest.released_bytes, digest.scavenged_bytes) {
        (Some(now), _) => Some(format!(
            "the scavenger has {} released{consumed}",
            Bytes(now)
        )),
        (None, Some(all)) => Some(format!("the scavenger gave back {} in all", Bytes(all))),
        (None, None) => None,
    }
}

fn beside_rss(beside: &Beside) -> String {
    let (live, rss) = (Bytes(beside.live_bytes), Bytes(beside.rss_bytes));
    if beside.live_bytes > beside.rss_bytes {
        return format!(
            "    the live heap of {live} is more than the RSS of {rss}: it has shrunk since the last \
             collection, is swapped out, or is another process's"
        );
    }
    let rest = Bytes(beside.rss_bytes - beside.live_bytes);
    let lazy = match beside.lazyfree_bytes {
        Some(bytes) if bytes > 0 => format!(
            "{} is lazily free (given back, and still resident), ",
            Bytes(bytes)
        ),
        _ => String::new(),
    };
    format!(
        "    RSS is {rss}, and {rest} of it is not live heap: {lazy}the rest is free heap that Go keeps, its \
         stacks, and memory that is not Go's"
    )
}

fn times(count: u64) -> String {
    match count {
        1 => "once".to_owned(),
        count => format!("{} times", Count(count)),
    }
}
