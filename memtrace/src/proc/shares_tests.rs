//! Texts of smaps files, and which share each mapping falls into.

use proptest::prelude::*;

use super::*;

/// A row with its Rss and LazyFree in kB.
fn mapping(row: &str, rss: u64, lazy: u64) -> String {
    format!(
        "{row}\nSize:  99 kB\nRss:   {rss} kB\nLazyFree:   {lazy} kB\nVmFlags: rd wr mr mw me ac\n"
    )
}

fn shares(rows: &[(&str, u64, u64)]) -> Shares {
    let text: String = rows
        .iter()
        .map(|(row, rss, lazy)| mapping(row, *rss, *lazy))
        .collect();
    from_reader(text.as_bytes()).unwrap()
}

const KIB: u64 = 1024;

#[test]
fn the_heap_of_go_is_what_goes_on_from_its_place() {
    let shares = shares(&[
        ("00400000-00600000 r-xp 00000000 fe:00 7 /srv/app", 900, 0),
        ("01000000-01021000 rw-p 00000000 00:00 0 [heap]", 40, 4),
        ("c000000000-c000400000 rw-p 00000000 00:00 0 ", 3000, 500),
        ("c000400000-c004000000 ---p 00000000 00:00 0 ", 0, 0),
        ("c004000000-c008000000 rw-p 00000000 00:00 0 ", 7000, 60),
        ("c010000000-c018000000 rw-p 00000000 00:00 0 ", 11, 0),
        ("7f0000000000-7f0000100000 rw-p 00000000 00:00 0 ", 70, 0),
        (
            "7f0000100000-7f0000200000 rw-s 00000000 00:01 9 /dev/zero (deleted)",
            8,
            0,
        ),
        (
            "7f0000200000-7f0000300000 r--p 00000000 fe:00 8 /lib/libc.so.6",
            500,
            0,
        ),
        (
            "7f0000300000-7f0000400000 r-xp 00010000 fe:00 8 /lib/libc.so.6",
            600,
            0,
        ),
        (
            "7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0 [stack]",
            20,
            0,
        ),
        (
            "7ffc00100000-7ffc00102000 r-xp 00000000 00:00 0 [vdso]",
            1,
            0,
        ),
    ]);
    assert_eq!(
        shares.go_heap,
        Share {
            mapped_bytes: 0x800_0000,
            rss_bytes: 10_000 * KIB,
            lazyfree_bytes: 560 * KIB
        }
    );
    assert_eq!(
        (shares.brk.rss_bytes, shares.brk.lazyfree_bytes),
        (40 * KIB, 4 * KIB)
    );
    assert_eq!(shares.anon.rss_bytes, 81 * KIB);
    assert_eq!(shares.shared.rss_bytes, 8 * KIB);
    assert_eq!(shares.file.rss_bytes, 2000 * KIB);
    assert_eq!(shares.rss_bytes(), 12_150 * KIB);
    let names = |list: &[Named]| -> Vec<(String, u64)> {
        list.iter()
            .map(|one| (one.name.clone(), one.rss_bytes / KIB))
            .collect()
    };
    assert_eq!(
        names(&shares.largest_files),
        [
            ("/lib/libc.so.6".to_owned(), 1100),
            ("/srv/app".to_owned(), 900)
        ]
    );
    assert_eq!(
        names(&shares.largest_anon),
        [
            ("7f0000000000-7f0000100000".to_owned(), 70),
            ("c010000000-c018000000".to_owned(), 11)
        ]
    );
}

#[test]
fn what_go_has_named_is_taken_by_its_name() {
    let shares = shares(&[
        ("1000-2000 rw-p 00000000 00:00 0 [anon: Go: heap]", 4, 0),
        (
            "5000-6000 rw-p 00000000 00:00 0 [anon: Go: heap metadata]",
            3,
            0,
        ),
        ("7000-8000 rw-p 00000000 00:00 0 [anon: Go: gc bits]", 2, 0),
        ("9000-a000 rw-p 00000000 00:00 0 [anon:glibc: malloc]", 1, 0),
    ]);
    assert_eq!(shares.go_heap.rss_bytes, 4 * KIB);
    assert_eq!(shares.go_named.rss_bytes, 5 * KIB);
    assert_eq!(shares.anon.rss_bytes, KIB);
}

#[test]
fn of_many_mappings_the_largest_are_named_in_their_order() {
    let mut list = Vec::new();
    for rss_bytes in [3, 9, 1, 7, 0, 5, 8, 7] {
        largest(
            &mut list,
            Named {
                name: String::new(),
                rss_bytes,
            },
        );
    }
    let sizes: Vec<u64> = list.iter().map(|one| one.rss_bytes).collect();
    assert_eq!(sizes, [9, 8, 7, 7, 5]);
}

#[test]
fn this_process_has_files_and_a_stack() {
    let shares = read(std::process::id()).unwrap();
    assert!(shares.file.rss_bytes > 0 && shares.stack.rss_bytes > 0);
    assert_eq!(shares.go_heap, Share::default());
    assert!(!shares.largest_files.is_empty());
}

proptest! {
    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        from_reader(&bytes[..]).unwrap();
    }
}
