//! Tests of the search for strings: what is found, what is not, and where it stops.

use object::elf::PF_R;
use proptest::prelude::*;

use super::super::budget::Limit;
use super::super::budget::tests::{ample, counted};
use super::super::elf::CHUNK;
use super::super::elf::tests::{build, rodata};
use super::super::jemalloc;
use super::*;

fn elf(data: &[u8]) -> Elf<'static, Vec<u8>> {
    Elf::parse(build(&[rodata(data)], PF_R, true), ample()).unwrap()
}

const JEMALLOC: &[u8] =
    b"\0<jemalloc>: a\n\0<jemalloc>: b\n\0<jemalloc>: c\n\0<jemalloc>: d\n\0/etc/_rjem_malloc.conf\0_RJEM_MALLOC_CONF\0\
    x-go\x005.3.0-0-g54eaed1d8b56b1aa528be3bdd1877e59c56fa90c\0";

#[test]
fn jemalloc_is_known_by_its_messages_with_its_prefix_and_version() {
    let elf = elf(JEMALLOC);
    let found = marks(&elf);
    let expected = Marks {
        jemalloc: true,
        prefix: Some("_rjem_".into()),
        ..Marks::default()
    };
    assert_eq!(found, expected);
    assert_eq!(jemalloc::version(&elf).as_deref(), Some("5.3.0"));
}

#[test]
fn versions_of_jemalloc_that_say_nothing_are_left_out() {
    let commit = "54eaed1d8b56b1aa528be3bdd1877e59c56fa90c";
    for (text, expected) in [
        (format!("\x005.2.1-0-g{commit}\0"), Some("5.2.1".to_owned())),
        (
            format!("\x005.2.1-7-g{commit}\0"),
            Some("5.2.1-7".to_owned()),
        ),
        (format!("\x000.0.0-0-g{commit}\0"), None),
        (format!("\x005.2.1-0-g{commit}0\0"), None),
        (format!("\0five-0-g{commit}\0"), None),
        ("\x005.2.1-0-g\0".to_owned(), None),
    ] {
        let found = jemalloc::version(&elf(text.as_bytes()));
        assert_eq!(found, expected, "{text}");
    }
}

#[test]
fn an_option_string_is_found_without_its_variable() {
    for (constants, expected) in [
        (
            &b"\0narenas:2,muzzy_decay_ms:100,retain:true\0"[..],
            Some("narenas:2,muzzy_decay_ms:100,retain:true"),
        ),
        (b"\0opt.muzzy_decay_ms\0", None),
        (b"\0set dirty_decay_ms: 5\0", None),
    ] {
        let found = jemalloc::built_in_string(&elf(constants));
        assert_eq!(found.as_deref(), expected);
    }
}

#[test]
fn the_other_allocators_have_their_own_marks() {
    let all = elf(b"\0mimalloc: error: \0tcmalloc.max_total_thread_cache_bytes\0malloc(): corrupted top size\0");
    let found = marks(&all);
    assert!(found.mimalloc && found.tcmalloc && found.glibc && !found.jemalloc);
    // Talk about them is no mark.
    let talk = elf(b"\0libjemalloc.so.2\0use jemalloc or mimalloc\0<jemalloc>: one\0tcmalloc\0 in malloc(): x\0/etc/malloc.conf is\0");
    assert_eq!(marks(&talk), Marks::default());
}

#[test]
fn a_mark_across_two_pieces_is_found() {
    for offset in 0..JEMALLOC.len() {
        let mut data = vec![b' '; CHUNK - offset];
        data.extend(JEMALLOC);
        data.extend(vec![b' '; CHUNK]);
        let elf = elf(&data);
        let found = marks(&elf);
        assert!(found.jemalloc && found.prefix.is_some(), "{offset}");
        assert!(jemalloc::version(&elf).is_some(), "{offset}");
    }
}

#[test]
fn a_search_cut_short_says_so() {
    let mut data = vec![b' '; 3 * CHUNK];
    data.extend(JEMALLOC);
    let file = build(&[rodata(&data)], PF_R, true);
    let most = 2 * CHUNK as u64 + 4096;
    let budget = counted(most, 1000);
    let elf = Elf::parse(file, &budget).unwrap();
    assert!(!marks(&elf).jemalloc);
    assert_eq!(budget.lacks(), Some(Limit::Bytes(most)));
    // Each place of the needle is a record.
    let file = build(&[rodata(&b"malloc".repeat(500))], PF_R, true);
    let budget = counted(u64::MAX, 400);
    let elf = Elf::parse(file, &budget).unwrap();
    marks(&elf);
    assert_eq!(budget.lacks(), Some(Limit::Records(400)));
}

#[test]
fn a_version_is_numbers_with_dots_between() {
    for (text, expected) in [
        ("2.36.", Some("2.36")),
        ("2.36", Some("2.36")),
        ("17.0.15+6", Some("17.0.15")),
        ("2", None),
        ("2.", None),
        (".2", None),
        ("2..3", None),
        ("", None),
    ] {
        assert_eq!(version(text), expected, "{text}");
    }
}

proptest! {
    #[test]
    fn any_constants_are_survived(data in proptest::collection::vec(any::<u8>(), 0..500)) {
        let elf = elf(&data);
        marks(&elf);
        jemalloc::version(&elf);
    }

    #[test]
    fn anything_around_the_marks_is_survived(text in "(<je|mi|tc|\0|/etc/|ä|malloc|>: |\\.conf\0|-g|[0-9a-f]{38,42}|5\\.3\\.0-0){0,30}") {
        let elf = elf(text.as_bytes());
        marks(&elf);
        jemalloc::version(&elf);
    }
}
