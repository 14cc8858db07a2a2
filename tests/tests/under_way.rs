//! Calls that hang: under way when tracing begins, when it ends, or when their process is killed.

use memtrace_tests::needs::Need;
use memtrace_tests::record::Record;
use memtrace_tests::run::Run;
use memtrace_tests::scenario::expect_classes;
use memtrace_tests::tracer::Trace;
use memtrace_tests::wait;
use memtrace_tests::workload::Workload;
use memtrace_tests::{exe, needs};

const MADV_POPULATE_WRITE: i32 = 23;
const POPULATE: Need = Need::Advice(MADV_POPULATE_WRITE, "MADV_POPULATE_WRITE");

/// Those that the workload has hang: one that adds memory and one that gives it back.
const ADVICES: [(i32, &str); 2] = [
    (MADV_POPULATE_WRITE, "MADV_POPULATE_WRITE"),
    (libc::MADV_DONTNEED, "MADV_DONTNEED"),
];

/// A workload with a call that hangs from `before` tracing begins on, or `after`.
fn start(advice: i32, when: &str) -> Workload {
    Workload::start(&exe!("hangs"), &[&advice.to_string(), when])
}

/// Lets the call end, which must have hung until now.
#[track_caller]
fn release(workload: &mut Workload) {
    let truth = workload.say("release");
    truth.expect(&[("was_hanging", 1), ("ret", 0)]);
}

/// The lines of the call that hung.
fn calls_at<'a>(run: &'a Run, truth: &Record) -> Vec<&'a Record> {
    let addr = truth.count("hanging_addr");
    let calls = run.lines("madvise");
    calls
        .filter(|call| call.at("addr").as_u64() == Some(addr))
        .collect()
}

#[test]
fn a_call_that_was_under_way_before_is_told_of_and_all_else_is_counted() {
    needs!(Need::Tracing, Need::Userfaultfd, POPULATE);
    for (advice, name) in ADVICES {
        let mut workload = start(advice, "before");
        let trace = Trace::attach(workload.pid, &[]);
        let truth = workload.go();
        release(&mut workload);
        workload.end();
        let run = trace.finish();

        let unseen: Vec<_> = run
            .lines("madvise")
            .filter(|call| call.find("note").is_some())
            .collect();
        assert_eq!(unseen.len(), 1, "{name}: {unseen:#?}");
        assert_eq!(unseen[0].text("note"), "only its end was seen");
        for key in ["advice", "addr", "len_bytes", "duration_ns"] {
            unseen[0].expect_null(key);
        }
        assert_eq!(unseen[0].signed("ret"), 0);
        let summary = run.summary();
        let notes = summary.texts("notes");
        let told = |note: &&str| note.starts_with("1 call of which only the end was seen");
        assert!(notes.iter().any(told), "{name}: {notes:?}");

        let pages = truth.count("pages");
        // What it populated makes no fault. What it took comes back, and nobody knows from where.
        let unknown = match advice {
            libc::MADV_DONTNEED => truth.count("hanging_pages"),
            _ => 0,
        };
        expect_classes(
            summary,
            &[
                ("first_touch", pages),
                ("refault_dontneed", pages),
                ("unknown", unknown),
            ],
        );
        assert_eq!(summary.keys("advice"), ["MADV_DONTNEED"], "{name}");
        summary.expect(&[
            ("unseen_calls", 1),
            ("advice.MADV_DONTNEED.calls", 1),
            ("advice.MADV_DONTNEED.requested_bytes", pages * 4096),
        ]);
    }
}

