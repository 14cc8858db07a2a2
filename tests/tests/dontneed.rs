//! MADV_DONTNEED and its kin: one refault for each page that was there, and nothing for what was not.

use memtrace_tests::needs::Need;
use memtrace_tests::run::Run;
use memtrace_tests::scenario::{Scenario, play};
use memtrace_tests::tempdir::TempDir;
use memtrace_tests::{exe, needs};

#[test]
fn each_page_given_back_refaults_once_with_its_age() {
    needs!(Need::Tracing);
    let played = play(exe!("dontneed_touch"));
    let pages = played.told("pages");
    let bytes = pages * 4096;
    played.expect_faults(&[("first_touch", pages), ("refault_dontneed", pages)]);
    played.expect_advice(&["MADV_DONTNEED"]);
    let summary = played.summary();
    summary.expect(&[
        ("advice.MADV_DONTNEED.calls", 1),
        ("advice.MADV_DONTNEED.failed", 0),
        ("advice.MADV_DONTNEED.partial", 0),
        ("advice.MADV_DONTNEED.requested_bytes", bytes),
        ("advice.MADV_DONTNEED.refaults", pages),
        ("advice.MADV_DONTNEED.refaulted_bytes", bytes),
        ("faults.bytes.refault_dontneed", bytes),
        ("faults.bytes.total", 2 * bytes),
    ]);
    assert_eq!(summary.text("faults.bytes_basis"), "exact");
    // Everything asked for came back, whatever the ratio is based on.
    assert_eq!(summary.real("advice.MADV_DONTNEED.refault_ratio"), 1.0);

    // The workload's clock readings enclose the release and the touches. Percentiles are rounded
    // to two digits, which is at most one hundredth either way.
    let youngest = played.told("age_at_least_ns");
    let oldest = played.told("age_at_most_ns");
    for percentile in ["p50", "p90", "p99"] {
        let age = summary.count(&format!("advice.MADV_DONTNEED.age_ns.{percentile}"));
        let possible = youngest - youngest / 100..=oldest + oldest / 100;
        assert!(
            possible.contains(&age),
            "{percentile} is {age}, not in {possible:?}"
        );
    }
}

#[test]
fn the_stream_shows_the_call_and_the_refaults_where_they_happened() {
    needs!(Need::Tracing);
    let played = play(exe!("dontneed_touch"));
    let (pages, addr) = (played.told("pages"), played.told("addr"));
    let pid = u64::from(played.pid);

    let calls: Vec<_> = played.run.lines("madvise").collect();
    assert_eq!(calls.len(), 1);
    let call = calls[0];
    assert_eq!(call.text("advice"), "MADV_DONTNEED");
    call.expect(&[
        ("pid", pid),
        ("tid", pid),
        ("addr", addr),
        ("len_bytes", pages * 4096),
        ("ret", 0),
    ]);
    assert!(call.count("duration_ns") > 0);

    let maps: Vec<_> = played.run.lines("mmap").collect();
    assert_eq!(maps.len(), 1);
    maps[0].expect(&[("ret", addr), ("len_bytes", pages * 4096)]);

    let runs = faults_of(&played.run, "refault_dontneed");
    let span = addr..addr + pages * 4096;
    let mut covered = 0;
    for run in &runs {
        assert_eq!(run.text("access"), "write");
        let (start, len) = (run.count("addr"), run.count("len_bytes"));
        assert!(span.contains(&start) && start + len <= span.end, "{run}");
        // The pages were touched in order, each once.
        assert_eq!(run.count("faults") * 4096, len, "{run}");
        covered += len;
        assert!(run.count("ts_ns") > call.count("ts_ns"), "{run}");
        let age = run.count("age_ns");
        assert!(
            (played.told("age_at_least_ns")..=played.told("age_at_most_ns")).contains(&age),
            "the age is not between the workload's clock readings:\n{run}"
        );
    }
    assert_eq!(covered, pages * 4096, "{runs:#?}");
    // Neighbouring faults are run together. How many runs there are depends on when lines were
    // flushed, but one line for each page would be none at all.
    assert!((runs.len() as u64) < pages / 4, "{} runs", runs.len());

    for run in faults_of(&played.run, "first_touch") {
        run.expect_null("age_ns");
    }
}

