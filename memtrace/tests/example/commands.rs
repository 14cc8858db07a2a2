//! What a build tool ran, summed up by name.

use super::summaries::{class, mapped, release};
use super::*;
use memtrace::view::commands::Command;

fn command(comm: Option<&str>, images: u64, faults: u64) -> Command {
    let mut totals = Totals::default();
    class(&mut totals, FaultClass::FirstTouch, faults, Basis::Exact);
    class(
        &mut totals,
        FaultClass::File,
        faults / 10,
        Basis::LowerBound,
    );
    totals.map.mmap = mapped(8 * images, 0, 3 * images * M);
    Command {
        comm: comm.map(str::to_owned),
        exe: None,
        images,
        start_ns: START + 5 * MS,
        end_ns: START + 4000 * MS,
        exact: true,
        peak_rss_bytes: None,
        notes: Vec::new(),
        totals,
    }
}

/// Of three names, one of which would act on a terminal, and of those beyond.
pub fn folded() -> Vec<Command> {
    let mut compiler = command(Some("cc1plus"), 1800, 21_000_000);
    compiler.exe = Some("/usr/libexec/gcc/x86_64-linux-gnu/12/cc1plus".to_owned());
    compiler.peak_rss_bytes = Some(600 * M);
    compiler.notes =
        vec!["the mappings of 3 of 1,800 address spaces could not be read in time: faults on what exec mapped have no class"
            .to_owned()];
    let dontneed = release(1800, 0, 900 * M);
    compiler.totals.advice.insert(Advice::DONTNEED, dontneed);
    class(
        &mut compiler.totals,
        FaultClass::RefaultDontneed,
        5000,
        Basis::LowerBound,
    );
    vec![
        compiler,
        command(Some(HOSTILE), 1, 12),
        command(Some("true"), 197_199, 4_000_000),
        command(None, 1000, 40_000),
    ]
}

/// More names than a table has rows.
pub fn many() -> Vec<Command> {
    (0..30)
        .map(|n| command(Some(&format!("conftest{n}")), 1, 1000 - n))
        .collect()
}
