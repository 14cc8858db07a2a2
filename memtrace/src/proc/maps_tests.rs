//! Tests of the maps parser: real rows, and rows made to break it.

use proptest::prelude::*;

use super::*;
use crate::proc::MAX_NAME;

fn one(line: &str) -> (Range<u64>, Mapping) {
    let maps = parse(line.as_bytes());
    assert_eq!(maps.skipped, 0, "{line}");
    assert_eq!(maps.list.len(), 1, "{line}");
    maps.list.into_iter().next().unwrap()
}

fn kind_and_name(line: &str) -> (MappingKind, bool, Option<String>) {
    let (_, mapping) = one(line);
    (
        mapping.kind,
        mapping.shared,
        mapping.name.map(|name| name.to_string()),
    )
}

#[test]
fn rows_of_a_real_process_are_told_apart() {
    use MappingKind::*;
    let cases = [
        (
            "55e0ae1cb000-55e0ae1ec000 rw-p 00000000 00:00 0                          [heap]",
            Heap,
            false,
            None,
        ),
        (
            "7ffc5e6b5000-7ffc5e6d7000 rw-p 00000000 00:00 0                          [stack]",
            Stack,
            false,
            None,
        ),
        (
            "7fb55d1f6000-7fb55d1fa000 r--p 00000000 00:00 0                          [vvar]",
            Special,
            false,
            Some("[vvar]"),
        ),
        (
            "7fb55d1fc000-7fb55d1fe000 r-xp 00000000 00:00 0                          [vdso]",
            Special,
            false,
            Some("[vdso]"),
        ),
        (
            "7fffffffe000-7ffffffff000 --xp 00000000 00:00 0                          [uprobes]",
            Special,
            false,
            Some("[uprobes]"),
        ),
        (
            "7fb55d006000-7fb55d009000 rw-p 00000000 00:00 0 ",
            Anon,
            false,
            None,
        ),
        (
            "7fb55d006000-7fb55d009000 rw-p 00000000 00:00 0                          [anon:glibc: malloc arena]",
            Anon,
            false,
            Some("glibc: malloc arena"),
        ),
        (
            "7fb55d006000-7fb55d009000 rw-s 00000000 00:01 2063                       [anon_shmem:ring]",
            File,
            true,
            Some("ring"),
        ),
        (
            "7fb55d006000-7fb55d009000 rw-s 00000000 00:01 2063                       /dev/zero (deleted)",
            File,
            true,
            Some("/dev/zero (deleted)"),
        ),
        (
            "7fb55d006000-7fb55d009000 rw-p 00000000 00:05 5                          /dev/zero",
            Anon,
            false,
            Some("/dev/zero"),
        ),
        (
            "7fb55d006000-7fb55d009000 rw-s 00000000 00:01 1027                       /memfd:jit code (deleted)",
            File,
            true,
            Some("/memfd:jit code (deleted)"),
        ),
        (
            "7fb55d006000-7fb55d009000 rw-s 00000000 00:01 65538                      /SYSV00000000 (deleted)",
            File,
            true,
            Some("/SYSV00000000 (deleted)"),
        ),
        (
            "7fb55d02f000-7fb55d185000 r-xp 00026000 fe:00 326279                     /usr/lib/x86_64-linux-gnu/libc.so.6",
            File,
            false,
            Some("/usr/lib/x86_64-linux-gnu/libc.so.6"),
        ),
        (
            "7fb55d02f000-7fb55d185000 rw-s 00000000 00:0e 1053                       anon_inode:[perf_event]",
            File,
            true,
            Some("anon_inode:[perf_event]"),
        ),
        (
            "7fb55d02f000-7fb55d185000 r--p 00000000 fe:00 12                         /tmp/a b  c (deleted)",
            File,
            false,
            Some("/tmp/a b  c (deleted)"),
        ),
        (
            "7fb55d02f000-7fb55d185000 r--p 00000000 fe:00 12                         /tmp/two\\012lines",
            File,
            false,
            Some("/tmp/two\nlines"),
        ),
    ];
    for (line, kind, shared, name) in cases {
        assert_eq!(
            kind_and_name(line),
            (kind, shared, name.map(str::to_owned)),
            "{line}"
        );
    }
}

#[test]
fn a_file_cannot_pass_for_the_heap_or_for_a_named_anonymous_mapping() {
    let row = "1000-2000 rw-p 00000000 fe:00 12                         [heap]";
    assert_eq!(kind_and_name(row).0, MappingKind::File);
    assert_eq!(parse(row.as_bytes()).heap_end, None);
    let row = "1000-2000 rw-p 00000000 fe:00 12                         [anon:x]";
    assert_eq!(kind_and_name(row).0, MappingKind::File);
}

