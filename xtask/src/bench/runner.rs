//! The rounds of one workload: each variant once in each, in another order each time.
use anyhow::Result;

use super::report::{Kind, Row, Sample, Table};
use super::setup::Setup;
use super::stats;
use super::variant::Variant;
use super::workload::Workload;

pub fn run(
    workload: Workload,
    rungs: &[&'static str],
    rounds: usize,
    setup: &Setup,
) -> Result<Table> {
    let variants = workload.variants(rungs);
    let mut rows: Vec<Row> = variants.iter().map(|v| row(v, workload)).collect();
    for round in 0..rounds {
        for index in stats::shuffled(variants.len(), round) {
            let (variant, row) = (&variants[index], &mut rows[index]);
            if row.missing.is_some() {
                continue;
            }
            let result = workload.run(variant, setup);
            setup.scratch.clear()?;
            let progress = format!("{} {}/{rounds}", workload.key(), round + 1);
            let label = variant.label().replace('*', "");
            match result {
                Ok(sample) => {
                    eprintln!("{progress}  {label}: {:.0} ns", sample.ns_per_event);
                    row.samples.push(Sample { round, ..sample });
                }
                Err(error) => {
                    // It is not tried again, and the others go on.
                    eprintln!("{progress}  {label}: failed: {error:#}");
                    row.missing = Some(format!("failed: {error:#}"));
                }
            }
        }
    }
    // Nothing of this workload is left for the next one.
    setup.redis.borrow_mut().take();
    Ok(Table {
        key: workload.key().to_owned(),
        title: workload.title().to_owned(),
        about: workload.about(),
        event: workload.event().to_owned(),
        rows,
    })
}

fn row(variant: &Variant, workload: Workload) -> Row {
    Row {
        label: variant.label(),
        kind: match variant {
            Variant::Untraced => Kind::Untraced,
            Variant::UntracedAgain => Kind::UntracedAgain,
            Variant::Empty(_) => Kind::Floor,
            Variant::Memtrace(_) => Kind::Memtrace,
            Variant::Peer(_) => Kind::Peer,
        },
        missing: workload.missing().or_else(|| variant.missing()),
        samples: Vec::new(),
    }
}
