//! Random programs of fixed seeds: what the ledger says of them is what the kernel's page tables showed.
//!
//! `cargo xtask fuzz-ledger` tries new seeds, and makes a program small in which something differs.

use memtrace_tests::binary;
use memtrace_tests::differential::mode::Mode;
use memtrace_tests::differential::play::Plan;
use memtrace_tests::differential::session::Programs;
use memtrace_tests::differential::settings::Sizes;
use memtrace_tests::differential::trial::trial;
use memtrace_tests::needs;
use memtrace_tests::needs::Need;

/// What is marked while the last look goes on may be reused without being in its bound.
const NOT_YET: [&str; 2] = [
    "lazy_balance.reused_silently_bytes (upper_bound)",
    // What comes right after the header comes before the counting.
    "unfaulted_bytes (measured)",
];

/// The whole balance of MADV_FREE is no bound yet with large folios, nor where memory was given back before.
const NOT_YET_THERE: &str = "lazy_balance.";

fn programs() -> Programs {
    Programs {
        memtrace: binary::memtrace().to_owned(),
        program: binary::ledger_program(env!("CARGO_BIN_EXE_ledger-program")),
    }
}

/// Plays the seeds in one run of memtrace where it launches the program, else each in its own.
fn agree(mode: &str, seeds: &[u64]) {
    let modes = Mode::named(mode);
    let [mode] = &*modes else {
        panic!("{mode} names {} modes", modes.len());
    };
    let together = if mode.way.attach { 1 } else { seeds.len() };
    let mut faults = 0;
    for seeds in seeds.chunks(together) {
        let plans: Vec<Plan> = seeds.iter().map(|&seed| Plan::Random { seed }).collect();
        let outcomes = trial(&programs(), mode, &plans).unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(outcomes.len(), seeds.len());
        for (seed, outcome) in seeds.iter().zip(outcomes) {
            faults += outcome.faults;
            let name = mode.name();
            let told = outcome.differences.iter();
            let told = told.filter(|one| !NOT_YET.contains(&&*one.kind));
            let known = mode.way.attach || mode.mix.sizes != Sizes::Untouched;
            let told = told.filter(|one| !known || !one.kind.starts_with(NOT_YET_THERE));
            let told: Vec<String> = told.map(ToString::to_string).collect();
            assert!(told.is_empty(), "{name} seed {seed}: {told:#?}");
            // A program that does nothing agrees with anything.
            assert!(outcome.processes > 0 && !outcome.checked.is_empty());
        }
    }
    assert!(faults > 0, "no faults were traced in {}", mode.name());
}

#[test]
fn programs_launched_by_memtrace_agree_with_their_page_tables() {
    needs!(
        Need::Tracing,
        Need::NoSwap,
        Need::ReclaimCount,
        Need::MovesSeveral
    );
    agree("anon/launch", &[1, 2, 3, 4, 5, 6, 7, 8]);
    agree("offer/launch", &[1, 2, 3, 4, 5, 6, 7, 8]);
    agree("advice/launch", &[3, 6, 8, 10, 12, 14]);
    agree("kernel/launch", &[1, 2, 3, 4, 5, 6, 7, 8]);
    agree("protect/launch", &[1, 2, 3, 4, 5, 6, 7, 8]);
    agree("heap/launch", &[1, 2, 3, 4, 5, 6, 7, 8]);
    agree("lock/launch", &[1, 2, 4, 5, 8]);
    agree("file/launch", &[7, 19, 21, 25, 31]);
    agree("shared/launch", &[2, 4, 14, 23, 29]);
    agree("fork/launch", &[1, 5, 6, 10, 11]);
    agree("threads/launch", &[1, 2, 3, 4, 5, 6]);
    agree("garbage/launch", &[1, 11, 12, 18]);
}

#[test]
fn programs_with_large_folios_agree_with_their_page_tables() {
    needs!(
        Need::Tracing,
        Need::NoSwap,
        Need::ReclaimCount,
        Need::MovesSeveral
    );
    agree("thp/launch", &[1, 3, 4, 5, 7]);
    agree("mthp64/launch", &[1, 5, 7, 9, 11]);
    agree("thp/launch-exact", &[1, 4, 5, 13]);
}

#[test]
fn programs_whose_bytes_are_measured_agree_with_their_page_tables() {
    needs!(
        Need::Tracing,
        Need::NoSwap,
        Need::ReclaimCount,
        Need::MovesSeveral
    );
    agree("offer/launch-exact", &[1, 2, 3, 4, 5, 6]);
    agree("kernel/launch-exact", &[1, 2, 3, 4, 5, 6]);
    agree("file/launch-exact", &[7, 12, 21]);
    agree("fork/launch-exact", &[1, 5, 6, 10]);
}

#[test]
fn programs_that_were_attached_to_agree_with_their_page_tables() {
    needs!(
        Need::Tracing,
        Need::NoSwap,
        Need::ReclaimCount,
        Need::MovesSeveral
    );
    agree("anon/attach", &[1]);
    agree("kernel/attach", &[5]);
    agree("protect/attach", &[3]);
    agree("shared/attach", &[4]);
    agree("lock/attach", &[2]);
    agree("fork/attach", &[1]);
    agree("offer/attach-exact", &[1]);
    agree("advice/attach-exact", &[3]);
}