fn faults_of(run: &Run, class: &str) -> Vec<memtrace_tests::record::Record> {
    let all = run.lines("fault");
    all.filter(|line| line.text("class") == class)
        .cloned()
        .collect()
}

#[test]
fn giving_back_what_was_never_populated_makes_no_refault() {
    needs!(Need::Tracing);
    let played = play(exe!("dontneed_untouched"));
    let pages = played.told("pages");
    played.expect_faults(&[("first_touch", pages)]);
    played.summary().expect(&[
        ("advice.MADV_DONTNEED.calls", 1),
        ("advice.MADV_DONTNEED.requested_bytes", pages * 4096),
        ("advice.MADV_DONTNEED.refaults", 0),
        ("advice.MADV_DONTNEED.refaulted_bytes", 0),
    ]);
}

#[test]
fn a_read_and_then_a_write_are_one_refault_whose_bytes_come_with_the_write() {
    needs!(Need::Tracing);
    let played = play(exe!("dontneed_read_write"));
    let (pages, only_read) = (played.told("pages"), played.told("only_read"));
    let written = pages - only_read;
    played.expect_faults(&[
        ("first_touch", pages),
        ("refault_dontneed", pages),
        ("zero_page_writes", written),
    ]);
    played.summary().expect(&[
        ("advice.MADV_DONTNEED.refaults", pages),
        ("advice.MADV_DONTNEED.refaulted_bytes", written * 4096),
        ("faults.bytes.refault_dontneed", written * 4096),
        ("faults.bytes.cow", 0),
        ("faults.cow", 0),
    ]);
    let reads: u64 = faults_of(&played.run, "refault_dontneed")
        .iter()
        .filter(|run| run.text("access") == "read")
        .map(|run| run.count("faults"))
        .sum();
    assert_eq!(reads, pages, "refaults by reading");
}

#[test]
fn a_first_read_and_then_a_write_are_one_first_touch() {
    needs!(Need::Tracing);
    let played = play(exe!("first_read_write"));
    let (pages, only_read) = (played.told("pages"), played.told("only_read"));
    let written = pages - only_read;
    played.expect_faults(&[("first_touch", pages), ("zero_page_writes", written)]);
    played.summary().expect(&[
        ("faults.bytes.first_touch", written * 4096),
        ("faults.bytes.total", written * 4096),
    ]);
}

#[test]
fn a_part_given_back_is_rounded_up_to_whole_pages() {
    needs!(Need::Tracing);
    let played = play(exe!("dontneed_partial"));
    let (pages, given_back) = (played.told("pages"), played.told("given_back"));
    played.expect_faults(&[("first_touch", pages), ("refault_dontneed", given_back)]);
    played.summary().expect(&[
        ("advice.MADV_DONTNEED.requested_bytes", given_back * 4096),
        ("advice.MADV_DONTNEED.refaulted_bytes", given_back * 4096),
    ]);
    for run in faults_of(&played.run, "refault_dontneed") {
        let start = played.told("addr");
        let span = start..start + given_back * 4096;
        assert!(span.contains(&run.count("addr")), "{run}");
    }
}

#[test]
fn a_hole_fails_the_call_and_the_rest_is_given_back() {
    needs!(Need::Tracing);
    let played = Scenario::of(exe!("advise_holes")).with("dontneed").play();
    let (pages, mapped) = (played.told("pages"), played.told("mapped"));
    played.expect_faults(&[("first_touch", pages), ("refault_dontneed", mapped)]);
    played.summary().expect(&[
        ("advice.MADV_DONTNEED.calls", 1),
        ("advice.MADV_DONTNEED.failed", 1),
        ("advice.MADV_DONTNEED.partial", 1),
        ("advice.MADV_DONTNEED.requested_bytes", mapped * 4096),
        ("advice.MADV_DONTNEED.refaults", mapped),
    ]);
    let call = played.run.lines("madvise").next().expect("it was made");
    assert_eq!(call.signed("ret"), -i64::from(libc::ENOMEM));
    assert_eq!(call.count("len_bytes"), pages * 4096, "as it was asked for");
}

