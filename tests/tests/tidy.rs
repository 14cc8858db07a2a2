//! House rules that a compiler does not check: what may import what, and how files begin.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every Rust file below `folder`, in the order of their names.
fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the folder is there") {
            let path = entry.expect("it can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ext| ext == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

#[test]
fn the_ledger_the_views_and_the_verdict_know_no_io_no_clock_and_no_format() {
    const FORBIDDEN: [&str; 18] = [
        "aya",
        "clap::",
        "serde",
        "tokio",
        "std::fs",
        "std::io",
        "std::time",
        "std::net",
        "std::process",
        "crate::proc",
        "crate::clock",
        "crate::output",
        "crate::attach",
        "crate::kernel",
        "crate::session",
        "crate::source",
        "golang::fetch",
        "golang::poll",
    ];
    let src = root().join("memtrace/src");
    let files = [
        rust_files(&src.join("ledger")),
        rust_files(&src.join("view")),
        rust_files(&src.join("verdict")),
    ]
    .concat();
    assert!(files.len() > 10, "the ledger and the views have moved");
    for file in files {
        let text = fs::read_to_string(&file).expect("it can be read");
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or("");
            for word in FORBIDDEN {
                assert!(
                    !code.contains(word),
                    "{}:{}: {word} has no place here",
                    file.display(),
                    number + 1
                );
            }
        }
    }
}

#[test]
fn only_attach_knows_ayas_programs() {
    let src = root().join("memtrace/src");
    for file in rust_files(&src) {
        if file.starts_with(src.join("attach")) {
            continue;
        }
        let text = fs::read_to_string(&file).expect("it can be read");
        for word in ["aya::programs", "aya::EbpfLoader", "include_bytes_aligned"] {
            assert!(!text.contains(word), "{} uses {word}", file.display());
        }
    }
}

#[test]
fn every_file_opens_with_one_sentence_on_what_it_is() {
    for package in ["memtrace", "memtrace-ebpf", "tests", "xtask"] {
        for file in rust_files(&root().join(package)) {
            let text = fs::read_to_string(&file).expect("it can be read");
            let first = text.lines().next().unwrap_or("");
            assert!(
                first.starts_with("//! ") && first.len() > 20,
                "{} begins with {first:?}",
                file.display()
            );
        }
    }
}
