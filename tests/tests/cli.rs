//! What the options do to the output: what is shown, what is left out, and that totals never change.

use std::fs;
use std::process::Stdio;
use std::thread;

use memtrace_tests::needs::Need;
use memtrace_tests::record::Record;
use memtrace_tests::run::{Rules, Run};
use memtrace_tests::scenario::{Scenario, expect_classes};
use memtrace_tests::tempdir::TempDir;
use memtrace_tests::tracer::{Trace, command};
use memtrace_tests::wait;
use memtrace_tests::workload::Workload;
use memtrace_tests::{exe, needs};

/// The stream is filtered; all else is as strict as ever.
fn filtered() -> Rules {
    Rules {
        whole_stream: false,
        ..Rules::default()
    }
}

#[test]
fn quiet_shows_no_event_and_counts_all() {
    needs!(Need::Tracing);
    let scenario = Scenario::of(exe!("dontneed_touch")).traced_with("-q");
    let played = scenario.under(filtered()).play();
    let pages = played.told("pages");
    assert!(played.run.events.is_empty(), "{:#?}", played.run.events);
    played.expect_faults(&[("first_touch", pages), ("refault_dontneed", pages)]);
}

#[test]
fn chosen_events_alone_are_shown_and_all_are_counted() {
    needs!(Need::Tracing);
    for (chosen, kinds) in [
        ("madvise", &["madvise"][..]),
        ("fault", &["fault"]),
        ("mmap,munmap", &["mmap", "munmap"]),
    ] {
        let scenario = Scenario::of(exe!("advise_sizes"))
            .traced_with("-e")
            .traced_with(chosen);
        let played = scenario.under(filtered()).play();
        let mut shown: Vec<&str> = played.run.events.iter().map(Record::kind).collect();
        shown.sort_unstable();
        shown.dedup();
        assert_eq!(shown, kinds, "with -e {chosen}");
        check_sizes(&played);
    }
}

#[test]
fn small_events_can_be_left_out_and_are_counted() {
    needs!(Need::Tracing);
    let scenario = Scenario::of(exe!("advise_sizes"))
        .traced_with("--min-size")
        .traced_with("64K");
    let played = scenario.under(filtered()).play();
    for kind in ["madvise", "mmap", "munmap"] {
        let sizes: Vec<u64> = played
            .run
            .lines(kind)
            .map(|line| line.count("len_bytes"))
            .collect();
        assert_eq!(sizes, [played.told("large_pages") * 4096], "of {kind}");
    }
    for run in played.run.lines("fault") {
        assert!(run.count("len_bytes") >= 64 << 10, "{run}");
    }
    check_sizes(&played);
}

/// Totals are never filtered.
fn check_sizes(played: &memtrace_tests::scenario::Played) {
    let pages = played.told("large_pages") + played.told("small_pages");
    played.expect_faults(&[("first_touch", pages), ("refault_dontneed", pages)]);
    played.summary().expect(&[
        ("advice.MADV_DONTNEED.calls", 2),
        ("advice.MADV_DONTNEED.requested_bytes", pages * 4096),
        ("map.mmap.calls", 2),
        ("unmap.munmap.calls", 2),
        ("unmap.munmap.requested_bytes", pages * 4096),
    ]);
}

#[test]
fn the_header_tells_what_is_traced_and_how() {
    needs!(Need::Tracing);
    let mut workload = Workload::start(&exe!("waits"), &[]);
    let pid = workload.pid;
    let trace = Trace::attach(pid, &[]);
    workload.go();
    workload.end();
    let run = trace.finish();
    let header = &run.header;
    header.expect(&[("schema", 1), ("page_bytes", 4096)]);
    assert_eq!(header.text("arch"), std::env::consts::ARCH);
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("proc is mounted");
    assert_eq!(header.text("kernel"), release.trim());
    let sources = ["tp_btf", "raw_tp", "tracepoint"];
    assert!(sources.contains(&header.text("fault_source")), "{header}");
    let targets = header.list("targets");
    assert_eq!(targets.len(), 1, "{header}");
    targets[0].expect(&[("pid", u64::from(pid))]);
    assert_eq!(targets[0].text("comm"), "workload");
    assert!(targets[0].text("exe").ends_with("/workload"), "{header}");
}

#[test]
fn every_fault_source_counts_the_same() {
    needs!(Need::Tracing, Need::Btf);
    for source in ["tp_btf", "raw_tp", "tracepoint"] {
        let scenario = Scenario::of(exe!("dontneed_read_write"))
            .traced_with("--fault-source")
            .traced_with(source);
        let played = scenario.play();
        assert_eq!(played.run.header.text("fault_source"), source);
        let (pages, only_read) = (played.told("pages"), played.told("only_read"));
        played.expect_faults(&[
            ("first_touch", pages),
            ("refault_dontneed", pages),
            ("zero_page_writes", pages - only_read),
        ]);
    }
}

