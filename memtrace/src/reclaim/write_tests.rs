//! Tests of the report: what people read, and the line that docs/json.md shows.

use super::*;
use crate::config::{Format, ProgressStyle, Report, Sink};
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
    let dry = || Taken::DryRun {
        found: mappings(30),
        swap_room_bytes: 0,
    };
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
    let dry = Taken::DryRun {
        found: mappings(1),
        swap_room_bytes: 2 << 30,
    };
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
    let dry = outcome(Taken::DryRun {
        found: mappings(1),
        swap_room_bytes: 0,
    });
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
