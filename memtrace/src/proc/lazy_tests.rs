//! Tests of the parser of smaps: real rows, and rows made to break it.

use proptest::prelude::*;

use super::*;

const K: u64 = 1024;

/// A mapping as smaps shows it, with its LazyFree and flags.
fn mapping(row: &str, lazy_kib: u64, flags: &str) -> String {
    format!(
        "{row}\nSize:                 64 kB\nRss:                  40 kB\nAnonymous:            40 kB\n\
         LazyFree:           {lazy_kib:>5} kB\nTHPeligible:           0\nVmFlags: rd wr mr mw me ac {flags}\n"
    )
}

fn found(text: &str) -> LazyMappings {
    parse(text.as_bytes())
}

#[test]
fn private_anonymous_memory_is_found_with_its_name_and_sizes() {
    let text = [
        mapping("10000-20000 rw-p 00000000 00:00 0 ", 8, ""),
        mapping(
            "20000-30000 rw-p 00000000 00:00 0                          [heap]",
            4,
            "",
        ),
        mapping(
            "30000-40000 rw-p 00000000 00:00 0                          [anon:glibc: malloc arena]",
            12,
            "sd",
        ),
        mapping(
            "7ffc5e6b5000-7ffc5e6d7000 rw-p 00000000 00:00 0                          [stack]",
            16,
            "gd ac",
        ),
    ]
    .concat();
    let found = found(&text);
    let shown: Vec<_> = found
        .list
        .iter()
        .map(|one| (one.range.start, one.lazyfree_bytes, one.name.as_deref()))
        .collect();
    assert_eq!(
        shown,
        [
            (0x10000, 8 * K, None),
            (0x20000, 4 * K, Some("[heap]")),
            (0x30000, 12 * K, Some("glibc: malloc arena")),
            (0x7ffc_5e6b_5000, 16 * K, Some("[stack]")),
        ]
    );
    assert!(found.list.iter().all(|one| one.rss_bytes == 40 * K));
    assert_eq!(found.lazyfree_bytes(), 40 * K);
    assert_eq!((found.locked_bytes, found.other_bytes), (0, 0));
}

#[test]
fn files_shared_and_locked_memory_are_counted_and_left_out() {
    let text = [
        mapping(
            "10000-20000 rw-p 00000000 fe:00 12                         /tmp/[heap]",
            4,
            "",
        ),
        mapping("20000-30000 rw-s 00000000 00:00 0 ", 8, ""),
        mapping("30000-40000 rw-p 00000000 00:00 0 ", 16, "sh"),
        mapping("40000-50000 rw-p 00000000 00:00 0 ", 32, "ht"),
        mapping("50000-60000 rw-p 00000000 00:00 0 ", 64, "lo"),
        mapping("60000-70000 rw-p 00000000 00:00 0 ", 0, ""),
    ]
    .concat();
    let found = found(&text);
    assert_eq!(found.list, []);
    assert_eq!(
        (found.locked_bytes, found.other_bytes),
        (64 * K, (4 + 8 + 16 + 32) * K)
    );
}

#[test]
fn a_name_cannot_pass_for_a_line_of_its_own() {
    // A newline in a file's name is escaped by the kernel, and [anon:] names can hold none.
    let text = mapping(
        "10000-20000 rw-p 00000000 00:00 0                          [anon:x LazyFree: 999 kB]",
        4,
        "",
    );
    assert_eq!(found(&text).lazyfree_bytes(), 4 * K);
}

#[test]
fn an_answer_that_is_cut_off_keeps_what_it_told() {
    let whole = mapping("10000-20000 rw-p 00000000 00:00 0 ", 8, "");
    let (cut, _) = whole.split_once("THPeligible").unwrap();
    assert_eq!(found(cut).lazyfree_bytes(), 8 * K);
    assert_eq!(found(""), LazyMappings::default());
}

#[test]
fn a_mapping_that_comes_twice_is_taken_once() {
    let text = [
        mapping("10000-20000 rw-p 00000000 00:00 0 ", 8, ""),
        mapping("10000-30000 rw-p 00000000 00:00 0 ", 8, ""),
    ]
    .concat();
    let found = found(&text);
    assert_eq!((found.list.len(), found.skipped), (1, 1));
}

#[test]
fn long_names_and_many_mappings_are_bounded() {
    let long = format!(
        "10000-20000 rw-p 00000000 00:00 0 [anon:{}]",
        "n".repeat(3000)
    );
    let found_one = found(&mapping(&long, 4, ""));
    assert_eq!(
        found_one.list[0].name.as_deref().map(str::len),
        Some(NAME_BYTES)
    );

    let mut text = String::new();
    for number in 0..MAX_MAPPINGS + 5 {
        let start = 0x10000 + 0x2000 * number;
        text += &format!(
            "{start:x}-{:x} rw-p 00000000 00:00 0 \nLazyFree: 4 kB\n",
            start + 0x1000
        );
    }
    let many = found(&text);
    assert_eq!((many.list.len(), many.skipped), (MAX_MAPPINGS, 5));
}

#[test]
fn memory_that_this_process_freed_is_found() {
    const LEN: usize = 4 << 20;
    // SAFETY: a new private mapping at an address of the kernel's choice, used by this test alone.
    let at = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            LEN,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    assert_ne!(at, libc::MAP_FAILED);
    // SAFETY: the mapping above; nobody relies on what it holds.
    let freed = unsafe {
        std::ptr::write_bytes(at.cast::<u8>(), 1, LEN);
        libc::madvise(at, LEN, libc::MADV_FREE)
    };
    let found = read(std::process::id()).unwrap();
    let here = at as u64;
    let lazy: u64 = found
        .list
        .iter()
        .filter(|one| one.range.start < here + LEN as u64 && here < one.range.end)
        .map(|one| one.lazyfree_bytes)
        .sum();
    // SAFETY: the mapping above, which nothing refers to.
    unsafe { libc::munmap(at, LEN) };
    assert_eq!(freed, 0);
    // Some pages may wait in a CPU's batch, and memory pressure may take some.
    assert!(lazy >= 3 << 20, "{lazy} of {LEN}");
}

proptest! {
    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        parse(&bytes);
    }

    #[test]
    fn what_is_found_ascends_and_adds_up(
        text in "(([0-9a-f]{1,5}000-[0-9a-f]{1,5}000 rw-[ps] 0 00:00 0 (\\[heap\\]|/x)?|(LazyFree|Rss): [0-9]{1,20} kB|VmFlags:( lo| sh)?)\n){0,40}"
    ) {
        let found = parse(text.as_bytes());
        prop_assert!(found.list.windows(2).all(|pair| pair[0].range.end <= pair[1].range.start));
        prop_assert!(found.list.iter().all(|one| one.lazyfree_bytes > 0));
        found.lazyfree_bytes();
    }
}