#[test]
fn several_processes_have_a_summary_each_and_a_total() {
    needs!(Need::Tracing);
    for listed in [false, true] {
        let mut first = Workload::start(&exe!("dontneed_touch"), &[]);
        let mut second = Workload::start(&exe!("free_rewrite"), &[]);
        let bystander = &mut Workload::start(&exe!("dontneed_touch"), &[]);
        let pids = [first.pid, second.pid].map(|pid| pid.to_string());
        let trace = if listed {
            // As from -p "$(pidof x)".
            Trace::with(&["-p", &pids.join(" ")])
        } else {
            Trace::with(&["-p", &pids[0], "-p", &pids[1]])
        };
        let (pid_first, pid_second) = (u64::from(first.pid), u64::from(second.pid));
        bystander.go();
        let (one, two) = (first.go(), second.go());
        first.end();
        second.end();
        let run = trace.finish();

        assert_eq!(run.header.list("targets").len(), 2);
        assert_eq!(run.summaries.len(), 2);
        let pages = one.count("pages");
        let summary = run.summary_of(pid_first, 0);
        expect_classes(
            summary,
            &[("first_touch", pages), ("refault_dontneed", pages)],
        );
        summary.expect(&[("advice.MADV_DONTNEED.calls", 1)]);
        let freed = two.count("pages");
        let summary = run.summary_of(pid_second, 0);
        expect_classes(summary, &[("first_touch", freed)]);
        summary.expect(&[("advice.MADV_FREE.calls", 1)]);
        let total = run.total.as_ref().expect("two were traced");
        total.expect(&[
            ("faults.total", 2 * pages + freed),
            ("faults.refault_dontneed", pages),
            ("advice.MADV_DONTNEED.calls", 1),
            ("advice.MADV_FREE.calls", 1),
        ]);
    }
}

#[test]
fn status_lines_carry_what_the_kernel_says_of_the_memory() {
    needs!(Need::Tracing);
    let mut workload = Workload::start(&exe!("lazy_holds"), &[]);
    let trace = Trace::attach(workload.pid, &["--interval", "1"]);
    let truth = workload.go();
    // It holds still now, and a status line shows that, unless its look at smaps_rollup is an older one.
    let freed = |line: &Record| {
        let looked = line.find("lazyfree_bytes").and_then(|bytes| bytes.as_u64());
        line.count_or_none("advice.MADV_FREE.calls") == 1 && looked != Some(0)
    };
    let status = wait::until("a status line that knows of the MADV_FREE", || {
        let output = trace.output();
        let lines = output.lines().filter_map(|line| Record::parse(line).ok());
        let mut known = lines.filter(|line| line.kind() == "status" && freed(line));
        known.next_back()
    });
    workload.end();
    let run = trace.finish();

    let (pages, rss) = (truth.count("pages"), truth.count("rss_bytes"));
    let freed = pages * 4096;
    status.expect(&[
        ("advice.MADV_FREE.requested_bytes", freed),
        ("lost.calls", 0),
        ("lost.faults", 0),
    ]);
    // The counters of RSS are kept per CPU and summed up only roughly, to within 32 pages for each
    // of three counters and each CPU (lib/percpu_counter.c). The report itself took a few pages.
    let cpus = thread::available_parallelism().map_or(1, |cpus| cpus.get() as u64);
    let roughly = (3 * 32 * cpus + 16) * 4096;
    let possible = rss - roughly..=rss + roughly;
    assert!(
        possible.contains(&status.count("rss_bytes")),
        "{status}\n{truth}"
    );
    let peak = run.summary().count("rss.peak_bytes");
    assert!(possible.contains(&peak), "{}", run.summary());

    // Where LazyFree was sampled, it is the kernel's: pages that wait in a per-CPU queue join the
    // lazy ones at any time, and none leave; the rest of RSS stays as it is.
    if !status.at("lazyfree_bytes").is_null() {
        let lazy = status.count("lazyfree_bytes");
        let rest = status.count("effective_rss_bytes");
        assert!(
            (truth.count("lazyfree_bytes")..=freed).contains(&lazy),
            "{status}\n{truth}"
        );
        assert!(possible.contains(&(lazy + rest)), "{status}\n{truth}");
    }
}

#[test]
fn status_lines_can_be_left_out() {
    needs!(Need::Tracing);
    let workload = Workload::start(&exe!("waits"), &[]);
    let args = ["--no-status", "--interval", "1", "--duration", "2"];
    let trace = Trace::attach(workload.pid, &args);
    let run = trace.finish();
    assert!(run.statuses.is_empty(), "{:#?}", run.statuses);
    drop(workload);
}

#[test]
fn the_doctor_finds_a_machine_on_which_the_tests_run_fit() {
    needs!(Need::Tracing);
    let output = command().arg("doctor").output().expect("memtrace starts");
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stdout}{stderr}");
    for topic in ["kernel", "BTF", "tracefs", "CAP_BPF"] {
        let told = stdout.to_lowercase().contains(&topic.to_lowercase());
        assert!(told, "nothing about {topic} in\n{stdout}");
    }
}

#[test]
fn the_demo_shows_both_ways_of_giving_back_with_their_refaults() {
    needs!(Need::Tracing);
    let dir = TempDir::new();
    let out = dir.join("out");
    let output = command()
        .args(["demo", "--format", "json", "-o"])
        .arg(&out)
        .stdin(Stdio::null())
        .output()
        .expect("memtrace starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    let json = fs::read_to_string(&out).expect("it was written");
    let run = Run::parse(&json, &Rules::default());
    let summary = run.summary();
    for (advice, class) in [
        ("MADV_FREE", "refault_free"),
        ("MADV_DONTNEED", "refault_dontneed"),
    ] {
        assert!(
            summary.count(&format!("advice.{advice}.calls")) > 0,
            "{summary}"
        );
        assert!(summary.count(&format!("faults.{class}")) > 0, "{summary}");
    }
}

#[test]
fn the_demo_reads_well_as_text() {
    needs!(Need::Tracing);
    let output = command()
        .arg("demo")
        .stdin(Stdio::null())
        .output()
        .expect("memtrace starts");
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{stdout}");
    for word in ["MADV_FREE", "MADV_DONTNEED", "refault"] {
        assert!(stdout.contains(word), "no {word} in\n{stdout}");
    }
    assert!(!stdout.contains('\u{1b}'), "colours in a pipe:\n{stdout}");
}