#[test]
fn the_break_is_the_end_of_the_last_heap_row() {
    let maps =
        parse(b"1000-2000 rw-p 00000000 00:00 0 [heap]\n2000-5000 r--p 00000000 00:00 0 [heap]\n");
    assert_eq!(maps.heap_end, Some(0x5000));
}

#[test]
fn the_vsyscall_page_is_left_out_without_being_counted() {
    let maps = parse(
        b"ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]\n",
    );
    assert_eq!(maps, Maps::default());
}

#[test]
fn rows_that_make_no_sense_are_counted_and_the_others_kept() {
    let text = b"garbage\n\
        1000-2000 rw-p 00000000 00:00 0 \n\
        3000-2000 rw-p 00000000 00:00 0 \n\
        3001-4000 rw-p 00000000 00:00 0 \n\
        3000-4000 rwxq 00000000 00:00 0 \n\
        3000-4000 rw-p zz 00:00 0 \n\
        3000-4000 rw-p 00000000 0000 0 \n\
        3000-4000 rw-p 00000000 00:00 -1 \n\
        +3000-4000 rw-p 00000000 00:00 0 \n\
        10000000000000000000-4000 rw-p 00000000 00:00 0 \n\
        \xff\xfe-4000 rw-p 00000000 00:00 0 \n\
        5000-6000 rw-p 00000000 00:00 0";
    let maps = parse(text);
    assert_eq!(maps.skipped, 10);
    let ranges: Vec<_> = maps.list.iter().map(|(range, _)| range.clone()).collect();
    assert_eq!(ranges, [0x1000..0x2000, 0x5000..0x6000]);
}

#[test]
fn a_row_that_repeats_part_of_the_last_is_cut_to_what_is_new() {
    let maps = parse(
        b"1000-3000 rw-p 00000000 00:00 0 \n2000-5000 rw-p 00000000 00:00 0 \n1000-5000 rw-p 00000000 00:00 0 \n",
    );
    let ranges: Vec<_> = maps.list.iter().map(|(range, _)| range.clone()).collect();
    assert_eq!(ranges, [0x1000..0x3000, 0x3000..0x5000]);
    assert_eq!(maps.skipped, 1);
}

#[test]
fn names_are_bounded_and_kept_once() {
    let long = "n".repeat(3 * MAX_NAME);
    let text = format!(
        "1000-2000 rw-p 00000000 fe:00 1 /{long}\n2000-3000 r--p 00000000 fe:00 1 /{long}\n"
    );
    let maps = parse(text.as_bytes());
    let names: Vec<_> = maps
        .list
        .iter()
        .filter_map(|(_, m)| m.name.clone())
        .collect();
    assert_eq!(names[0].len(), MAX_NAME);
    assert!(Arc::ptr_eq(&names[0], &names[1]));
}

#[test]
fn flags_mark_just_the_mappings_it_touches() {
    let mut maps = parse(
        b"1000-2000 rw-p 0 00:00 0 \n2000-4000 rw-p 0 00:00 0 \n4000-6000 rw-p 0 00:00 0 \n8000-9000 rw-p 0 00:00 0 \n",
    );
    let flags = VmFlags {
        dont_fork: true,
        ..VmFlags::default()
    };
    maps.mark(&vec![(0x2000..0x4000, flags), (0x8000..0x9000, flags)]);
    let marked: Vec<_> = maps.list.iter().map(|(_, m)| m.flags.dont_fork).collect();
    assert_eq!(marked, [false, true, false, true]);
}

#[test]
fn this_process_is_read_whole() {
    let maps = read(std::process::id()).unwrap();
    assert_eq!(maps.skipped, 0);
    let local = 0u8;
    let here = std::ptr::from_ref(&local) as u64;
    assert!(maps.list.iter().any(|(range, _)| range.contains(&here)));
    assert!(maps.list.iter().any(|(_, m)| m.kind == MappingKind::Stack));
    let code = this_process_is_read_whole as *const () as u64;
    let (_, code) = maps
        .list
        .iter()
        .find(|(range, _)| range.contains(&code))
        .unwrap();
    assert_eq!(code.kind, MappingKind::File);
}

proptest! {
    #[test]
    fn any_bytes_give_ascending_mappings(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        check(&parse(&bytes));
    }

    #[test]
    fn anything_like_a_maps_file_gives_ascending_mappings(
        text in "([0-9a-f]{1,17}000-[0-9a-f]{1,17}000 [rwxps-]{3,5} [0-9a-f]{0,20} [0-9a-f:]{1,6} [0-9]{0,3} {0,3}(\\[heap\\]|\\[anon:.{0,9}\\]|/.{0,9}|)\n){0,20}"
    ) {
        check(&parse(text.as_bytes()));
    }
}

fn check(maps: &Maps) {
    let mut end = 0;
    for (range, _) in &maps.list {
        assert!(range.start >= end && !range.is_empty());
        end = range.end;
    }
}
