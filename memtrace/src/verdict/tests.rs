//! A table of runs and what each must be called.

use super::*;
use crate::ledger::advice::Advice;
use crate::ledger::event::Rollup;
use crate::ledger::totals::{Basis, FaultClass, Released};
use crate::runtime::{GivesBack, Kind as Who, Origin, Setting};

/// A run with no more than a duration, to be filled in.
struct Run {
    seconds: u64,
    from_start: bool,
    exact: bool,
    lost_faults: u64,
    rss: RssHistory,
    totals: Totals,
    runtimes: Vec<Runtime>,
}

impl Run {
    fn of(seconds: u64) -> Self {
        Self {
            seconds,
            from_start: true,
            exact: true,
            lost_faults: 0,
            rss: RssHistory::default(),
            totals: Totals::default(),
            runtimes: Vec::new(),
        }
    }

    /// RSS in MiB, evenly over the run.
    fn course(mut self, rss: &[u64]) -> Self {
        let step = self.seconds * SECOND / rss.len() as u64;
        for (i, mib) in rss.iter().enumerate() {
            self.rss.trend.push(i as u64 * step, mib * MIB);
            self.rss.last_bytes = Some(mib * MIB);
        }
        self
    }

    /// Looks at smaps: RSS and LazyFree in MiB.
    fn looks(mut self, looks: &[(u64, u64)]) -> Self {
        let step = self.seconds * SECOND / looks.len() as u64;
        for (i, (rss, lazy)) in looks.iter().enumerate() {
            let rollup = Rollup {
                at_ns: (i as u64 + 1) * step,
                rss_bytes: rss * MIB,
                lazyfree_bytes: lazy * MIB,
                anonymous_bytes: rss * MIB,
                ..Rollup::default()
            };
            self.rss.first_rollup.get_or_insert(rollup);
            self.rss.last_rollup = Some(rollup);
            self.rss
                .effective_trend
                .push(rollup.at_ns, (rss - lazy) * MIB);
        }
        self
    }

    fn advice(mut self, advice: Advice, calls: u64, given_mib: u64, refaulted_mib: u64) -> Self {
        let totals = self.totals.advice.entry(advice).or_default();
        totals.calls = calls;
        totals.requested_bytes = given_mib * MIB;
        totals.released = Some(Released {
            least_bytes: given_mib * MIB,
            bytes: given_mib * MIB,
            basis: Basis::Derived,
        });
        totals.refaulted_bytes = refaulted_mib * MIB;
        totals.refaults = refaulted_mib * 256;
        self
    }

    fn first_touches(mut self, mib: u64) -> Self {
        let class = self.totals.faults.class_mut(FaultClass::FirstTouch);
        class.bytes = mib * MIB;
        class.faults = mib * 256;
        self.totals.faults.total += mib * 256;
        self
    }

    fn with(mut self, runtime: Runtime) -> Self {
        self.runtimes.push(runtime);
        self
    }

    fn verdict(&self) -> Verdict {
        judge(&Facts {
            pid: 42,
            start_ns: 0,
            duration_ns: self.seconds * SECOND,
            from_start: self.from_start,
            exact: self.exact,
            lost_faults: self.lost_faults,
            ended: false,
            rss: &self.rss,
            totals: &self.totals,
            runtimes: &self.runtimes,
            fault_ns: Some(1000),
        })
    }
}

fn runtime(
    kind: Who,
    version: &str,
    gives_back: GivesBack,
    setting: Option<(&str, &str)>,
) -> Runtime {
    Runtime {
        kind,
        version: Some(version.to_owned()),
        settings: setting
            .into_iter()
            .map(|(name, value)| Setting {
                name: name.to_owned(),
                value: value.to_owned(),
                origin: Origin::Environment,
            })
            .collect(),
        gives_back,
        linkage: None,
    }
}

fn go_free() -> Runtime {
    let setting = Some(("GODEBUG", "madvdontneed=0"));
    runtime(Who::Go, "go1.19.8", GivesBack::Free, setting)
}

