//! Tests of the report: what people read, and the line that docs/json.md shows.

use super::*;
use crate::config::{Format, ProgressStyle, Report, Sink};
use crate::proc::cgroup::place::Charged;
use crate::reclaim::balloon::{self, Blown, Room};
use crate::reclaim::cgroup::{self, Squeeze};
use crate::reclaim::work::{Ending, Work};

const M: u64 = 1 << 20;

fn sums(rss: u64, lazy: u64, swap: u64) -> Rollup {
    Rollup {
        rss_bytes: rss * M,
        lazyfree_bytes: lazy * M,
        swap_bytes: swap * M,
        ..Rollup::default()
    }
}

fn outcome(taken: Taken) -> Outcome {
    Outcome {
        pid: 4242,
        comm: "big\x1bmap".to_owned(),
        method: Method::Pageout,
        before: sums(417, 393, 0),
        duration_ns: 118_000_000,
        taken,
    }
}

fn work(after: Option<Rollup>) -> Work {
    Work {
        ending: Ending::Done,
        before: sums(417, 393, 0),
        after,
        ranges: 12,
        advised_bytes: 400 * M,
        passes: 1,
        refused: 0,
        found: LazyMappings::default(),
    }
}

fn config(terminal: bool) -> Reclaim {
    Reclaim {
        pids: vec![4242],
        method: Method::Pageout,
        watch: None,
        dry_run: false,
        allow_swap: false,
        list_all: false,
        progress: ProgressStyle::Silent,
        report: Report {
            format: Format::Text,
            sink: Sink::Stdout,
            terminal,
            color: false,
        },
    }
}

