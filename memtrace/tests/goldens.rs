//! What each output writes, compared with files; MEMTRACE_BLESS=1 writes them anew.

mod example;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use example::{MS, START};
use memtrace::ledger::totals::FaultClass;
use memtrace::output::terminal::Size;
use memtrace::output::{JsonOutput, Output, TextOptions, TextOutput};
use memtrace::view::commands::Commands;
use memtrace::view::{Line, Total};
use serde_json::Value;

/// A sink whose text can be read while an output owns it.
#[derive(Clone, Default)]
struct Sink(Rc<RefCell<Vec<u8>>>);

impl Sink {
    fn text(&self) -> String {
        String::from_utf8(self.0.borrow().clone()).expect("outputs write UTF-8")
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Has an output write and returns what came out.
fn written(
    output: impl FnOnce(Box<dyn Write>) -> Box<dyn Output>,
    write: impl FnOnce(&mut dyn Output) -> io::Result<()>,
) -> String {
    let sink = Sink::default();
    let mut output = output(Box::new(sink.clone()));
    write(&mut *output).expect("the sink takes everything");
    drop(output);
    sink.text()
}

fn json(sink: Box<dyn Write>) -> Box<dyn Output> {
    Box::new(JsonOutput::new(sink))
}

fn text(options: TextOptions) -> impl FnOnce(Box<dyn Write>) -> Box<dyn Output> {
    |sink| Box::new(TextOutput::new(sink, options))
}

fn terminal(columns: usize, rows: usize) -> Option<Box<dyn Fn() -> Size>> {
    Some(Box::new(move || Size { columns, rows }))
}

/// A run with one of everything.
fn session(output: &mut dyn Output) -> io::Result<()> {
    output.header(&example::header())?;
    for line in example::calls() {
        output.line(&line)?;
    }
    output.flush()?;
    for line in example::fault_runs()
        .into_iter()
        .chain(example::processes())
        .chain(example::go_lines())
    {
        output.line(&line)?;
    }
    output.lost(&example::lost(90))?;
    output.lost(&example::lost(95))?;
    output.status(&example::status(1_000))?;
    output.memstats(&example::memstats())?;
    output.flush()?;
    let summaries = [
        example::complete(),
        example::lossy(),
        example::nothing_given_back(),
        example::idle(),
    ];
    for summary in &summaries {
        output.summary(summary)?;
    }
    let commands = Commands::of(&summaries, &[true; 4], example::folded());
    output.commands(&commands)?;
    output.total(&Total::of(
        &summaries,
        &commands.folded,
        1004,
        example::lost(0),
    ))?;
    output.flush()
}

/// A terminal that sees a burst, two statuses and the end.
fn burst(output: &mut dyn Output) -> io::Result<()> {
    output.header(&example::header())?;
    for at_ms in 0..60 {
        let run = example::faults(at_ms, FaultClass::FirstTouch, 1);
        output.line(&Line::Faults(run))?;
    }
    output.flush()?;
    output.status(&example::status(1_000))?;
    output.flush()?;
    for at_ms in [1_100, 1_200] {
        let run = example::faults(at_ms, FaultClass::RefaultFree, 4);
        output.line(&Line::Faults(run))?;
        output.flush()?;
    }
    for at_ms in 1_300..1_400 {
        let run = example::faults(at_ms, FaultClass::FirstTouch, 1);
        output.line(&Line::Faults(run))?;
    }
    output.status(&example::status(2_000))?;
    output.flush()?;
    output.summary(&example::nothing_given_back())?;
    output.flush()
}

fn place(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn blessing() -> bool {
    std::env::var_os("MEMTRACE_BLESS").is_some_and(|value| value == "1")
}

/// Compares with a file of the repository, or writes it.
fn compare(path: &str, found: &str) {
    let file = place(path);
    if blessing() {
        std::fs::write(&file, found).expect("the golden file can be written");
        return;
    }
    let expected = std::fs::read_to_string(&file).unwrap_or_default();
    let (mut lines, mut golden) = (found.lines(), expected.lines());
    let mut number = 0;
    loop {
        number += 1;
        let (line, expected) = (lines.next(), golden.next());
        assert_eq!(
            line, expected,
            "{path} line {number} (left: now, right: the file). If the change is meant: \
             MEMTRACE_BLESS=1 cargo test --test goldens"
        );
        if line.is_none() {
            break;
        }
    }
    assert_eq!(found, expected, "{path}: the ends of lines");
}

/// Makes control sequences visible, one row of the file for each line feed.
fn visible(text: &str) -> String {
    text.replace('\x1b', "␛").replace('\r', "␍")
}

#[test]
fn a_whole_session_reads_well_in_a_file() {
    let found = written(text(TextOptions::default()), session);
    assert!(found.chars().all(|c| c == '\n' || !c.is_control()));
    assert!(
        found.lines().all(|line| line.trim_end() == line),
        "no trailing spaces"
    );
    compare("tests/golden/session.txt", &found);
}

#[test]
fn colour_only_adds_to_what_is_read() {
    let options = || TextOptions {
        colour: true,
        ..TextOptions::default()
    };
    let found = written(text(options()), session);
    compare("tests/golden/session-colour.txt", &visible(&found));
    let mut plain = String::new();
    let mut rest = found.as_str();
    while let Some((before, after)) = rest.split_once('\x1b') {
        plain += before;
        rest = after.split_once('m').expect("only colours").1;
    }
    plain += rest;
    assert_eq!(plain, written(text(TextOptions::default()), session));
}

#[test]
fn a_terminal_shows_a_capped_stream_over_its_status() {
    let options = TextOptions {
        terminal: terminal(100, 24),
        ..TextOptions::default()
    };
    let found = written(text(options), burst);
    compare("tests/golden/terminal.txt", &visible(&found));
}

#[test]
fn all_lines_lifts_the_cap() {
    let shown = |terminal, all_lines| {
        let options = TextOptions {
            terminal,
            all_lines,
            ..TextOptions::default()
        };
        let found = written(text(options), burst);
        let lines = |what: &str| found.lines().filter(|line| line.contains(what)).count();
        (lines("first touch  "), lines("not shown"))
    };
    assert_eq!(shown(terminal(100, 24), false), (50 + 48, 2));
    assert_eq!(shown(terminal(100, 24), true), (160, 0));
    assert_eq!(shown(None, false), (160, 0));
}

#[test]
fn thousands_of_commands_are_a_table_of_80_columns() {
    let table = |commands: &Commands| {
        written(text(TextOptions::default()), |output| {
            for summary in [example::complete(), example::idle()] {
                output.summary_in_brief(&summary)?;
            }
            output.commands(commands)
        })
    };
    let summaries = [
        example::complete(),
        example::nothing_given_back(),
        example::idle(),
    ];
    let few = table(&Commands::of(&summaries, &[false; 3], example::folded()));
    let many = table(&Commands::of(&[], &[], example::many()));
    let unnamed = table(&Commands::of(
        &[],
        &[],
        [example::many(), example::folded()].concat(),
    ));
    let found = few + &many + &unnamed;
    let longest = found.lines().map(|line| line.chars().count()).max();
    assert!(longest <= Some(79), "{longest:?} columns:\n{found}");
    compare("tests/golden/commands.txt", &found);
}

#[test]
fn a_terminal_is_left_clean_when_the_output_is_dropped_in_the_middle() {
    let options = TextOptions {
        terminal: terminal(100, 24),
        ..TextOptions::default()
    };
    let found = written(text(options), |output| {
        output.status(&example::status(1_000))?;
        output.flush()
    });
    assert!(found.ends_with("\r\x1b[1A\x1b[J"), "{found:?}");
}

#[test]
fn the_status_keeps_to_the_width_of_the_terminal() {
    for columns in [1, 2, 10, 40, 79, 200] {
        let options = TextOptions {
            terminal: terminal(columns, 24),
            ..TextOptions::default()
        };
        let found = written(text(options), |output| {
            output.status(&example::status(1_000))?;
            output.flush()
        });
        let drawn = found
            .strip_suffix("\r\x1b[1A\x1b[J")
            .expect("cleared at the end");
        for row in drawn.split("\r\n") {
            assert!(row.chars().count() < columns.max(2), "{columns}: {row}");
        }
    }
}

#[test]
fn json_lines_are_objects_that_begin_with_their_type() {
    let found = written(json, session);
    let mut types = Vec::new();
    for line in found.lines() {
        let value: Value = serde_json::from_str(line).expect("every line is JSON");
        let object = value.as_object().expect("every line is an object");
        let (key, value) = object.iter().next().expect("no object is empty");
        assert_eq!(key, "type");
        types.push(value.as_str().expect("a type is a string").to_owned());
    }
    assert_eq!(types.first().map(String::as_str), Some("header"));
    assert_eq!(types.last().map(String::as_str), Some("total"));
    let types: BTreeSet<&str> = types.iter().map(String::as_str).collect();
    let all = [
        "brk",
        "fault",
        "folded",
        "gctrace",
        "header",
        "lost",
        "madvise",
        "memstats",
        "mmap",
        "mremap",
        "munmap",
        "process",
        "process_madvise",
        "status",
        "summary",
        "total",
    ];
    assert_eq!(types, BTreeSet::from(all));
    compare("tests/golden/session.json", &found);
}

#[test]
fn every_line_of_a_type_has_the_same_keys_in_the_same_order() {
    let mut seen: Vec<(String, Vec<String>)> = Vec::new();
    for line in written(json, session).lines() {
        let value: Value = serde_json::from_str(line).expect("every line is JSON");
        let object = value.as_object().expect("every line is an object");
        let keys: Vec<String> = object
            .keys()
            .filter(|key| *key != "note")
            .cloned()
            .collect();
        let kind = object["type"]
            .as_str()
            .expect("a type is a string")
            .to_owned();
        match seen.iter().find(|(known, _)| *known == kind) {
            Some((_, expected)) => assert_eq!(&keys, expected, "{kind}"),
            None => seen.push((kind, keys)),
        }
    }
}

#[test]
fn what_is_not_known_is_null_and_never_a_number() {
    let found = written(json, session);
    let values: Vec<Value> = found
        .lines()
        .map(|line| serde_json::from_str(line).expect("every line is JSON"))
        .collect();
    let first = |kind: &str| {
        values
            .iter()
            .find(|v| v["type"] == kind)
            .expect("one of each")
    };
    let summary = first("summary");
    for pointer in [
        "/advice/MADV_FREE/released_bytes",
        "/advice/MADV_HUGEPAGE/refaults",
        "/advice/MADV_HUGEPAGE/refault_ratio",
        "/advice/MADV_HUGEPAGE/age_ns",
        "/unmap/munmap/refaults",
        "/unmap/munmap/refaulted_bytes",
        "/unmap/munmap/refault_ratio",
        "/unmap/munmap/ratio_basis",
        "/faults/major",
        "/faults/swap_in",
        "/faults/bytes/swap_in",
        "/faults/bytes/major",
        "/faults/bytes/ambiguous",
        "/unfaulted_bytes",
    ] {
        assert_eq!(summary.pointer(pointer), Some(&Value::Null), "{pointer}");
    }
    let free = &summary["advice"]["MADV_FREE"];
    assert_eq!(free["ratio_basis"], "requested");
    assert_eq!(free["refault_ratio"], 3148.0 * 4096.0 / 1_073_741_824.0);
    assert_eq!(summary["faults"]["class_basis"]["file"], "lower_bound");
    assert_eq!(summary["faults"]["class_basis"].get("unknown"), None);
    let lossy = values
        .iter()
        .filter(|v| v["type"] == "summary")
        .nth(1)
        .expect("the second");
    for pointer in [
        "/rss/lazyfree_bytes",
        "/rss/reclaimed_bytes",
        "/rss/reused_silently_bytes",
        "/rss/cgroup",
        "/lazy_balance/before_bytes",
        "/lazy_balance/still_lazy_bytes",
        "/lazy_balance/reclaimed_basis",
        "/runtimes/0/gives_back",
    ] {
        assert_eq!(lossy.pointer(pointer), Some(&Value::Null), "{pointer}");
    }
    for (advice, basis, ratio) in [
        ("MADV_DONTNEED_LOCKED", "released", 50.0 / 256.0),
        ("MADV_PAGEOUT", "requested", 10.0 / 2048.0),
    ] {
        assert_eq!(lossy["advice"][advice]["ratio_basis"], basis);
        assert_eq!(lossy["advice"][advice]["refault_ratio"], ratio);
    }
    assert_eq!(lossy["advice"]["MADV_77"]["refault_ratio"], Value::Null);
    assert_eq!(lossy["exit_status"], Value::Null);
    assert_eq!(lossy["exit_signal"], 9);
    let status = first("status");
    assert_eq!(status["advice"]["MADV_FREE"]["calls"], 1240);
    assert_eq!(status["advice"]["MADV_FREE"].get("age_ns"), None);
    let unseen = values
        .iter()
        .find(|v| v.get("note").is_some())
        .expect("one was unseen");
    for key in ["addr", "len_bytes", "duration_ns"] {
        assert_eq!(unseen[key], Value::Null, "{key}");
    }
    assert_eq!(first("header")["start_ns"], START);
    assert_eq!(first("status")["lazyfree_age_ns"], 240 * MS);
}

/// The documentation, and where an example stands in it.
fn documented() -> String {
    std::fs::read_to_string(place("docs/json.md")).expect("docs/json.md is there")
}

#[test]
fn the_documented_examples_are_lines_of_the_golden_file() {
    let found = written(json, session);
    let mut text = documented();
    let mut examples = BTreeSet::new();
    for line in found.lines() {
        let value: Value = serde_json::from_str(line).expect("every line is JSON");
        let kind = value["type"]
            .as_str()
            .expect("a type is a string")
            .to_owned();
        if !examples.insert(kind.clone()) {
            continue;
        }
        let mark = format!("<!-- example: {kind} -->\n```json\n");
        let at = text
            .find(&mark)
            .unwrap_or_else(|| panic!("no example of {kind}"))
            + mark.len();
        let end = at + text[at..].find("\n```").expect("the block ends");
        if blessing() {
            text.replace_range(at..end, line);
        } else {
            assert_eq!(&text[at..end], line, "docs/json.md: {kind}");
        }
    }
    if blessing() {
        std::fs::write(place("docs/json.md"), text).expect("docs/json.md can be written");
    }
}

#[test]
fn every_key_is_documented() {
    fn keys(value: &Value, into: &mut BTreeSet<String>) {
        match value {
            Value::Object(object) => {
                for (key, value) in object {
                    into.insert(key.clone());
                    keys(value, into);
                }
            }
            Value::Array(list) => list.iter().for_each(|value| keys(value, into)),
            _ => {}
        }
    }
    let mut all = BTreeSet::new();
    for line in written(json, session).lines() {
        keys(
            &serde_json::from_str(line).expect("every line is JSON"),
            &mut all,
        );
    }
    // The examples hold every key; what counts is the text around them.
    let text = documented();
    let prose: String = text.lines().filter(|line| !line.starts_with('{')).collect();
    let missing: Vec<&String> = all
        .iter()
        .filter(|key| !key.starts_with("MADV_"))
        .filter(|key| !prose.contains(&format!("`{key}`")))
        .collect();
    assert!(missing.is_empty(), "docs/json.md does not name {missing:?}");
}