/// Each run, what it is, and how sure that is.
#[test]
fn every_kind_of_run_has_its_name() {
    use Confidence::{High, Low, Medium};
    let rising: Vec<u64> = (0..60).map(|i| 50 + 10 * i).collect();
    let risen: Vec<u64> = (0..60).map(|i| (50 + 40 * i).min(400)).collect();
    let table = [
        (
            "most of RSS is lazily free, seen for two seconds",
            Run::of(2)
                .looks(&[(417, 0), (417, 393)])
                .advice(Advice::FREE, 40, 393, 0),
            Kind::LazilyFree,
            High,
        ),
        (
            "it was freed before the trace",
            Run {
                from_start: false,
                ..Run::of(3).looks(&[(417, 393)])
            },
            Kind::LazilyFree,
            High,
        ),
        (
            "a fifth is lazily free",
            Run::of(90).looks(&[(500, 100)]).course(&[500; 60]),
            Kind::LazilyFree,
            Medium,
        ),
        (
            "events were lost",
            Run {
                exact: false,
                ..Run::of(2).looks(&[(417, 393)])
            },
            Kind::LazilyFree,
            Medium,
        ),
        (
            "a little is lazily free, but the rest grows and grows",
            Run::of(60)
                .course(&rising)
                .looks(&[
                    (100, 60),
                    (200, 70),
                    (300, 70),
                    (400, 70),
                    (500, 70),
                    (600, 70),
                ])
                .first_touches(600),
            Kind::Growth,
            High,
        ),
        (
            "half as much leaks as is lazily free",
            Run::of(66)
                .course(&rising)
                .looks(&[
                    (1000, 900),
                    (1100, 900),
                    (1200, 900),
                    (1300, 900),
                    (1400, 900),
                    (1500, 900),
                ])
                .first_touches(600),
            Kind::Growth,
            High,
        ),
        (
            "a little leaks beside much that is lazily free",
            Run::of(66).looks(&[
                (1000, 900),
                (1020, 900),
                (1040, 900),
                (1060, 900),
                (1080, 900),
                (1100, 900),
            ]),
            Kind::LazilyFree,
            Medium,
        ),
        (
            "10 GiB that grow by 590 MiB, evenly",
            Run::of(600).course(&(0..60).map(|i| 12_000 + 10 * i).collect::<Vec<_>>()),
            Kind::Retained,
            Medium,
        ),
        (
            "a leak",
            Run::of(60)
                .course(&rising)
                .looks(&[(50, 0), (640, 0)])
                .first_touches(600),
            Kind::Growth,
            High,
        ),
        (
            "a leak that was there before",
            Run {
                from_start: false,
                ..Run::of(60)
                    .course(&rising)
                    .looks(&[(50, 0), (640, 0)])
                    .first_touches(600)
            },
            Kind::Growth,
            Medium,
        ),
        (
            "a leak, attached late, seen shortly, and lossy",
            Run {
                from_start: false,
                exact: false,
                ..Run::of(6).course(&rising).first_touches(600)
            },
            Kind::Growth,
            Low,
        ),
        (
            "a cache that filled and stays",
            Run::of(60)
                .course(&risen)
                .looks(&[(400, 0)])
                .first_touches(350),
            Kind::Retained,
            High,
        ),
        (
            "the same memory, given back and touched again",
            Run::of(30)
                .course(&[80; 30])
                .advice(Advice::DONTNEED, 500, 4000, 3900),
            Kind::Churn,
            High,
        ),
        (
            "given back once and touched again: no churn",
            Run::of(30)
                .course(&[80; 30])
                .advice(Advice::DONTNEED, 1, 100, 100),
            Kind::Retained,
            Medium,
        ),
        (
            "given back often and hardly touched again: no churn",
            Run::of(30)
                .course(&[80; 30])
                .advice(Advice::DONTNEED, 500, 4000, 400),
            Kind::Retained,
            Medium,
        ),
        (
            "grown by 590 MiB with faults for 10",
            Run::of(60).course(&rising).first_touches(10),
            Kind::RegrowthWithoutFaults,
            High,
        ),
        (
            "a short run",
            Run::of(2).course(&[50, 60, 70, 80, 90, 100]),
            Kind::NotEnoughData,
            Low,
        ),
        ("RSS was never read", Run::of(90), Kind::NotEnoughData, Low),
    ];
    for (what, run, kind, confidence) in table {
        let verdict = run.verdict();
        assert_eq!(
            (verdict.kind, verdict.confidence),
            (kind, confidence),
            "{what}: {verdict:#?}"
        );
        assert!(!verdict.evidence.is_empty(), "{what}");
        assert_eq!(
            verdict.doubts.is_empty(),
            confidence == High || kind == Kind::NotEnoughData,
            "{what}: {verdict:#?}"
        );
        assert!(!verdict.advice.is_empty(), "{what}");
    }
}

#[test]
fn faults_that_may_have_brought_huge_pages_explain_growth() {
    let rising: Vec<u64> = (0..60).map(|i| 50 + 10 * i).collect();
    let mut run = Run::of(60).course(&rising).first_touches(10);
    // 2,560 faults of 2 MiB each would do.
    run.totals
        .faults
        .class_mut(FaultClass::FirstTouch)
        .extra_bytes = 2560 * 511 * 4096;
    assert_eq!(run.verdict().kind, Kind::Growth);
    // Unless it was measured.
    run.totals.unfaulted_bytes = Some(500 * MIB);
    assert_eq!(run.verdict().kind, Kind::RegrowthWithoutFaults);
}

#[test]
fn faults_that_were_lost_may_have_brought_all_of_the_growth() {
    let rising: Vec<u64> = (0..60).map(|i| 50 + 10 * i).collect();
    let mut run = Run::of(60).course(&rising).first_touches(10);
    run.exact = false;
    run.lost_faults = 10;
    assert_eq!(run.verdict().kind, Kind::RegrowthWithoutFaults);
    assert!(
        run.verdict().evidence[1].starts_with("its 2,570 page faults can have brought 30.0M"),
        "{:?}",
        run.verdict().evidence
    );
    run.lost_faults = 1000;
    assert_eq!(run.verdict().kind, Kind::Growth);
    // What it brought is then among what came without a fault that was seen.
    run.totals.unfaulted_bytes = Some(500 * MIB);
    assert_eq!(run.verdict().kind, Kind::Growth);
}