#[test]
fn calls_that_apply_nothing_request_nothing() {
    needs!(Need::Tracing);
    let played = play(exe!("advise_errors"));
    let pages = played.told("pages");
    let failed = ["unaligned_ret", "wraps_ret", "backwards_ret"]
        .iter()
        .filter(|name| played.truth.signed(name) < 0)
        .count();
    // A second fault, or an unknown one, would mean that a failed call was believed.
    played.expect_faults(&[("first_touch", 2 * pages)]);
    played.expect_advice(&["MADV_999", "MADV_DONTNEED"]);
    played.summary().expect(&[
        ("advice.MADV_DONTNEED.calls", 4),
        ("advice.MADV_DONTNEED.failed", failed as u64),
        ("advice.MADV_DONTNEED.partial", 0),
        ("advice.MADV_DONTNEED.requested_bytes", 0),
        ("advice.MADV_DONTNEED.refaults", 0),
        ("advice.MADV_999.calls", 1),
        ("advice.MADV_999.failed", 1),
        ("advice.MADV_999.partial", 0),
        ("advice.MADV_999.requested_bytes", 0),
    ]);
}

#[test]
fn a_reservation_of_many_tebibytes_costs_no_more_than_its_pages() {
    needs!(Need::Tracing);
    let played = play(exe!("dontneed_huge_range"));
    let pages = played.told("pages");
    played.expect_faults(&[("first_touch", pages), ("refault_dontneed", pages)]);
    played.summary().expect(&[
        ("advice.MADV_DONTNEED.calls", 1),
        ("advice.MADV_DONTNEED.failed", 0),
        (
            "advice.MADV_DONTNEED.requested_bytes",
            played.told("reserved_bytes"),
        ),
        ("advice.MADV_DONTNEED.refaulted_bytes", pages * 4096),
        ("map.mmap.bytes", played.told("reserved_bytes")),
    ]);
}

#[test]
fn locked_pages_refuse_dontneed_and_yield_to_dontneed_locked() {
    needs!(Need::Tracing, Need::Advice(24, "MADV_DONTNEED_LOCKED"));
    let played = play(exe!("dontneed_locked"));
    let pages = played.told("pages");
    played.expect_faults(&[("first_touch", pages), ("refault_dontneed", pages)]);
    played.summary().expect(&[
        ("advice.MADV_DONTNEED.calls", 1),
        ("advice.MADV_DONTNEED.failed", 1),
        ("advice.MADV_DONTNEED.requested_bytes", 0),
        ("advice.MADV_DONTNEED.refaults", 0),
        ("advice.MADV_DONTNEED_LOCKED.calls", 1),
        ("advice.MADV_DONTNEED_LOCKED.failed", 0),
        ("advice.MADV_DONTNEED_LOCKED.requested_bytes", pages * 4096),
        ("advice.MADV_DONTNEED_LOCKED.refaults", pages),
    ]);
}

#[test]
fn shared_memory_that_is_given_back_refaults_from_the_cache() {
    needs!(Need::Tracing);
    let dir = TempDir::new();
    let file = dir.join("shared");
    let file = file.to_str().expect("ASCII");
    for played in [
        play(exe!("dontneed_mapped")),
        Scenario::of(exe!("dontneed_mapped")).with(file).play(),
    ] {
        // How many pages one fault maps is the file system's choice: the workload counted.
        let (first, again) = (played.told("first_faults"), played.told("again_faults"));
        played.expect_faults(&[("file", first), ("refault_dontneed", again)]);
        played.summary().expect(&[
            ("advice.MADV_DONTNEED.calls", 1),
            (
                "advice.MADV_DONTNEED.requested_bytes",
                played.told("pages") * 4096,
            ),
            ("advice.MADV_DONTNEED.refaults", again),
        ]);
    }
}

