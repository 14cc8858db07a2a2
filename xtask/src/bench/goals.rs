//! The targets that memtrace has set itself, beside what was measured.
use super::peers::Peer;
use super::report::{Report, Table};
use super::singles::{INTERVALS, PACE};
use super::stats::Spread;
use super::units::{bytes, grouped, percent};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Met,
    Missed,
    NotMeasured,
}

impl Verdict {
    pub fn is_known(self) -> bool {
        self != Self::NotMeasured
    }
}

#[derive(Debug)]
pub struct Goal {
    pub what: String,
    pub target: String,
    pub measured: String,
    pub verdict: Verdict,
}

/// The row that stands for memtrace: every fault streamed and classed.
pub const DEFAULT: &str = "**memtrace --format json -o FILE**";

pub fn goals(report: &Report) -> Vec<Goal> {
    let singles = &report.singles;
    let mut goals = vec![
        ratio(report, "faults", Some(Peer::PerfRecordSoftware), 0.2, "1/5"),
        ratio(report, "faults", None, 2.0, "2 ×"),
        ratio(report, "madvise", Some(Peer::PerfTraceCalls), 0.05, "1/20"),
        ratio(report, "madvise", Some(Peer::Strace), 0.01, "1/100"),
    ];
    goals.push(lost(report));
    goals.push(Goal {
        what: "decoding and the ledger on a recorded stream, one core".to_owned(),
        target: "≥ 20 million sequential, ≥ 5 million random faults/s".to_owned(),
        measured: "not by this benchmark".to_owned(),
        verdict: Verdict::NotMeasured,
    });
    goals.push(paced(report));
    let peaks = singles.intervals.iter().map(|run| run.peak_bytes as f64);
    let all_seen = singles
        .intervals
        .iter()
        .all(|run| run.seen.exact == Some(true));
    goals.push(at_most(
        &format!(
            "memtrace's memory with {} stretches given back",
            grouped(INTERVALS as u64)
        ),
        Spread::of(peaks),
        150e6,
        bytes,
        if all_seen {
            ""
        } else {
            ", and something was lost"
        },
    ));
    let start_peak = Spread::of(singles.idle_peak_bytes.iter().copied())
        .map(|peak| {
            format!(
                "; {} for a moment at the start, when it reads the kernel's types",
                bytes(peak.median)
            )
        })
        .unwrap_or_default();
    goals.push(at_most(
        "memtrace's memory with an idle target",
        Spread::of(singles.idle_rss_bytes.iter().copied()),
        30e6,
        bytes,
        &start_peak,
    ));
    goals.push(at_most(
        "from start to header",
        Spread::of(singles.start_ms.iter().copied()),
        300.0,
        |ms| format!("{ms:.0} ms"),
        "",
    ));
    goals.push(sampling(report));
    goals
}

/// What memtrace adds, by what another one adds, or the empty program.
fn ratio(report: &Report, key: &str, peer: Option<Peer>, limit: f64, limit_text: &str) -> Goal {
    let table = report.table(key);
    let event = if key == "madvise" { "madvise" } else { "fault" };
    let other = peer.map_or("an empty program", Peer::label);
    let rows = table.and_then(|table: &Table| {
        let other = match peer {
            Some(peer) => table.row(peer.label())?,
            None => table.floor()?,
        };
        Some((table, table.row(DEFAULT)?, other))
    });
    let measured = rows.and_then(|(table, own, other)| table.ratio(own, other));
    let beside = [
        (
            "by the fastest rounds",
            rows.and_then(|(table, own, other)| table.ratio_at_best(own, other)),
        ),
        // A tracer that stops its target makes it wait, which is no CPU time.
        (
            "in CPU time",
            rows.filter(|_| peer != Some(Peer::Strace))
                .and_then(|(table, own, other)| table.ratio_in_cpu_time(own, other)),
        ),
    ];
    let beside: Vec<String> = beside
        .into_iter()
        .filter_map(|(how, ratio)| Some(format!("{how} {}", share(ratio?))))
        .collect();
    let mut text = match (measured, rows) {
        (Some(ratio), _) => share(ratio),
        (None, Some(_)) => "too little to tell from chance".to_owned(),
        (None, None) => "-".to_owned(),
    };
    if !beside.is_empty() {
        text += &format!(" ({})", beside.join(", "));
    }
    Goal {
        what: format!("added to a traced {event}, of what `{other}` adds")
            .replace("`an empty program`", "an empty program"),
        target: format!("≤ {limit_text}"),
        measured: text,
        verdict: verdict(measured, limit),
    }
}

