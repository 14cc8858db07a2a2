//! Tests of what is read from Go programs: records of each form, settings, and damage.

use object::elf::{PF_R, PF_W, SHF_ALLOC, SHF_WRITE, SHT_PROGBITS};
use proptest::prelude::*;

use super::super::budget::tests::ample;
use super::super::elf::tests::{ADDRESS, Part, build, first, symbols};
use super::*;

const MODULE: &str = "path\texample.com/x\nmod\texample.com/x\t(devel)\t\nbuild\t-compiler=gc\n\
    build\t-ldflags=\"-s -w\"\nbuild\tDefaultGODEBUG=madvdontneed=0,panicnil=1\nbuild\tCGO_ENABLED=0\n";

/// The module information between its marks of 16 bytes.
fn framed(module: &str) -> Vec<u8> {
    let mut info = b"\x30\x77\xaf\x0c\x92\x74\x08\x02\x41\xe1\xc1\x07\xe6\xd6\x18\xe6".to_vec();
    info.extend(module.bytes());
    info.extend(b"\xf9\x32\x43\x31\x86\x18\x20\x72\x00\x82\x42\x10\x41\x16\xd8\xf2");
    info
}

fn header(size: u8, flags: u8) -> Vec<u8> {
    let mut record = MAGIC.to_vec();
    record.extend([size, flags]);
    record
}

/// As Go 1.18 and later write it.
fn inline_record(version: &str, module: &str) -> Vec<u8> {
    let mut record = header(8, 2);
    record.resize(HEADER, 0);
    let info = framed(module);
    for text in [version.as_bytes(), &info] {
        let mut length = text.len();
        while length >= 0x80 {
            record.push(length as u8 | 0x80);
            length >>= 7;
        }
        record.push(length as u8);
        record.extend(text);
    }
    record
}

/// As Go 1.13 to 1.17 wrote it: addresses of strings. `at` is the address of the record itself.
fn pointer_record(version: &str, module: &str, at: u64, size: u8, big: bool) -> Vec<u8> {
    let mut record = header(size, u8::from(big));
    let word = |value: u64| match (size, big) {
        (4, false) => u32::try_from(value).unwrap().to_le_bytes().to_vec(),
        (4, true) => u32::try_from(value).unwrap().to_be_bytes().to_vec(),
        (_, false) => value.to_le_bytes().to_vec(),
        (_, true) => value.to_be_bytes().to_vec(),
    };
    let width = u64::from(size);
    let info = framed(module);
    let (strings, data) = (at + 64, at + 128);
    record.extend(word(strings));
    record.extend(word(strings + 2 * width));
    record.resize(64, 0);
    for value in [
        data,
        version.len() as u64,
        data + version.len() as u64,
        info.len() as u64,
    ] {
        record.extend(word(value));
    }
    record.resize(128, 0);
    record.extend(version.bytes());
    record.extend(info);
    record
}

fn file(record: &[u8], sections: bool) -> Vec<u8> {
    let part = Part {
        name: ".go.buildinfo",
        kind: SHT_PROGBITS,
        flags: SHF_ALLOC | SHF_WRITE,
        link: 0,
        data: record.to_vec(),
    };
    build(&[part], PF_R | PF_W, sections)
}

fn read(file: Vec<u8>) -> Option<BuildInfo> {
    BuildInfo::read(&Elf::parse(file, ample())?)
}

#[test]
fn the_record_is_read_in_all_its_forms() {
    let at = ADDRESS + first() as u64;
    let records = [
        inline_record("go1.21.3", MODULE),
        pointer_record("go1.21.3", MODULE, at, 8, false),
        pointer_record("go1.21.3", MODULE, at, 8, true),
        pointer_record("go1.21.3", MODULE, at, 4, false),
        pointer_record("go1.21.3", MODULE, at, 4, true),
    ];
    for (index, record) in records.iter().enumerate() {
        for sections in [true, false] {
            let info = read(file(record, sections)).unwrap();
            assert_eq!(
                info.version.as_deref(),
                Some("go1.21.3"),
                "{index} {sections}"
            );
            assert_eq!(info.setting("CGO_ENABLED"), Some("0"));
            assert_eq!(info.setting("-ldflags"), Some("-s -w"));
            assert_eq!(info.default_debug(), Some("madvdontneed=0,panicnil=1"));
        }
    }
}

#[test]
fn a_program_before_go_1_13_is_known_by_its_table_and_its_symbol() {
    // Behind a table of 48 bytes and names of 22.
    let place = ADDRESS + first() as u64 + 80;
    let [table, names] = symbols(&[("runtime.buildVersion", 3, place)]);
    let mut data = Vec::new();
    data.extend((place + 16).to_le_bytes());
    data.extend(8u64.to_le_bytes());
    data.extend(b"go1.11.5");
    let lines = Part {
        name: ".gopclntab",
        kind: SHT_PROGBITS,
        flags: SHF_ALLOC,
        link: 0,
        data,
    };
    let info = read(build(&[table, names, lines], PF_R, true)).unwrap();
    assert_eq!(info.version.as_deref(), Some("go1.11.5"));
    assert!(info.settings.is_empty());
}

#[test]
fn a_file_without_any_trace_of_go_is_none() {
    let part = super::super::elf::tests::rodata(b"nothing");
    assert_eq!(read(build(&[part], PF_R | PF_W, true)), None);
    // The search for the record must stay at multiples of 16.
    let mut shifted = vec![0; 8];
    shifted.extend(inline_record("go1.21.3", MODULE));
    assert_eq!(read(file(&shifted, false)), None);
}

