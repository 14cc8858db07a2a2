//! All that a benchmark has measured, as it is written to JSON: raw values by round, nothing derived.
use serde::{Deserialize, Serialize};

use super::machine::Machine;
use super::seen::Seen;
use super::stats::Spread;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    pub machine: Machine,
    pub rounds: usize,
    /// How long all of it took.
    pub seconds: f64,
    pub tables: Vec<Table>,
    pub singles: Singles,
}

/// One workload under each variant.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Table {
    pub key: String,
    pub title: String,
    pub about: String,
    /// What one of its values is about: a fault, a call, a request.
    pub event: String,
    pub rows: Vec<Row>,
}

/// What is attached in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Untraced,
    UntracedAgain,
    Floor,
    Memtrace,
    Peer,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    pub label: String,
    pub kind: Kind,
    /// Why there are no samples, or no more.
    pub missing: Option<String>,
    pub samples: Vec<Sample>,
}

/// One run of one variant.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Sample {
    pub round: usize,
    /// The measured program's own time.
    pub ns_per_event: f64,
    /// The same in its CPU time.
    pub own_cpu_ns_per_event: Option<f64>,
    /// Of the quickest round in the run.
    pub best_ns_per_event: Option<f64>,
    /// Of the same process without the tracer, before it came and after it had gone.
    pub untraced_ns_per_event: Option<f64>,
    pub untraced_own_cpu_ns_per_event: Option<f64>,
    /// Of requests only.
    pub p99_us: Option<f64>,
    /// Page faults of the measured program, for each second of its own.
    pub faults_per_second: Option<f64>,
    /// The tracer's, for each event of the measured program.
    pub cpu_ns_per_event: Option<f64>,
    /// The same as a part of one core, while the measured program acted.
    pub cpu_percent: Option<f64>,
    pub rss_bytes: Option<u64>,
    pub peak_bytes: Option<u64>,
    pub start_ms: Option<f64>,
    /// What there was to see.
    pub faults: Option<u64>,
    pub madvise_calls: Option<u64>,
    pub seen: Seen,
}

/// Measurements of memtrace alone, one value for each run of it; empty where it was not measured.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Singles {
    pub start_ms: Vec<f64>,
    #[serde(default)]
    pub idle_rss_bytes: Vec<f64>,
    pub idle_peak_bytes: Vec<f64>,
    pub idle_cpu_percent: Vec<f64>,
    pub paced: Vec<Paced>,
    pub sampling: Vec<Sampling>,
    pub intervals: Vec<Intervals>,
    pub race: Vec<Race>,
    /// What could not be measured, and why.
    pub failures: Vec<String>,
}

/// `memtrace -q` while the target faults at a given rate.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Paced {
    pub faults_per_second: f64,
    pub cpu_percent: f64,
    pub seen: Seen,
}

/// `memtrace -q` while the target holds lazily freed memory and does nothing.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Sampling {
    pub lazy_bytes: u64,
    pub seconds: f64,
    pub cpu_percent: f64,
}

/// `memtrace -q` with many stretches given back.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Intervals {
    pub intervals: u64,
    pub peak_bytes: u64,
    pub seen: Seen,
}

/// memtrace under as many faults as two threads can make.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Race {
    pub seconds: f64,
    pub faults_per_second: f64,
    pub faults: u64,
    pub seen: Seen,
}

impl Row {
    pub fn values(&self) -> Option<Spread> {
        Spread::of(self.samples.iter().map(|sample| sample.ns_per_event))
    }

    /// The quickest round of all runs.
    fn best(&self) -> Option<f64> {
        Some(self.spread_of(|sample| sample.best_ns_per_event)?.min)
    }

    pub fn spread_of(&self, value: impl Fn(&Sample) -> Option<f64>) -> Option<Spread> {
        Spread::of(self.samples.iter().filter_map(value))
    }
}

impl Table {
    /// What a row adds: each run less what the same process took without the tracer, or where it
    /// was not measured without, less the untraced runs of the same round.
    pub fn added(&self, row: &Row) -> Option<Spread> {
        self.added_in(
            row,
            |sample| Some(sample.ns_per_event),
            |sample| sample.untraced_ns_per_event,
        )
    }

    /// The same in CPU time, in which other programs on the same CPU have no part; nor has the time
    /// in which the target is stopped.
    pub fn added_in_cpu_time(&self, row: &Row) -> Option<Spread> {
        self.added_in(
            row,
            |sample| sample.own_cpu_ns_per_event,
            |sample| sample.untraced_own_cpu_ns_per_event,
        )
    }

    fn added_in(
        &self,
        row: &Row,
        of: impl Fn(&Sample) -> Option<f64>,
        without: impl Fn(&Sample) -> Option<f64>,
    ) -> Option<Spread> {
        Spread::of(row.samples.iter().filter_map(|sample| {
            if let Some(without) = without(sample) {
                return Some(of(sample)? - without);
            }
            let base = match row.kind {
                Kind::Untraced => return None,
                Kind::UntracedAgain => self.untraced(sample.round, &[Kind::Untraced], &of),
                _ => {
                    let both = [Kind::Untraced, Kind::UntracedAgain];
                    self.untraced(sample.round, &both, &of)
                }
            };
            Some(of(sample)? - base?)
        }))
    }

