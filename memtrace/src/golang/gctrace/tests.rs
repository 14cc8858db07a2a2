//! Lines of every version of Go against what they say, and lines that are none.

use proptest::prelude::*;

use super::*;

const MIB: u64 = 1 << 20;
const KIB: u64 = 1 << 10;
const MS: u64 = 1_000_000;

fn gc_line(line: &str) -> GcLine {
    match parse(line.as_bytes()) {
        Some(Event::Gc(line)) => line,
        other => panic!("{line}: {other:?}"),
    }
}

fn scavenger_line(line: &str) -> ScavengerLine {
    match parse(line.as_bytes()) {
        Some(Event::Scavenger(line)) => line,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn a_collection_up_to_go_1_17_has_no_stacks_and_globals() {
    let line = "gc 8387 @95749.612s 3%: 0.021+89+0.12 ms clock, 0.34+2.6/356/810+1.9 ms cpu, 550->562->461 MB, 616 MB goal, 16 P";
    assert_eq!(
        gc_line(line),
        GcLine {
            cycle: 8387,
            since_start_ns: 95_749_612 * MS,
            cpu_percent: Some(3),
            clock_ns: 89_141_000,
            cpu_ns: 1_170_840_000,
            heap_before_bytes: 550 * MIB,
            heap_after_bytes: 562 * MIB,
            heap_live_bytes: 461 * MIB,
            goal_bytes: Some(616 * MIB),
            stacks_bytes: None,
            globals_bytes: None,
            procs: 16,
            forced: false,
        }
    );
}

#[test]
fn a_collection_since_go_1_18_has_them() {
    let line = "gc 3 @0.015s 10%: 1.6+0.57+0 ms clock, 13+0/1.0/0.50+0 ms cpu, 0->16->0 MB, 16 MB goal, 1 MB stacks, 2 MB globals, 8 P (forced)";
    assert_eq!(
        gc_line(line),
        GcLine {
            cycle: 3,
            since_start_ns: 15 * MS,
            cpu_percent: Some(10),
            clock_ns: 2_170_000,
            cpu_ns: 14_500_000,
            heap_before_bytes: 0,
            heap_after_bytes: 16 * MIB,
            heap_live_bytes: 0,
            goal_bytes: Some(16 * MIB),
            stacks_bytes: Some(MIB),
            globals_bytes: Some(2 * MIB),
            procs: 8,
            forced: true,
        }
    );
}

#[test]
fn the_scavengers_old_lines_tell_of_work_or_of_the_heap() {
    for (line, forced, generation, work) in [
        ("scvg: 1 MB released", false, None, MIB),
        ("scvg: 8 KB released", false, None, 8 * KIB),
        ("scvg12: 3 MB released", false, Some(12), 3 * MIB),
        ("scvg-1: 280 MB released", true, None, 280 * MIB),
        ("forced scvg: 0 MB released", true, None, 0),
    ] {
        let expected = ScavengerLine {
            forced,
            generation,
            work_bytes: Some(work),
            ..ScavengerLine::default()
        };
        assert_eq!(scavenger_line(line), expected, "{line}");
    }
    let heap = "inuse: 835, idle: 188, sys: 1023, released: 17, consumed: 1005 (MB)";
    for (who, forced, generation) in [
        ("scvg", false, None),
        ("scvg0", false, Some(0)),
        ("scvg-1", true, None),
        ("forced scvg", true, None),
    ] {
        let expected = ScavengerLine {
            forced,
            generation,
            in_use_bytes: Some(835 * MIB),
            idle_bytes: Some(188 * MIB),
            system_bytes: Some(1023 * MIB),
            released_bytes: Some(17 * MIB),
            consumed_bytes: Some(1005 * MIB),
            ..ScavengerLine::default()
        };
        assert_eq!(scavenger_line(&format!("{who}: {heap}")), expected, "{who}");
    }
    // Released was read later than sys, and had grown beyond it.
    let below = "scvg: inuse: 0, idle: 1, sys: 1, released: 2, consumed: 17592186044415 (MB)";
    assert_eq!(scavenger_line(below).consumed_bytes, None);
}

#[test]
fn the_scavengers_new_lines_tell_of_both() {
    let old = ScavengerLine {
        work_bytes: Some(16 * KIB),
        released_bytes: Some(3120 * KIB),
        used_percent: Some(96),
        ..ScavengerLine::default()
    };
    let numbered = ScavengerLine {
        generation: Some(41),
        ..old
    };
    let new = ScavengerLine {
        work_bytes: Some(24 * KIB),
        background_bytes: Some(16 * KIB),
        eager_bytes: Some(8 * KIB),
        ..old
    };
    let forced = |line| ScavengerLine {
        forced: true,
        ..line
    };
    for (line, expected) in [
        ("scav 16 KiB work, 3120 KiB total, 96% util", old),
        (
            "scav 16 KiB work, 3120 KiB total, 96% util (forced)",
            forced(old),
        ),
        (
            "scav 16 KiB work, 3120 KiB total, 96% util [controller reset]",
            old,
        ),
        ("scav 41 16 KiB work, 3120 KiB total, 96% util", numbered),
        (
            "scav 41 16 KiB work, 3120 KiB total, 96% util (forced)",
            forced(numbered),
        ),
        (
            "scav 16 KiB work (bg), 8 KiB work (eager), 3120 KiB now, 96% util",
            new,
        ),
        (
            "scav 16 KiB work (bg), 8 KiB work (eager), 3120 KiB now, 96% util (forced)",
            forced(new),
        ),
        (
            "scav 16 KiB work (bg), 8 KiB work (eager), 3120 KiB now, 96% util [controller reset]",
            new,
        ),
    ] {
        assert_eq!(scavenger_line(line), expected, "{line}");
    }
}

#[test]
fn what_a_log_puts_before_a_line_is_passed_over() {
    let line = "gc 4 @0.191s 1%: 0.038+3.1+0.043 ms clock, 0.30+0/3.1/0.97+0.34 ms cpu, 4->5->4 MB, 5 MB goal, 8 P";
    for before in [
        "Feb 26 13:30:20.191 ",
        "2026-11-21T11:24:33.1Z stderr F ",
        "host app[71]: ",
        "\t",
        "gc is scvg: scav ",
    ] {
        assert_eq!(
            gc_line(&format!("{before}{line}")),
            gc_line(line),
            "{before}"
        );
    }
    assert_eq!(gc_line(&format!("{line}\r")), gc_line(line));
    assert!(scavenger_line("app: forced scvg: 2 MB released").forced);
}

#[test]
fn what_differs_in_anything_is_no_line() {
    let whole = "gc 1 @0.1s 2%: 0.01+0.5+0.02 ms clock, 0.1+0.2/0.3/0+0.1 ms cpu, 4->5->1 MB, 5 MB goal, 0 MB stacks, 0 MB globals, 4 P";
    assert!(parse(whole.as_bytes()).is_some());
    // Whatever its end is cut off at.
    for end in 0..whole.len() {
        assert_eq!(parse(&whole.as_bytes()[..end]), None, "{}", &whole[..end]);
    }
    for line in [
        &format!("{whole} and more"),
        &format!("{whole}(forced)"),
        &format!("x{whole}"),
        &whole.replace("@0.1s", "@0.s"),
        &whole.replace("@0.1s", "@s"),
        &whole.replace("4->5->1", "4->5"),
        &whole.replace("4->5->1", "4->-5->1"),
        &whole.replace("5 MB goal", "18446744073709551615 MB goal"),
        &whole.replace("gc 1 ", "gc 99999999999999999999 "),
        &whole.replace("@0.1s", "@18446744073709551615.9s"),
        "gc 1",
        "scav",
        "scav 1 2 3 KiB work, 3120 KiB total, 96% util",
        "scav 1 KiB work (bg), 3120 KiB now, 96% util",
        "scvg: ",
        "scvg: 1 GB released",
        "scvg-2: 1 MB released",
        "scan: total 12 objs",
        "pacer: assist ratio=+1.0e+000",
        "",
    ] {
        assert_eq!(parse(line.as_bytes()), None, "{line}");
    }
}

#[test]
fn with_gogc_off_there_is_no_goal() {
    for goal in ["8796093022193", "17592186044415"] {
        let line = format!(
            "gc 8 @0.077s 5%: 0.52+0.24+0.002 ms clock, 1.0+0/0.15/0+0.005 ms cpu, 0->0->0 MB, {goal} MB goal, 2 P"
        );
        assert_eq!(gc_line(&line).goal_bytes, None, "{goal}");
    }
}

#[test]
fn before_any_cpu_time_the_percentage_is_not_known() {
    let line = "gc 1 @0.000s -9223372036854775808%: 0+0+0 ms clock, 0+0/0/0+0 ms cpu, 4->4->0 MB, 5 MB goal, 1 P";
    assert_eq!(gc_line(line).cpu_percent, None);
}

proptest! {
    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(&bytes);
    }

    #[test]
    fn what_looks_almost_like_a_line_is_survived(
        words in prop::collection::vec(
            prop_oneof![
                Just("gc ".to_owned()), Just(" @".to_owned()), Just("s ".to_owned()), Just("%: ".to_owned()),
                Just("+".to_owned()), Just("/".to_owned()), Just(" ms clock, ".to_owned()),
                Just(" ms cpu, ".to_owned()), Just("->".to_owned()), Just(" MB, ".to_owned()),
                Just(" MB goal, ".to_owned()), Just(" P".to_owned()), Just("scav ".to_owned()),
                Just("forced scvg".to_owned()), Just(" KiB work".to_owned()), Just(": ".to_owned()),
                any::<u64>().prop_map(|n| n.to_string()), any::<u8>().prop_map(|n| n.to_string()),
            ],
            0..40,
        ),
    ) {
        let _ = parse(words.concat().as_bytes());
    }

    #[test]
    fn any_figures_of_a_collection_come_back(
        cycle: u64, ms in 0u64..1 << 40, percent in 0u64..101, heap in 0u64..1 << 44,
        live in 0u64..1 << 44, procs in 1u64..9999, forced: bool,
    ) {
        let end = if forced { " (forced)" } else { "" };
        let seconds = format!("{}.{:03}", ms / 1000, ms % 1000);
        let line = format!(
            "gc {cycle} @{seconds}s {percent}%: 0+1.5+0 ms clock, 0+0/2/0+0 ms cpu, {heap}->{heap}->{live} MB, {heap} MB goal, {procs} P{end}"
        );
        let found = gc_line(&line);
        prop_assert_eq!((found.cycle, found.since_start_ns), (cycle, ms * MS));
        prop_assert_eq!((found.cpu_percent, found.procs), (Some(percent), procs));
        prop_assert_eq!((found.heap_before_bytes, found.heap_live_bytes), (heap * MIB, live * MIB));
        prop_assert_eq!((found.clock_ns, found.cpu_ns, found.forced), (1_500_000, 2 * MS, forced));
    }
}