#[test]
fn private_copies_of_a_file_that_are_given_back_refault() {
    needs!(Need::Tracing);
    let dir = TempDir::new();
    let file = dir.join("private");
    let file = file.to_str().expect("ASCII");
    let played = Scenario::of(exe!("dontneed_private_file"))
        .with(file)
        .play();
    let (first, again) = (played.told("first_faults"), played.told("again_faults"));
    played.expect_faults(&[("file", first), ("refault_dontneed", again)]);
}

#[test]
fn pages_punched_out_of_shared_memory_are_other_refaults() {
    needs!(Need::Tracing);
    let played = play(exe!("remove_shared"));
    let (first, again) = (played.told("first_faults"), played.told("again_faults"));
    played.expect_faults(&[("file", first), ("refault_other", again)]);
    played.summary().expect(&[
        ("advice.MADV_REMOVE.calls", 1),
        (
            "advice.MADV_REMOVE.requested_bytes",
            played.told("pages") * 4096,
        ),
        ("advice.MADV_REMOVE.refaults", again),
    ]);
}

#[test]
fn advice_that_takes_nothing_makes_no_refault() {
    needs!(Need::Tracing, Need::Advice(20, "MADV_COLD"));
    let played = play(exe!("advise_keeps"));
    let pages = played.told("pages");
    played.expect_faults(&[("first_touch", pages)]);
    played.expect_advice(&[
        "MADV_COLD",
        "MADV_DONTDUMP",
        "MADV_SEQUENTIAL",
        "MADV_WILLNEED",
    ]);
    for advice in played.summary().keys("advice") {
        played.summary().expect(&[
            (&format!("advice.{advice}.calls"), 1),
            (&format!("advice.{advice}.failed"), 0),
            (&format!("advice.{advice}.requested_bytes"), pages * 4096),
        ]);
        let refaults = format!("advice.{advice}.refaults");
        assert_eq!(played.summary().count_or_none(&refaults), 0);
    }
}

#[test]
fn guard_pages_are_other_refaults_once_the_guard_is_lifted() {
    needs!(Need::Tracing, Need::Advice(102, "MADV_GUARD_INSTALL"));
    let played = play(exe!("guard"));
    let pages = played.told("pages");
    played.expect_faults(&[("first_touch", pages), ("refault_other", pages)]);
    played.summary().expect(&[
        ("advice.MADV_GUARD_INSTALL.requested_bytes", pages * 4096),
        ("advice.MADV_GUARD_INSTALL.refaults", pages),
        ("advice.MADV_GUARD_REMOVE.calls", 1),
    ]);
}

#[test]
fn memory_populated_without_a_fault_refaults_all_the_same() {
    needs!(Need::Tracing, Need::Advice(23, "MADV_POPULATE_WRITE"));
    for how in ["advice", "mmap"] {
        let played = Scenario::of(exe!("populate")).with(how).play();
        let pages = played.told("pages");
        assert_eq!(played.told("populated"), pages, "by {how}");
        expect_all_but_populated(&played, &[("refault_dontneed", pages)], pages);
    }
}

#[test]
fn a_collapse_populates_the_holes_of_a_huge_page() {
    needs!(Need::Tracing, Need::Advice(25, "MADV_COLLAPSE"));
    let played = play(exe!("collapse"));
    if played.truth.signed("collapse_ret") != 0 {
        // Huge pages are off, or memory is too fragmented.
        let why = &format!("MADV_COLLAPSE found no huge page: {}", played.truth);
        let remedy = "enable transparent huge pages and free some memory";
        return memtrace_tests::needs::not_run("dontneed::collapse", why, remedy);
    }
    played.expect_faults(&[
        ("first_touch", played.told("first_faults")),
        ("refault_dontneed", played.told("again_faults")),
    ]);
}

/// As expect_faults, but the kernel also counted `populated` pages that made no fault.
fn expect_all_but_populated(
    played: &memtrace_tests::scenario::Played,
    expected: &[(&str, u64)],
    populated: u64,
) {
    memtrace_tests::scenario::expect_classes(played.summary(), expected);
    assert_eq!(
        played.summary().count("faults.total") + populated,
        played.faults.all(),
        "minflt counts populated pages too (SEMANTICS §3)"
    );
}