#[test]
fn a_call_whose_process_is_killed_is_counted_with_how_it_ended() {
    needs!(Need::Tracing, Need::Userfaultfd, POPULATE);
    // The kernel comes back from a call before it kills: the one is broken off, and the other, which
    // waited for leave alone, done.
    for ((advice, name), ret) in ADVICES.into_iter().zip([-i64::from(libc::EINTR), 0]) {
        let mut workload = start(advice, "after");
        let trace = Trace::attach(workload.pid, &[]);
        let truth = workload.go();
        workload.kill();
        let run = trace.finish();

        let calls = calls_at(&run, &truth);
        assert_eq!(calls.len(), 1, "{name}: {calls:#?}");
        let (pages, hanging) = (truth.count("pages"), truth.count("hanging_pages"));
        calls[0].expect(&[("len_bytes", hanging * 4096)]);
        assert_eq!(calls[0].text("advice"), name);
        assert_eq!(calls[0].signed("ret"), ret, "{}", calls[0]);
        assert!(calls[0].find("note").is_none(), "{}", calls[0]);
        let summary = run.summary();
        expect_classes(
            summary,
            &[("first_touch", pages), ("refault_dontneed", pages)],
        );
        summary.expect(&[("unseen_calls", 0)]);
        match advice {
            libc::MADV_DONTNEED => summary.expect(&[
                ("advice.MADV_DONTNEED.calls", 2),
                ("advice.MADV_DONTNEED.failed", 0),
                (
                    "advice.MADV_DONTNEED.requested_bytes",
                    (pages + hanging) * 4096,
                ),
                ("advice.MADV_DONTNEED.refaults", pages),
            ]),
            _ => summary.expect(&[
                ("advice.MADV_DONTNEED.calls", 1),
                ("advice.MADV_POPULATE_WRITE.calls", 1),
                ("advice.MADV_POPULATE_WRITE.failed", 1),
            ]),
        }
    }
}

#[test]
fn an_interrupt_waits_for_no_call_that_hangs() {
    needs!(Need::Tracing, Need::Userfaultfd, POPULATE);
    for (advice, name) in ADVICES {
        let mut workload = start(advice, "after");
        let trace = Trace::attach(workload.pid, &[]);
        let truth = workload.go();
        trace.signal(libc::SIGINT);
        let run = trace.finish();
        // It hangs still, and is let go unharmed.
        release(&mut workload);
        workload.end();

        let calls = calls_at(&run, &truth);
        assert!(calls.is_empty(), "{name} has not ended: {calls:#?}");
        let pages = truth.count("pages");
        let summary = run.summary();
        expect_classes(
            summary,
            &[("first_touch", pages), ("refault_dontneed", pages)],
        );
        summary.expect(&[
            ("advice.MADV_DONTNEED.calls", 1),
            ("advice.MADV_DONTNEED.requested_bytes", pages * 4096),
        ]);
        let notes = summary.texts("notes");
        let note = "1 call still running when tracing stopped: not included";
        assert!(notes.contains(&note), "{name}: {notes:?}");
    }
}

#[test]
fn a_give_back_that_hangs_holds_the_stream_up_no_longer_than_a_moment() {
    needs!(Need::Tracing, Need::Userfaultfd);
    let mut workload = start(libc::MADV_DONTNEED, "after");
    let mut trace = Trace::attach(workload.pid, &[]);
    trace.rules.exact = false;
    let truth = workload.go();
    wait::until("what the others did meanwhile", || {
        let shown = trace.output().contains("\"class\":\"refault_dontneed\"");
        shown.then_some(())
    });
    release(&mut workload);
    workload.end();
    let run = trace.finish();

    // Once it is back it counts with all it took, and it is told that it came too late.
    let (pages, hanging) = (truth.count("pages"), truth.count("hanging_pages"));
    let summary = run.summary();
    expect_classes(
        summary,
        &[
            ("first_touch", pages),
            ("refault_dontneed", pages + hanging),
        ],
    );
    summary.expect(&[
        ("advice.MADV_DONTNEED.calls", 2),
        (
            "advice.MADV_DONTNEED.requested_bytes",
            (pages + hanging) * 4096,
        ),
        ("advice.MADV_DONTNEED.refaults", pages + hanging),
        ("unseen_calls", 0),
    ]);
    let calls = calls_at(&run, &truth);
    assert_eq!(calls.len(), 1, "{calls:#?}");
    assert!(!summary.truth("exact"), "{summary}");
    let notes = summary.texts("notes");
    let told = |note: &&str| note.starts_with("1 record came too late");
    assert!(notes.iter().any(told), "{notes:?}");
}
