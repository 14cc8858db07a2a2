//! What `cargo xtask bench` measures does what it says, without a tracer and without looking at any time.

use std::process::Command;

use memtrace_tests::record::Record;
use memtrace_tests::workload::Workload;

/// Prepares a behaviour, lets it act, and hears what it found out.
fn act(args: &[&str]) -> Record {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench-workload"));
    let mut workload = Workload::start_command(command.args(args));
    workload.go();
    let truth = workload.say("act");
    workload.end();
    truth
}

#[test]
fn each_round_faults_on_every_page_in_either_order() {
    for random in ["0", "1"] {
        let truth = act(&["faults", "64", "3", random, "0"]);
        assert_eq!((truth.count("events"), truth.count("rounds")), (64, 3));
        // Each turn tells its own faults.
        assert!(truth.count("minflt") >= 3 * 64, "{truth}");
        assert!(truth.count("minflt") < 4 * 64, "{truth}");
        assert!(
            truth.count("best_ns") <= truth.count("median_ns"),
            "{truth}"
        );
    }
}

#[test]
fn lazily_freed_memory_is_made_before_the_rounds() {
    let truth = act(&["faults", "64", "2", "0", "100"]);
    assert!(truth.count("minflt") >= 2 * 64, "{truth}");
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench-workload"));
    let mut workload = Workload::start_command(command.args(["faults", "64", "1", "0", "100"]));
    let prepared = workload.go();
    assert!(prepared.count("minflt") >= 64 + 100, "{prepared}");
    // It acts as often as it is told to.
    for _ in 0..3 {
        let truth = workload.say("act");
        assert!(
            truth.count("minflt") >= 64 && truth.count("minflt") < 128,
            "{truth}"
        );
    }
    workload.end();
    act(&["waits", "16"]);
}

#[test]
fn calls_are_counted_by_what_they_cover() {
    let truth = act(&["madvise", "64", "2", "16"]);
    assert_eq!((truth.count("events"), truth.count("rounds")), (4, 2));
    assert_eq!(act(&["syscalls", "1000", "2"]).count("events"), 1000);
    assert_eq!(act(&["intervals", "50"]).count("intervals"), 50);
}

#[test]
fn a_pace_and_a_race_tell_how_far_they_got() {
    let paced = act(&["paced", "1000", "1", "64"]);
    assert!(paced.count("events") <= 1000, "{paced}");
    assert!(paced.count("minflt") >= paced.count("events"), "{paced}");
    let race = act(&["race", "2", "1", "64"]);
    assert!(race.count("events") >= 128, "{race}");
    assert!(race.count("minflt") >= race.count("events"), "{race}");
}