fn in_environment(info: &BuildInfo, variables: &str) -> Runtime {
    let bytes = variables.replace(' ', "\0");
    runtime(info, &Environment::parse(bytes.as_bytes()))
}

fn info(version: &str, default_debug: &str) -> BuildInfo {
    BuildInfo {
        version: Some(version.into()),
        settings: vec![("DefaultGODEBUG".into(), default_debug.into())],
    }
}

#[test]
fn the_environment_goes_before_what_is_built_in_key_by_key() {
    let built = info("go1.22.0", "madvdontneed=0,harddecommit=1");
    let alone = in_environment(&built, "GOGC=50");
    assert_eq!(alone.gives_back, GivesBack::Free);
    assert_eq!(
        alone.to_string(),
        "Go go1.22.0 (GODEBUG=madvdontneed=0 built in, GODEBUG=harddecommit=1 built in, GOGC=50)"
    );
    let both = in_environment(&built, "GODEBUG=gctrace=1,madvdontneed=1");
    assert_eq!(both.gives_back, GivesBack::DontNeed);
    assert_eq!(
        both.to_string(),
        "Go go1.22.0 (GODEBUG=madvdontneed=1, GODEBUG=harddecommit=1 built in)"
    );
}

#[test]
fn a_default_given_to_the_linker_by_hand_counts() {
    let info = BuildInfo {
        version: Some("go1.22.0".into()),
        settings: vec![(
            "-ldflags".into(),
            "-s '-X=runtime.godebugDefault=madvdontneed=0' -w".into(),
        )],
    };
    assert_eq!(info.default_debug(), Some("madvdontneed=0"));
}

#[test]
fn the_last_number_of_a_key_wins() {
    for (list, expected) in [
        ("", None),
        ("madvdontneed", None),
        ("madvdontneed=0", Some(0)),
        ("madvdontneed=0,madvdontneed=1", Some(1)),
        ("madvdontneed=0,madvdontneed=x", Some(0)),
        ("madvdontneed=0,madvdontneed=", Some(0)),
        ("madvdontneed=+1", None),
        ("madvdontneed=-1", Some(-1)),
        ("madvdontneed=99999999999", None),
        (" madvdontneed=1", None),
        ("xmadvdontneed=1,gctrace=1", None),
    ] {
        assert_eq!(last_number(list, "madvdontneed"), expected, "{list}");
    }
}

#[test]
fn versions_are_understood_as_they_are_written() {
    let release = |minor, development| Some(Release { minor, development });
    for (version, expected) in [
        ("go1.19.8", release(19, false)),
        ("go1.16beta1", release(16, false)),
        ("go1.12.17 X:framepointer", release(12, false)),
        ("go1.20.6b7", release(20, false)),
        ("go1", release(0, false)),
        (
            "devel go1.22-abcdef Mon Jan 1 00:00:00 2024 +0000",
            release(22, true),
        ),
        ("devel +abcdef Mon Jan 1 00:00:00 2018 +0000", None),
        ("go2.1", None),
        ("go1.", None),
        ("go1x", None),
        ("go1.99999999999", None),
        ("", None),
    ] {
        assert_eq!(Release::parse(version), expected, "{version}");
    }
}

#[test]
fn the_advice_follows_the_version_and_the_setting() {
    use GivesBack::{DontNeed, Free, Unknown};
    for (version, unset, zero, one) in [
        ("go1.11.13", DontNeed, DontNeed, DontNeed),
        ("go1.12", Free, Free, DontNeed),
        ("go1.15.15", Free, Free, DontNeed),
        ("go1.16", DontNeed, Free, DontNeed),
        ("go1.24.1", DontNeed, Free, DontNeed),
        ("devel go1.16-a b", Unknown, Free, DontNeed),
        ("devel go1.17-a b", DontNeed, Free, DontNeed),
        ("devel +a", Unknown, Unknown, DontNeed),
    ] {
        let release = Release::parse(version);
        let found = [None, Some(false), Some(true)].map(|set| gives_back(release, set));
        assert_eq!(found, [unset, zero, one], "{version}");
    }
}

proptest! {
    #[test]
    fn any_change_of_a_go_program_is_survived(
        form in 0usize..5,
        sections in any::<bool>(),
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..10),
        cut in any::<proptest::sample::Index>(),
    ) {
        let at = ADDRESS + first() as u64;
        let record = match form {
            0 => inline_record("go1.21.3", MODULE),
            1 => pointer_record("go1.21.3", MODULE, at, 8, false),
            2 => pointer_record("go1.21.3", MODULE, at, 8, true),
            3 => pointer_record("go1.21.3", MODULE, at, 4, false),
            _ => pointer_record("go1.21.3", MODULE, at, 4, true),
        };
        let mut bytes = file(&record, sections);
        for (at, value) in changes {
            // Half of the changes in the record itself, where the interesting fields are.
            let at = if value % 2 == 0 { first() + at.index(64) } else { at.index(bytes.len()) };
            bytes[at] = value;
        }
        bounds(read(bytes.clone()));
        bytes.truncate(cut.index(bytes.len()));
        bounds(read(bytes));
    }

    #[test]
    fn any_record_is_survived(tail in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut record = MAGIC.to_vec();
        record.extend(tail);
        bounds(read(file(&record, true)));
        bounds(read(file(&record, false)));
    }
}

fn bounds(info: Option<BuildInfo>) {
    if let Some(info) = info {
        assert!(info.version.is_none_or(|version| version.len() <= 1024));
        assert!(info.settings.len() <= 256);
    }
}
