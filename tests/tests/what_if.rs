//! What the summary says of the other advice, against the same workload under that other advice.

use memtrace_tests::compare::is_percent;
use memtrace_tests::needs::Need;
use memtrace_tests::record::Record;
use memtrace_tests::tracer::{Trace, command};
use memtrace_tests::workload::Workload;
use memtrace_tests::{exe, needs};

const PAGE: u64 = 4096;
const FREE: i32 = libc::MADV_FREE;
const DONTNEED: i32 = libc::MADV_DONTNEED;

/// A run under one advice: what the workload saw of itself, and what memtrace says.
struct Seen {
    rss_bytes: u64,
    summary: Record,
}

fn start(advice: i32, pages: u64, reused: u64, rounds: u64) -> Workload {
    let args = [advice as u64, pages, reused, rounds].map(|number| number.to_string());
    Workload::start(&exe!("switches"), &args.each_ref().map(String::as_str))
}

fn run(advice: i32, pages: u64, reused: u64, rounds: u64) -> Seen {
    let mut workload = start(advice, pages, reused, rounds);
    let trace = Trace::attach(workload.pid, &[]);
    let truth = workload.go();
    // While it holds still, so that the last look is of its end.
    trace.signal(libc::SIGINT);
    let run = trace.finish();
    workload.end();
    Seen {
        rss_bytes: truth.count("rss_bytes"),
        summary: run.summary().clone(),
    }
}

/// A range of the summary.
#[track_caller]
fn range(summary: &Record, path: &str) -> (u64, u64) {
    let least = summary.count(&format!("{path}.least"));
    let most = summary.count(&format!("{path}.most"));
    assert!(least <= most, "{path} in\n{summary}");
    (least, most)
}

#[track_caller]
fn within(real: u64, (least, most): (u64, u64)) {
    assert!(
        (least..=most).contains(&real),
        "{real} is not in {least}..={most}"
    );
}

/// Either direction, foretold from the run under the one and looked up in the run under the other.
#[test]
fn what_is_foretold_of_the_other_advice_comes_true() {
    needs!(Need::Tracing, Need::ReclaimCount);
    for (pages, reused, rounds) in [(16_384, 4_096, 1), (8_192, 2_048, 3)] {
        let free = run(FREE, pages, reused, rounds);
        let dontneed = run(DONTNEED, pages, reused, rounds);
        let real_faults = dontneed.summary.count("advice.MADV_DONTNEED.refaults");
        assert_eq!(real_faults, reused * rounds);
        let real_rss = free.rss_bytes - dontneed.rss_bytes;
        is_percent(real_rss, 95, 105, (pages - reused) * PAGE);

        // From FREE: the faults that there would have been, and the RSS that would not.
        let switched = "what_if.free_to_dontneed";
        let at = |key: &str| format!("{switched}.{key}");
        let more_faults = range(&free.summary, &at("more_faults"));
        within(real_faults, more_faults);
        // No wide guess: what was reused in a round is certain to be counted once, and nothing else is, but for
        // what the kernel may hold back.
        assert!(more_faults.0 > reused * 9 / 10, "{more_faults:?}");
        assert!(more_faults.1 < real_faults * 11 / 10, "{more_faults:?}");
        let (least, most) = range(&free.summary, &at("rss_less_bytes"));
        within(real_rss, (least * 95 / 100, most * 105 / 100));
        let peak = free.summary.count(&at("rss_less_peak_bytes"));
        assert!(peak >= least, "{peak} at the most, {least} at the end");
        // The faults at the cost that was measured.
        let cost = range(&free.summary, "what_if.fault_ns");
        assert!(cost.0 > 0);
        let cpu = (more_faults.0 * cost.0, more_faults.1 * cost.1);
        assert_eq!(range(&free.summary, &at("more_cpu_ns")), cpu);
        free.summary.expect_null("what_if.dontneed_to_free");

        // From DONTNEED: the kernel had memory enough and took nothing, so that the most comes true.
        let switched = "what_if.dontneed_to_free";
        let at = |key: &str| format!("{switched}.{key}");
        let spared = real_faults - free.summary.count("advice.MADV_FREE.refaults");
        assert_eq!(range(&dontneed.summary, &at("fewer_faults")), (0, spared));
        let (least, most) = range(&dontneed.summary, &at("rss_more_bytes"));
        assert_eq!(least, 0);
        is_percent(most, 95, 105, real_rss);
        dontneed.summary.expect_null("what_if.free_to_dontneed");
    }
}

#[test]
fn the_text_says_it_in_a_line_for_each_direction_and_only_where_there_is_one() {
    needs!(Need::Tracing, Need::ReclaimCount);
    let words = |workload: &mut Workload| {
        let pid = workload.pid.to_string();
        let mut trace = command();
        trace.args(["-q", "--no-status", "--duration", "1", "-p", &pid]);
        let child = trace.stdout(std::process::Stdio::piped()).spawn();
        let mut child = child.expect("memtrace starts");
        // The header is the first that it writes, when all is attached.
        let stdout = child.stdout.take().expect("it is piped");
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(stdout));
        lines.next().expect("a header").expect("it is UTF-8");
        workload.go();
        let rest: Vec<String> = lines.map(|line| line.expect("it is UTF-8")).collect();
        assert!(child.wait().expect("it is our child").success());
        let what_if = rest
            .into_iter()
            .filter(|line| line.starts_with("what if ") || line.contains("assumed: "));
        what_if.collect::<Vec<_>>()
    };
    let free = words(&mut start(FREE, 8_192, 2_048, 1));
    assert_eq!(free.len(), 2, "{free:#?}");
    assert!(
        free[0].starts_with("what if MADV_DONTNEED instead of MADV_FREE: RSS 2"),
        "{free:#?}"
    );
    assert!(
        free[0].contains(" to 2,0") && free[0].contains(" more page faults, "),
        "{free:#?}"
    );
    assert!(
        free[1].contains("a fault brings one page, at "),
        "{free:#?}"
    );
    let dontneed = words(&mut start(DONTNEED, 8_192, 2_048, 1));
    assert_eq!(dontneed.len(), 2, "{dontneed:#?}");
    let expected = "what if MADV_FREE instead of MADV_DONTNEED: RSS up to 24.0M higher until the kernel takes it, up to 2,048 fewer";
    assert!(dontneed[0].starts_with(expected), "{dontneed:#?}");
    // A page is nothing to decide by.
    let little = words(&mut start(DONTNEED, 16, 8, 1));
    assert!(little.is_empty(), "{little:#?}");
}
