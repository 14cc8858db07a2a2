//! Lines of every version of Go, as files, against what they say; MEMTRACE_BLESS=1 writes that anew.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use memtrace::golang::gctrace::parse;

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gctrace");
    let entries = fs::read_dir(folder).expect("the folder is there");
    let paths = entries.map(|entry| entry.expect("it can be read").path());
    let mut files: Vec<PathBuf> = paths
        .filter(|path| path.extension().is_some_and(|ext| ext == "txt"))
        .collect();
    files.sort();
    files
}

#[test]
fn every_version_of_go_is_understood() {
    let files = files();
    assert!(files.len() >= 7, "{files:?}");
    for file in files {
        let text = fs::read_to_string(&file).expect("it can be read");
        let mut found = String::new();
        for line in text.lines() {
            let parsed = parse(line.as_bytes());
            match parsed {
                Some(event) => writeln!(found, "{event:?}"),
                None => writeln!(found, "-"),
            }
            .expect("a String takes all");
        }
        let golden = file.with_extension("parsed");
        if std::env::var_os("MEMTRACE_BLESS").is_some_and(|value| value == "1") {
            fs::write(&golden, &found).expect("it can be written");
            continue;
        }
        let expected = fs::read_to_string(&golden).unwrap_or_default();
        for (number, (found, expected)) in found.lines().zip(expected.lines()).enumerate() {
            assert_eq!(found, expected, "{} line {}", golden.display(), number + 1);
        }
        assert_eq!(found, expected, "{}", golden.display());
    }
}
