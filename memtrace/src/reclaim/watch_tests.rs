//! Tests of the report on what came back.

use serde_json::Value;

use super::*;
use crate::ledger::event::Lost;

const M: u64 = 1 << 20;

fn watched(faults: u64, bytes: u64) -> Watched {
    Watched {
        pid: 4242,
        duration_ns: 30_000_000_000,
        faults,
        bytes,
        lost: Lost::default(),
        exact: true,
        ended: false,
        fault_ns: Some(700),
        notes: Vec::new(),
    }
}

fn view(watched: &Watched, taken: Option<u64>) -> View<'_> {
    View {
        took: Took {
            pid: 4242,
            comm: "big\x1bmap".to_owned(),
            bytes: taken,
        },
        now: Some(Rollup {
            rss_bytes: 36 * M,
            lazyfree_bytes: 2 * M,
            ..Rollup::default()
        }),
        watched,
    }
}

fn text(view: &View<'_>) -> String {
    let mut out = Vec::new();
    view.text(false, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn line(view: &View<'_>) -> String {
    let mut out = Vec::new();
    view.json(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn people_read_what_came_back_and_what_it_cost() {
    let watched = watched(3072, 12 * M);
    assert_eq!(
        text(&view(&watched, Some(393 * M))),
        "big\\u{1b}map (pid 4242) · watched for 30.0 s\n\
         At most 12.0M of the 393M taken (3.1%) was faulted in again: 3,072 faults, 102/s\n\
         That is about 2.2 ms of CPU time at about 700 ns a fault (calibrated: measured on memtrace itself): <0.1% of one core\n\
         RSS 36.0M, LazyFree 2.00M now\n"
    );
}

#[test]
fn no_more_than_was_taken_can_have_come_back() {
    let watched = watched(5000, 20 * M);
    let text = text(&view(&watched, Some(8 * M)));
    assert!(
        text.contains("At most 8.00M of the 8.00M taken (100%)"),
        "{text}"
    );
}

#[test]
fn where_faults_were_lost_there_is_no_bound() {
    let mut watched = watched(10, M);
    watched.lost.faults = 3;
    let view = view(&watched, Some(8 * M));
    let text = text(&view);
    assert!(
        text.contains("10 faults seen where memory was taken"),
        "{text}"
    );
    assert!(text.contains("note: 3 faults lost: how much"), "{text}");
    let value: Value = serde_json::from_str(&line(&view)).unwrap();
    assert_eq!(value["refaulted_at_most_bytes"], Value::Null);
    assert_eq!(
        (&value["faults"], &value["lost"]["faults"]),
        (&json!(10), &json!(3))
    );
}

#[test]
fn nothing_taken_is_said_and_an_end_of_the_process_is_a_note() {
    let mut watched = watched(0, 0);
    watched.ended = true;
    let text = text(&view(&watched, Some(0)));
    assert!(text.contains("Nothing was taken"), "{text}");
    assert!(text.contains("note: the process ended"), "{text}");
    assert!(!text.contains("CPU time"), "{text}");
}

#[test]
fn watching_goes_on_only_where_something_was_taken() {
    let time = Duration::from_secs(5);
    let after = |bytes: &[Option<u64>]| {
        let took = bytes.iter().map(|&bytes| Took {
            pid: 1,
            comm: String::new(),
            bytes,
        });
        let round = Round {
            took: took.collect(),
            ..Round::default()
        };
        worth_while(&Ok(round), time)
    };
    assert_eq!(after(&[Some(0), Some(4096)]), time);
    assert_eq!(after(&[None]), time);
    for nothing in [&[][..], &[Some(0)]] {
        assert_eq!(after(nothing), Duration::ZERO);
    }
    let failed = Err(anyhow::anyhow!("no room"));
    assert_eq!(worth_while(&failed, time), Duration::ZERO);
}

#[test]
fn the_documented_example_is_what_is_written() {
    let watched = watched(3072, 12 * M);
    let line = line(&view(&watched, Some(384 * M)));
    let documented = include_str!("../../docs/json.md");
    let block = format!("<!-- example: reclaim watch -->\n```json\n{line}```\n");
    assert!(documented.contains(&block), "docs/json.md wants\n{block}");
    let value: Value = serde_json::from_str(&line).unwrap();
    let keys = value.as_object().unwrap().keys();
    for key in keys.filter(|key| *key != "type") {
        assert!(documented.contains(&format!("`{key}`")), "{key}");
    }
}
