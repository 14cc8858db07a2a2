//! One fault that brings many pages: what came and went is told as a bound that holds, or as the kernel measured it.

use memtrace_tests::bounds::{populated, released};
use memtrace_tests::bpf::attached_by;
use memtrace_tests::huge_pages::HugePages;
use memtrace_tests::needs::{Need, not_run};
use memtrace_tests::paced::{attach, quiet, steps};
use memtrace_tests::record::Record;
use memtrace_tests::scenario::Scenario;
use memtrace_tests::wait;
use memtrace_tests::workload::Workload;
use memtrace_tests::{exe, needs};

/// In kilobytes.
const HUGE: u32 = 2048;
const SMALLER: u32 = 64;

const REMEDY: &str = "free some memory, so that there are huge pages to be had";

/// Plays `huge_rounds`; None, having said so, where the kernel gave no huge page.
fn rounds(test: &str, how: &str, option: Option<&str>) -> Option<(Record, Record)> {
    let mut scenario = Scenario::of(exe!("huge_rounds")).with(how);
    if let Some(option) = option {
        scenario = scenario.traced_with(option);
    }
    let played = scenario.play();
    if played.told("whole") == 0 {
        // Before, a huge page had no room where the page table of base pages was left.
        let remedy = match how {
            "small" => "run on Linux 6.14 or newer, which frees empty page tables",
            _ => REMEDY,
        };
        not_run(test, "the kernel gave no huge page", remedy);
        return None;
    }
    Some((played.summary().clone(), played.truth))
}

#[test]
fn a_fault_may_have_brought_a_huge_page_and_a_call_have_released_it() {
    needs!(Need::Tracing, Need::HugePages(HUGE));
    let _on = HugePages::of(HUGE);
    let Some((summary, truth)) = rounds("huge_pages::may", "huge", None) else {
        return;
    };
    let [first, again] = ["first_bytes", "again_bytes"].map(|name| truth.count(name));
    let rounds = truth.count("rounds");
    summary.expect(&[
        ("faults.first_touch", 1),
        ("faults.refault_dontneed", rounds - 1),
    ]);
    let basis = released(&summary, "advice.MADV_DONTNEED", first + again);
    assert_eq!(basis, "upper_bound");
    assert_eq!(populated(&summary, "first_touch", first), "lower_bound");
    let basis = populated(&summary, "refault_dontneed", again);
    assert_eq!(basis, "lower_bound");
    let least = summary.count("advice.MADV_DONTNEED.refaulted_bytes");
    let most = summary.count("advice.MADV_DONTNEED.refaulted_at_most_bytes");
    assert!(least <= again && again <= most, "{again} in\n{summary}");
}

#[test]
fn memory_of_base_pages_may_be_back_as_a_huge_page() {
    needs!(Need::Tracing, Need::HugePages(HUGE));
    let _on = HugePages::of(HUGE);
    let Some((summary, truth)) = rounds("huge_pages::back", "small", None) else {
        return;
    };
    let [first, again] = ["first_bytes", "again_bytes"].map(|name| truth.count(name));
    released(&summary, "advice.MADV_DONTNEED", first + again);
    // Page by page, before there could be a huge one.
    assert_eq!(populated(&summary, "first_touch", first), "exact");
    let basis = populated(&summary, "refault_dontneed", again);
    assert_eq!(basis, "lower_bound");
}

#[test]
fn what_the_kernel_measured_is_the_truth_of_huge_pages_too() {
    needs!(Need::Tracing, Need::ReclaimCount, Need::HugePages(HUGE));
    let _on = HugePages::of(HUGE);
    for how in ["huge", "small"] {
        let test = "huge_pages::measured";
        let Some((summary, truth)) = rounds(test, how, Some("--exact-bytes")) else {
            return;
        };
        let [first, again] = ["first_bytes", "again_bytes"].map(|name| truth.count(name));
        let basis = released(&summary, "advice.MADV_DONTNEED", first + again);
        assert_eq!(basis, "measured");
        populated(&summary, "first_touch", first);
        assert_eq!(populated(&summary, "refault_dontneed", again), "measured");
    }
}

