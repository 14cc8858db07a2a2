//! What the tables look like, from a small report made by hand.
use super::*;
use crate::bench::machine::Machine;
use crate::bench::report::Singles;
use crate::bench::seen::Seen;

fn row(label: &str, kind: Kind, ns_per_event: &[f64], seen: Seen) -> Row {
    let samples = ns_per_event
        .iter()
        .enumerate()
        .map(|(round, &ns_per_event)| Sample {
            round,
            ns_per_event,
            own_cpu_ns_per_event: Some(ns_per_event / 2.0 + 500.0),
            best_ns_per_event: Some(ns_per_event - 10.0),
            faults: Some(1000),
            seen,
            ..Sample::default()
        });
    Row {
        label: label.to_owned(),
        kind,
        missing: None,
        samples: samples.collect(),
    }
}

fn report() -> Report {
    let nothing = Seen::default();
    let saw = |faults, lost| Seen {
        faults: Some(faults),
        lost: Some(lost),
        exact: Some(lost == 0),
        ..nothing
    };
    let mut absent = row("bpftrace, count", Kind::Peer, &[], nothing);
    absent.missing = Some("not installed: apt-get install bpftrace".to_owned());
    Report {
        machine: Machine {
            date: "2026-01-02 03:04 UTC".to_owned(),
            commit: "0123abc".to_owned(),
            cpu: "A CPU".to_owned(),
            cpus: 2,
            memory_bytes: 8_000_000_000,
            kernel: "6.18.0".to_owned(),
            virtualised: true,
            thp: "madvise".to_owned(),
            load: 0.1,
            pinning: "pinned".to_owned(),
            programs: vec!["perf version 6.18".to_owned()],
        },
        rounds: 3,
        seconds: 90.0,
        tables: vec![Table {
            key: "faults".to_owned(),
            title: "A fault".to_owned(),
            about: "It faults.".to_owned(),
            event: "fault".to_owned(),
            rows: vec![
                row(
                    "nothing",
                    Kind::Untraced,
                    &[1000.0, 1000.0, 1000.0],
                    nothing,
                ),
                row("empty", Kind::Floor, &[1050.0, 1050.0, 1050.0], nothing),
                row(
                    goals::DEFAULT,
                    Kind::Memtrace,
                    &[1100.0, 1110.0, 1090.0],
                    saw(1000, 0),
                ),
                row(
                    "perf record -e page-faults -c 1 -d",
                    Kind::Peer,
                    &[1600.0, 1500.0, 1700.0],
                    saw(999, 1),
                ),
                absent,
            ],
        }],
        singles: Singles::default(),
    }
}

#[test]
fn a_table_has_what_is_added_and_by_what_it_is_more() {
    let text = full(&report());
    let line = |start: &str| {
        let line = text.lines().find(|line| line.starts_with(start));
        line.unwrap_or_else(|| panic!("no line begins with {start} in\n{text}"))
    };
    assert_eq!(
        line("| **memtrace"),
        "| **memtrace --format json -o FILE** | 1.10 µs (1.09 µs to 1.11 µs) | +100 ns (+95.0 ns to +105 ns) | +50.0 ns | +90.0 ns | 2.0 | - | - \
         | - | all |"
    );
    assert_eq!(
        line("| `perf"),
        "| `perf record -e page-faults -c 1 -d` | 1.60 µs (1.50 µs to 1.70 µs) | +600 ns (+550 ns to +650 ns) | +300 ns | +500 ns | \
         12.0 | 1/6.0 | - | - | 99.90 %, 3 lost, not exact |"
    );
}

#[test]
fn what_is_not_installed_is_a_row_of_as_many_cells() {
    let text = full(&report());
    let line = text
        .lines()
        .find(|line| line.contains("apt-get install bpftrace"));
    let cells = line.expect("it is not left out").matches('|').count();
    let heading = text.lines().find(|line| line.starts_with("| attached"));
    assert_eq!(
        cells,
        heading.expect("there is a table").matches('|').count()
    );
}

#[test]
fn targets_are_met_or_missed_or_not_measured() {
    let text = targets(&report(), |_| true);
    assert!(
        text.contains(
            "adds | ≤ 1/5 | 1/6.0 (by the fastest rounds 1/5.6, in CPU time 1/6.0) | met |"
        ),
        "{text}"
    );
    assert!(
        text.contains(
            "an empty program adds | ≤ 2 × | 2.0 × (by the fastest rounds 1.8 ×, in CPU time 2.0 ×) | met |"
        ),
        "{text}"
    );
    assert!(text.contains("| ≤ 1/20 | - | not measured |"), "{text}");
}

#[test]
fn the_short_form_names_the_machine_and_has_a_row_for_each_workload() {
    let text = short(&report());
    assert!(!text.contains("not measured"), "{text}");
    assert!(
        text.contains("a virtual machine with 2 CPUs (A CPU), Linux 6.18.0"),
        "{text}"
    );
    assert!(
        text.contains("| A fault | 1.00 µs | +50.0 ns | +100 ns | +600 ns | - | - | - |"),
        "{text}"
    );
}

#[test]
fn the_short_form_shows_no_figure_that_is_chance() {
    let mut report = report();
    let nothing = Seen::default();
    let rows = &mut report.tables[0].rows;
    // Half of its differences are 40 ns or more.
    rows.push(row(
        "again",
        Kind::UntracedAgain,
        &[1080.0, 920.0, 1000.0],
        nothing,
    ));
    rows.push(row(
        "strace -f",
        Kind::Peer,
        &[1070.0, 990.0, 1030.0],
        nothing,
    ));
    let text = short(&report);
    assert!(text.contains(" | - | < 40.0 ns |\n"), "{text}");
}

#[test]
fn a_report_survives_being_written_and_read() {
    let json = serde_json::to_string(&report()).expect("it can be written");
    let read: Report = serde_json::from_str(&json).expect("it can be read");
    assert_eq!(full(&read), full(&report()));
}

#[test]
fn an_error_message_cannot_break_a_table() {
    assert_eq!(cell("a | b\n  c"), "a \\| b c");
}