fn shown(taken: Taken, terminal: bool) -> String {
    let mut out = Vec::new();
    text(&outcome(taken), &config(terminal), &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn mappings(count: u64) -> LazyMappings {
    let one = |n: u64| LazyMapping {
        range: n * 16 * M..(n * 16 + 8) * M,
        rss_bytes: 4 * M,
        lazyfree_bytes: (n + 1) * 4096,
        name: Some(format!("\x1b[2J {n}").into()),
    };
    LazyMappings {
        list: (0..count).map(one).collect(),
        ..LazyMappings::default()
    }
}

fn dry_run(count: u64, swap_room_bytes: u64) -> Taken {
    Taken::DryRun(DryRun {
        found: mappings(count),
        plan: Plan::Pageout { swap_room_bytes },
    })
}

#[test]
fn people_read_before_and_after_and_what_it_will_cost() {
    let text = shown(Taken::Done(work(Some(sums(24, 0, 0)))), false);
    assert_eq!(
        text,
        "big\\u{1b}map (pid 4242) · 118 ms · 393M taken\n\
         \x20          before    after\n\
         RSS          417M    24.0M\n\
         LazyFree     393M       0B\n\
         Using that memory again costs a page fault for each page, up to 100,608 faults.\n"
    );
}

#[test]
fn what_was_left_is_told_with_what_is_known_of_it() {
    let mut done = work(Some(sums(30, 6, 0)));
    done.found.locked_bytes = 2 * M;
    done.refused = 3;
    let text = shown(Taken::Done(done), false);
    assert!(text.contains("· 387M taken"), "{text}");
    assert!(
        text.contains("note: 4.00M is still lazily free: "),
        "{text}"
    );
    assert!(
        text.contains("note: 2.00M is lazily free in locked memory"),
        "{text}"
    );
    assert!(text.contains("note: 3 ranges had been unmapped"), "{text}");
}

#[test]
fn memory_that_was_written_meanwhile_is_not_called_taken() {
    let text = shown(Taken::Done(work(Some(sums(317, 0, 0)))), false);
    assert!(text.contains("· 100M taken"), "{text}");
    assert!(
        text.contains("RSS fell by 293M less than LazyFree"),
        "{text}"
    );
}

#[test]
fn swap_that_grew_is_told() {
    let text = shown(Taken::Done(work(Some(sums(14, 0, 10)))), false);
    assert!(text.contains("393M taken"), "{text}");
    assert!(text.contains("Swap           0B    10.0M"), "{text}");
    assert!(text.contains("Swap grew by 10.0M"), "{text}");
}

#[test]
fn an_end_of_the_process_and_a_signal_are_told() {
    let mut gone = work(None);
    gone.ending = Ending::Gone;
    let text = shown(Taken::Done(gone), false);
    assert!(
        text.contains("· ended\nnote: the process ended meanwhile"),
        "{text}"
    );
    let mut stopped = work(Some(sums(300, 276, 0)));
    stopped.ending = Ending::Interrupted;
    let text = shown(Taken::Done(stopped), false);
    assert!(text.contains("117M taken") && text.contains("note: stopped by a signal"));
    assert!(!text.contains("still lazily free"), "{text}");
}

#[test]
fn nothing_to_take_is_said() {
    assert!(shown(Taken::Nothing, false).contains("nothing is lazily free"));
}

#[test]
fn a_dry_run_lists_the_largest_first_and_a_terminal_gets_twenty() {
    let dry = || dry_run(30, 0);
    let all = shown(dry(), false);
    // The title, the headings, the mappings, the sum.
    assert_eq!(all.lines().count(), 33);
    assert!(
        all.lines().nth(2).unwrap().starts_with("1d000000-1d800000"),
        "{all}"
    );
    assert!(
        all.contains("8.00M     4.00M      120K  \\u{1b}[2J 29\n"),
        "{all}"
    );
    assert!(
        all.ends_with("Would take up to 1.82M of 417M RSS, from 30 mappings.\n"),
        "{all}"
    );
    let few = shown(dry(), true);
    assert_eq!(few.lines().count(), 24);
    assert!(
        few.contains("\n10 mappings not shown (-v shows all)\n"),
        "{few}"
    );
}

#[test]
fn a_dry_run_tells_that_swap_will_stand_in_the_way() {
    let dry = dry_run(1, 2 << 30);
    let text = shown(dry, false);
    assert!(
        text.contains("swap has 2.00G free") && text.contains("--allow-swap"),
        "{text}"
    );
}

fn line(outcome: &Outcome) -> String {
    let mut out = Vec::new();
    json(outcome, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn the_documented_example_is_what_is_written() {
    let mut done = work(Some(sums(24, 1, 0)));
    done.passes = 2;
    let line = line(&outcome(Taken::Done(done)));
    let documented = include_str!("../../docs/json.md");
    let block = format!("<!-- example: reclaim -->\n```json\n{line}```\n");
    assert!(documented.contains(&block), "docs/json.md wants\n{block}");
}

#[test]
fn what_is_not_known_is_null_and_every_key_is_documented() {
    let dry = outcome(dry_run(1, 0));
    let value: Value = serde_json::from_str(&line(&dry)).unwrap();
    for key in ["after", "taken_bytes", "swap_grown_bytes"] {
        assert_eq!(value[key], Value::Null, "{key}");
    }
    assert_eq!(value["dry_run"], true);
    assert_eq!(value["mappings"][0]["lazyfree_bytes"], 4096);
    let documented = include_str!("../../docs/json.md");
    let (_, section) = documented.split_once("## reclaim").unwrap();
    for key in value
        .as_object()
        .unwrap()
        .keys()
        .filter(|key| *key != "type")
    {
        assert!(section.contains(&format!("`{key}`")), "{key}");
    }
    let gone = outcome(Taken::Done(work(None)));
    let value: Value = serde_json::from_str(&line(&gone)).unwrap();
    assert_eq!(
        (&value["after"], &value["taken_bytes"]),
        (&Value::Null, &Value::Null)
    );
    let nothing: Value = serde_json::from_str(&line(&outcome(Taken::Nothing))).unwrap();
    assert_eq!(nothing["after"], nothing["before"]);
    assert_eq!(
        (&nothing["taken_bytes"], &nothing["passes"]),
        (&json!(0), &json!(0))
    );
}

fn cgroup_plan(others: u64) -> cgroup::Plan {
    cgroup::Plan {
        dir: "/sys/fs/cgroup/big\x1bmap.service".into(),
        others,
        ourselves: false,
        swappiness: true,
        swap_room_bytes: 0,
        charged: Charged {
            current_bytes: Some(500 * M),
            file_bytes: Some(80 * M),
            inactive_file_bytes: Some(450 * M),
        },
    }
}

fn by_cgroup() -> Outcome {
    Outcome {
        method: Method::Cgroup { whole: false },
        ..outcome(Taken::Cgroup(cgroup::Work {
            plan: cgroup_plan(0),
            squeeze: Squeeze {
                ending: cgroup::Ending::Done,
                after: Some(sums(24, 0, 0)),
                asked_bytes: 448 * M,
                calls: 7,
            },
            charged_after: Charged {
                current_bytes: Some(70 * M),
                file_bytes: Some(32 * M),
                inactive_file_bytes: Some(0),
            },
        }))
    }
}

fn balloon_plan() -> balloon::Plan {
    balloon::Plan {
        max_bytes: 2048 * M,
        room: Room {
            free_bytes: 300 * M,
            available_bytes: 1800 * M,
            floor_bytes: 256 * M,
            group: None,
        },
        swap_room_bytes: 0,
        pressure_known: true,
    }
}

fn by_balloon() -> Outcome {
    Outcome {
        method: Method::Balloon {
            max_bytes: 2048 * M,
        },
        ..outcome(Taken::Balloon(balloon::Work {
            plan: balloon_plan(),
            blown: Blown {
                ending: balloon::Ending::Floor,
                after: Some(sums(36, 12, 0)),
                held_bytes: 1440 * M,
                available_bytes: Some(290 * M),
                stalled_ns: Some(4_000_000),
            },
            cached_before_bytes: 1200 * M,
            cached_after_bytes: 400 * M,
        }))
    }
}

fn text_of(outcome: &Outcome) -> String {
    let mut out = Vec::new();
    text(outcome, &config(false), &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn what_a_cgroup_lost_is_told_after_what_was_taken() {
    assert_eq!(
        text_of(&by_cgroup()),
        "big\\u{1b}map (pid 4242) · 118 ms · 393M taken\n\
         \x20          before    after\n\
         RSS          417M    24.0M\n\
         LazyFree     393M       0B\n\
         Using that memory again costs a page fault for each page, up to 100,608 faults.\n\
         note: the cgroup's page cache shrank by 48.0M: reading it again will hit the disk\n"
    );
}

#[test]
fn where_a_balloon_stopped_is_told_after_what_was_taken() {
    let text = text_of(&by_balloon());
    assert!(text.contains("· 381M taken\n"), "{text}");
    let notes: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("note: "))
        .collect();
    assert_eq!(notes.len(), 4, "{text}");
    assert!(
        notes[0].starts_with(
            "note: the balloon was let go with 12.0M still lazily free: it came to its floor: 256M"
        ),
        "{text}"
    );
    assert!(notes[1].contains("held 1.41G at its largest"), "{text}");
    assert!(notes[2].contains("page cache shrank by 800M"), "{text}");
    assert!(notes[3].contains("4.0 ms"), "{text}");
}

#[test]
fn a_dry_run_tells_how_the_method_would_go_about_it() {
    let dry = |plan| {
        text_of(&outcome(Taken::DryRun(DryRun {
            found: mappings(1),
            plan,
        })))
    };
    let cgroup = dry(Plan::Cgroup {
        plan: cgroup_plan(2),
        refused: Some("2 other processes".to_owned()),
    });
    assert!(
        cgroup.contains(
            "By memory.reclaim with swappiness=0 of /sys/fs/cgroup/big\\u{1b}map.service, \
             whose page cache (80.0M) may go first.\nnote: it will be refused: 2 other processes\n"
        ),
        "{cgroup}"
    );
    let balloon = dry(Plan::Balloon(balloon_plan()));
    assert!(
        balloon.contains(
            "By a balloon of up to 1.51G (--max 2.00G, MemAvailable 1.76G): page cache goes first."
        ),
        "{balloon}"
    );
    assert!(!balloon.contains("note:"), "{balloon}");
}

#[test]
fn the_other_methods_have_an_object_of_their_own() {
    let documented = include_str!("../../docs/json.md");
    for (outcome, own, other) in [
        (by_cgroup(), "cgroup", "balloon"),
        (by_balloon(), "balloon", "cgroup"),
    ] {
        let line = line(&outcome);
        let block = format!("<!-- example: reclaim {own} -->\n```json\n{line}```\n");
        assert!(documented.contains(&block), "docs/json.md wants\n{block}");
        let value: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            (&value["method"], &value[other]),
            (&json!(own), &Value::Null)
        );
        for key in ["ranges", "advised_bytes", "passes"] {
            assert_eq!(value[key], Value::Null, "{key}");
        }
        for key in value[own].as_object().unwrap().keys() {
            assert!(documented.contains(&format!("`{key}`")), "{key}");
        }
    }
    let dry = Outcome {
        method: Method::Cgroup { whole: true },
        ..outcome(Taken::DryRun(DryRun {
            found: mappings(1),
            plan: Plan::Cgroup {
                plan: cgroup_plan(2),
                refused: None,
            },
        }))
    };
    let value: Value = serde_json::from_str(&line(&dry)).unwrap();
    assert_eq!(value["cgroup"]["other_processes"], 2);
    assert_eq!(value["cgroup"]["asked_bytes"], Value::Null);
}