#[test]
fn huge_pages_given_back_and_touched_over_and_over_are_churn() {
    needs!(Need::Tracing, Need::HugePages(HUGE));
    let _on = HugePages::of(HUGE);
    let (count, pages, rounds) = (8, 8192, 4);
    let args = [count, pages, rounds].map(|number: u64| number.to_string());
    let [count_arg, pages_arg, rounds_arg] = args.each_ref().map(String::as_str);
    let args = [count_arg, pages_arg, rounds_arg, "huge"];
    let workload = Workload::start(&exe!("churns"), &args);
    let run = steps(workload, count, &[], quiet());
    let summary = run.summary();
    if summary.count("faults.total") > pages {
        return not_run(
            "huge_pages::churn",
            "the kernel gave few huge pages",
            REMEDY,
        );
    }
    assert_eq!(summary.text("verdict.kind"), "churn", "{summary}");
    let bytes = count * rounds * pages * 4096;
    released(summary, "advice.MADV_DONTNEED", bytes);
    populated(summary, "refault_dontneed", bytes);
}

#[test]
fn growth_by_huge_pages_of_memory_advised_before_comes_by_its_faults() {
    needs!(Need::Tracing, Need::HugePages(HUGE));
    let _on = HugePages::of(HUGE);
    let count = 30;
    let workload = Workload::start(&exe!("huge_grows"), &[&count.to_string()]);
    let run = steps(workload, count, &[], quiet());
    let summary = run.summary();
    let bytes = count * u64::from(HUGE) * 1024;
    summary.expect(&[("faults.unknown", count), ("faults.total", count)]);
    let grown = summary.count("rss.end_bytes") - summary.count("rss.start_bytes");
    if grown < bytes {
        return not_run(
            "huge_pages::grows",
            "the kernel gave few huge pages",
            REMEDY,
        );
    }
    populated(summary, "unknown", bytes);
    assert_eq!(summary.text("verdict.kind"), "growth", "{summary}");
    let verdict = summary.at("verdict").to_string();
    assert!(!verdict.contains("without page faults"), "{verdict}");
}

#[test]
fn what_reclaim_takes_of_larger_folios_is_counted_within_what_was_freed() {
    needs!(Need::Tracing, Need::ReclaimCount, Need::NoSwap);
    for kilobytes in [HUGE, SMALLER] {
        needs!(Need::HugePages(kilobytes));
        let _on = HugePages::of(kilobytes);
        let args = [&*kilobytes.to_string()];
        let mut workload = Workload::start(&exe!("free_folios"), &args);
        let trace = attach(workload.pid, &[]);
        workload.go();
        // The count begins when a look has shown that there is something to count.
        wait::until("the count's beginning", || {
            attached_by(trace.pid()).contains("rss_stat").then_some(())
        });
        let truth = workload.say("take");
        trace.signal(libc::SIGINT);
        let run = trace.finish();
        workload.end();
        let summary = run.summary();
        let [touched, freed, taken] =
            ["touched", "freed_bytes", "taken_bytes"].map(|name| truth.count(name));
        if freed < touched * u64::from(kilobytes) * 1024 / 2 || taken == 0 {
            let why = format!(
                "of {touched} folios of {kilobytes} KiB only {freed} bytes were freed, and {taken} taken"
            );
            return not_run("huge_pages::reclaim", &why, REMEDY);
        }
        released(summary, "advice.MADV_FREE", freed);
        let part = |name: &str| summary.count(&format!("lazy_balance.{name}_bytes"));
        assert!(part("marked") >= freed, "{freed} freed, in\n{summary}");
        let within = part("reclaimed_at_least")..=part("reclaimed_at_most");
        for (what, bytes) in [("truth", taken), ("count", part("reclaimed"))] {
            let inside = within.contains(&bytes);
            assert!(
                inside,
                "the {what}, {bytes}, is not in {within:?}:\n{summary}"
            );
        }
    }
}