/// "1/8.2", or "2.3 ×" where it is more than all of it.
pub fn share(ratio: f64) -> String {
    if ratio <= 0.0 {
        "nothing".to_owned()
    } else if ratio < 1.0 {
        format!("1/{:.1}", 1.0 / ratio)
    } else {
        format!("{ratio:.1} ×")
    }
}

fn lost(report: &Report) -> Goal {
    let runs = &report.singles.race;
    let lost: u64 = runs.iter().filter_map(|run| run.seen.lost).sum();
    Goal {
        what: "faults lost in 60 s of as many as two threads can make".to_owned(),
        target: "0".to_owned(),
        measured: match runs.first() {
            Some(run) => format!(
                "{} of {} ({} a second)",
                grouped(lost),
                grouped(runs.iter().map(|run| run.faults).sum()),
                grouped(run.faults_per_second as u64)
            ),
            None => "only with --long".to_owned(),
        },
        verdict: verdict((!runs.is_empty()).then_some(lost as f64), 0.0),
    }
}

/// A target that can't fault as fast as asked is taken in proportion.
fn paced(report: &Report) -> Goal {
    let runs = &report.singles.paced;
    let rate = Spread::of(runs.iter().map(|run| run.faults_per_second));
    let used = Spread::of(runs.iter().map(|run| run.cpu_percent));
    let at_pace = Spread::of(
        runs.iter()
            .map(|run| run.cpu_percent * PACE as f64 / run.faults_per_second),
    );
    let measured = match (rate, used, at_pace) {
        (Some(rate), Some(_), Some(at_pace)) if rate.median > 0.99 * PACE as f64 => {
            percent(at_pace.median)
        }
        (Some(rate), Some(used), Some(at_pace)) => format!(
            "{} at {}/s, which was all it could make: {} in proportion",
            percent(used.median),
            grouped(rate.median as u64),
            percent(at_pace.median)
        ),
        _ => "-".to_owned(),
    };
    Goal {
        what: format!(
            "CPU of `memtrace -q` at {} sequential faults/s, of one core",
            grouped(PACE as u64)
        ),
        target: "≤ 10 %".to_owned(),
        measured,
        verdict: verdict(at_pace.map(|spread| spread.median), 10.0),
    }
}

/// What looking at lazily freed memory costs: less what memtrace uses anyway.
fn sampling(report: &Report) -> Goal {
    let singles = &report.singles;
    let all = Spread::of(singles.sampling.iter().map(|run| run.cpu_percent));
    let idle = Spread::of(singles.idle_cpu_percent.iter().copied());
    let lazy = singles.sampling.first().map_or(0, |run| run.lazy_bytes);
    let looking = match (all, idle) {
        (Some(all), Some(idle)) => Some((all.median - idle.median).max(0.0)),
        _ => None,
    };
    Goal {
        what: "CPU for looking at lazily freed memory, of one core".to_owned(),
        target: "≤ 1 %".to_owned(),
        measured: match (looking, idle) {
            (Some(looking), Some(idle)) => format!(
                "{} with {}, beside {} when idle",
                percent(looking),
                bytes(lazy as f64),
                percent(idle.median)
            ),
            _ => "-".to_owned(),
        },
        verdict: verdict(looking, 1.0),
    }
}

fn at_most(
    what: &str,
    spread: Option<Spread>,
    limit: f64,
    text: impl Fn(f64) -> String,
    suffix: &str,
) -> Goal {
    Goal {
        what: what.to_owned(),
        target: format!("≤ {}", text(limit)),
        measured: spread.map_or("-".to_owned(), |s| text(s.median) + suffix),
        verdict: verdict(spread.map(|s| s.median), limit),
    }
}

fn verdict(measured: Option<f64>, limit: f64) -> Verdict {
    match measured {
        None => Verdict::NotMeasured,
        Some(value) if value <= limit => Verdict::Met,
        Some(_) => Verdict::Missed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_met_up_to_itself_and_nothing_measured_is_neither() {
        assert_eq!(verdict(Some(10.0), 10.0), Verdict::Met);
        assert_eq!(verdict(Some(10.1), 10.0), Verdict::Missed);
        assert_eq!(verdict(None, 10.0), Verdict::NotMeasured);
    }

    #[test]
    fn a_share_reads_as_a_fraction_or_a_multiple() {
        assert_eq!(share(0.125), "1/8.0");
        assert_eq!(share(2.25), "2.2 ×");
    }
}