    /// What untraced runs differ by: anything smaller may be chance.
    pub fn chance(&self) -> f64 {
        let untraced = [Kind::UntracedAgain, Kind::Untraced];
        let mut rows = self.rows.iter().filter(|row| untraced.contains(&row.kind));
        let differences = rows.find_map(|row| self.added(row));
        differences.map_or(0.0, |s| s.lower_quartile.abs().max(s.upper_quartile.abs()))
    }

    /// What a row adds by the quickest rounds of all its runs and of the untraced ones: as a
    /// disturbance only ever adds, these have the fewest.
    pub fn added_at_best(&self, row: &Row) -> Option<f64> {
        let best = |kinds: &[Kind]| {
            let rows = self.rows.iter().filter(|row| kinds.contains(&row.kind));
            rows.filter_map(Row::best).min_by(f64::total_cmp)
        };
        Some(row.best()? - best(&[Kind::Untraced, Kind::UntracedAgain])?)
    }

    /// The mean of the untraced runs of a round.
    fn untraced(
        &self,
        round: usize,
        kinds: &[Kind],
        of: impl Fn(&Sample) -> Option<f64>,
    ) -> Option<f64> {
        let rows = self.rows.iter().filter(|row| kinds.contains(&row.kind));
        let values: Vec<f64> = rows
            .flat_map(|row| &row.samples)
            .filter(|sample| sample.round == round)
            .filter_map(of)
            .collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    }

    pub fn row(&self, label: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.label == label)
    }

    /// How much a row adds for each nanosecond that another one adds. None where the other adds
    /// nothing that could be told from chance.
    pub fn ratio(&self, row: &Row, to: &Row) -> Option<f64> {
        let (of, to) = (self.added(row)?.median, self.added(to)?.median);
        (to > self.chance()).then(|| of.max(0.0) / to)
    }

    /// The same in CPU time.
    pub fn ratio_in_cpu_time(&self, row: &Row, to: &Row) -> Option<f64> {
        let (of, to) = (
            self.added_in_cpu_time(row)?.median,
            self.added_in_cpu_time(to)?.median,
        );
        (of > 0.0 && to > 0.0).then(|| of / to)
    }

    /// The same by the quickest rounds.
    pub fn ratio_at_best(&self, row: &Row, to: &Row) -> Option<f64> {
        let (of, to) = (self.added_at_best(row)?, self.added_at_best(to)?);
        (of > 0.0 && to > 0.0).then(|| of / to)
    }

    /// The empty program on the cheapest hook, which comes first.
    pub fn floor(&self) -> Option<&Row> {
        self.rows.iter().find(|row| row.kind == Kind::Floor)
    }
}

impl Report {
    pub fn table(&self, key: &str) -> Option<&Table> {
        self.tables.iter().find(|table| table.key == key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(kind: Kind, values: &[f64]) -> Row {
        let samples = values
            .iter()
            .enumerate()
            .map(|(round, &ns_per_event)| Sample {
                round,
                ns_per_event,
                ..Sample::default()
            });
        Row {
            label: format!("{kind:?}"),
            kind,
            missing: None,
            samples: samples.collect(),
        }
    }

    fn table(rows: Vec<Row>) -> Table {
        Table {
            key: String::new(),
            title: String::new(),
            about: String::new(),
            event: String::new(),
            rows,
        }
    }

    #[test]
    fn what_is_added_is_compared_with_the_same_round() {
        // The machine is twice as slow in the second round; what is added is 10 and 30.
        let table = table(vec![
            row(Kind::Untraced, &[100.0, 200.0]),
            row(Kind::UntracedAgain, &[104.0, 200.0]),
            row(Kind::Memtrace, &[112.0, 230.0]),
        ]);
        let added = table.added(&table.rows[2]).expect("both rounds have it");
        assert_eq!((added.min, added.max), (10.0, 30.0));
        let chance = table.added(&table.rows[1]).expect("both rounds have it");
        assert_eq!((chance.min, chance.max), (0.0, 4.0));
        assert_eq!(table.added(&table.rows[0]), None);
    }

    #[test]
    fn a_ratio_to_what_adds_nothing_is_not_given() {
        let table = table(vec![
            row(Kind::Untraced, &[100.0]),
            row(Kind::Floor, &[99.0]),
            row(Kind::Memtrace, &[110.0]),
            row(Kind::Peer, &[150.0]),
        ]);
        assert_eq!(table.ratio(&table.rows[2], &table.rows[1]), None);
        assert_eq!(table.ratio(&table.rows[2], &table.rows[3]), Some(0.2));
    }
}