#[test]
fn the_remedy_is_the_runtimes_own() {
    let verdict = Run::of(2)
        .looks(&[(417, 393)])
        .advice(Advice::FREE, 40, 393, 0)
        .with(go_free())
        .with(runtime(Who::Glibc, "2.36", GivesBack::DontNeed, None))
        .verdict();
    let advice = verdict.advice.join("\n");
    assert!(
        advice.contains("go1.19.8 gives back by MADV_FREE since GODEBUG=madvdontneed=0 is set"),
        "{advice}"
    );
    assert!(
        advice.contains("GODEBUG=madvdontneed=1 makes RSS fall at once"),
        "{advice}"
    );
    assert!(advice.contains("memtrace reclaim -p 42"), "{advice}");
    assert!(!advice.contains("glibc"), "{advice}");

    let mut prefixed = runtime(Who::Jemalloc, "5.3.0", GivesBack::DontNeed, None);
    prefixed.linkage = Some("static, prefix _rjem_".to_owned());
    let verdict = Run::of(30)
        .course(&[80; 30])
        .advice(Advice::DONTNEED, 500, 4000, 3900)
        .with(prefixed)
        .verdict();
    assert!(
        verdict.advice[0].contains("_RJEM_MALLOC_CONF"),
        "{:?}",
        verdict.advice
    );
}

#[test]
fn churn_tells_its_rate_and_its_cost() {
    let verdict = Run::of(10)
        .course(&[80; 30])
        .advice(Advice::DONTNEED, 500, 4000, 4000)
        .verdict();
    let evidence = verdict.evidence.join("\n");
    // 4000 MiB in 10 s, by 1,024,000 refaults of 1 µs.
    assert!(evidence.contains("400M/s"), "{evidence}");
    assert!(
        evidence.contains("1,024,000 refaults at about 1.0 µs each"),
        "{evidence}"
    );
    assert!(evidence.contains("10.2% of one core"), "{evidence}");
}

#[test]
fn no_verdict_promises_that_memory_will_suffice() {
    let runs = [
        Run::of(2).looks(&[(417, 393)]),
        Run::of(60).course(&[80; 60]).looks(&[(80, 0)]),
        Run::of(1),
    ];
    for run in runs {
        let verdict = run.verdict();
        let all = [verdict.evidence, verdict.doubts, verdict.advice]
            .concat()
            .join("\n");
        for word in [
            "OOM",
            "safe",
            "never run out",
            "cannot be killed",
            "harmless",
        ] {
            assert!(!all.contains(word), "{all}");
        }
    }
}

#[test]
fn whether_a_knob_took_effect_is_told_by_the_calls() {
    let told = |runtime: Runtime, free: u64, dontneed: u64| {
        let mut run = Run::of(2);
        for (advice, calls) in [(Advice::FREE, free), (Advice::DONTNEED, dontneed)] {
            if calls > 0 {
                run = run.advice(advice, calls, 1, 0);
            }
        }
        effects(&[runtime], &run.totals).join("\n")
    };
    let setting = Some(("GODEBUG", "madvdontneed=1"));
    let dontneed = || runtime(Who::Go, "go1.13", GivesBack::DontNeed, setting);
    assert_eq!(
        told(dontneed(), 40, 0),
        "GODEBUG=madvdontneed=1 is set, with which Go go1.13 gives back by MADV_DONTNEED, yet 40 \
         MADV_FREE calls were seen"
    );
    assert_eq!(
        told(dontneed(), 0, 12),
        "GODEBUG=madvdontneed=1 is set, with which Go go1.13 gives back by MADV_DONTNEED, and so \
         it is: 12 MADV_DONTNEED calls and no MADV_FREE were seen"
    );
    assert!(told(dontneed(), 0, 0).ends_with("so that its effect was not seen"));
    let by_default = runtime(Who::Jemalloc, "5.3.0", GivesBack::DontNeed, None);
    assert_eq!(
        told(by_default.clone(), 2, 3),
        "jemalloc 5.3.0 gives back by MADV_DONTNEED by default, yet 2 MADV_FREE calls were seen"
    );
    // One is its trial.
    assert!(told(by_default, 1, 3).contains("and so it is"));
    assert_eq!(
        told(runtime(Who::Glibc, "2.36", GivesBack::DontNeed, None), 5, 5),
        ""
    );
    let both = [
        go_free(),
        runtime(Who::Jemalloc, "5.3.0", GivesBack::DontNeed, None),
    ];
    let run = Run::of(2).advice(Advice::FREE, 7, 1, 0);
    let told = effects(&both, &run.totals);
    assert!(
        told[0].ends_with("and so it is: 7 MADV_FREE calls were seen"),
        "{told:?}"
    );
    assert!(
        told[1].ends_with("yet 7 MADV_FREE calls were seen (there is Go in the process too)"),
        "{told:?}"
    );
}
