//! The usual test: start a workload, attach, let it act, let it end, and read what was traced.

use crate::binary::Exe;
use crate::counters::Counters;
use crate::record::Record;
use crate::run::{CLASSES, Rules, Run};
use crate::tracer::Trace;
use crate::wait;
use crate::workload::Workload;

/// A workload and how it is to be traced.
pub struct Scenario {
    workload: Exe,
    args: Vec<String>,
    tracer_args: Vec<String>,
    rules: Rules,
    /// A kind of line that must be shown before the workload may end.
    awaited: Option<&'static str>,
}

/// What came of a scenario.
pub struct Played {
    /// What the workload found out by itself.
    pub truth: Record,
    /// The traced process.
    pub pid: u32,
    /// The kernel's own count of its faults while it was traced.
    pub faults: Counters,
    pub run: Run,
}

/// Plays a workload without arguments.
pub fn play(workload: Exe) -> Played {
    Scenario::of(workload).play()
}

impl Scenario {
    pub fn of(workload: Exe) -> Self {
        Self {
            workload,
            args: Vec::new(),
            tracer_args: Vec::new(),
            rules: Rules::default(),
            awaited: None,
        }
    }

    /// The workload lives until a line of this type is shown: whose memory a pidfd stands for can
    /// be looked up only while its owner lives.
    pub fn until_shown(mut self, kind: &'static str) -> Self {
        self.awaited = Some(kind);
        self
    }

    /// An argument for the workload.
    pub fn with(mut self, arg: &str) -> Self {
        self.args.push(arg.to_owned());
        self
    }

    /// An argument for memtrace.
    pub fn traced_with(mut self, arg: &str) -> Self {
        self.tracer_args.push(arg.to_owned());
        self
    }

    /// Other rules for the run than the strictest.
    pub fn under(mut self, rules: Rules) -> Self {
        self.rules = rules;
        self
    }

    pub fn play(self) -> Played {
        let args: Vec<&str> = self.args.iter().map(String::as_str).collect();
        let tracer_args: Vec<&str> = self.tracer_args.iter().map(String::as_str).collect();
        let mut workload = Workload::start(&self.workload, &args);
        let pid = workload.pid;
        // The workload waits at both readings, and makes no fault between the second and its end.
        let before = workload.counters();
        let mut trace = Trace::attach(pid, &tracer_args);
        trace.rules = self.rules;
        let truth = workload.go();
        let faults = workload.counters() - before;
        if let Some(kind) = self.awaited {
            let line = format!("\"type\":\"{kind}\"");
            wait::until("the awaited line to be shown", || {
                trace.output().contains(&line).then_some(())
            });
        }
        workload.end();
        Played {
            truth,
            pid,
            faults,
            run: trace.finish(),
        }
    }
}

impl Played {
    /// The only summary.
    #[track_caller]
    pub fn summary(&self) -> &Record {
        self.run.summary()
    }

    /// A number of the workload's truth.
    #[track_caller]
    pub fn told(&self, name: &str) -> u64 {
        self.truth.count(name)
    }

    /// Asserts that these classes have these faults and every other class has none, that together
    /// they are all faults that the kernel counted, and that none was ambiguous.
    #[track_caller]
    pub fn expect_faults(&self, expected: &[(&str, u64)]) {
        self.expect_faults_with_doubts(expected, 0);
    }

    /// As [`Played::expect_faults`], where the order of so many can't be told.
    #[track_caller]
    pub fn expect_faults_with_doubts(&self, expected: &[(&str, u64)], doubts: u64) {
        let summary = self.summary();
        expect_classes(summary, expected);
        assert_eq!(
            summary.count("faults.total"),
            self.faults.all(),
            "the kernel counted {:?} in\n{summary}",
            self.faults
        );
        summary.expect(&[("faults.ambiguous", doubts)]);
    }

    /// Asserts that the summary has these kinds of advice and no other, sorted by name.
    #[track_caller]
    pub fn expect_advice(&self, names: &[&str]) {
        let summary = self.summary();
        assert_eq!(summary.keys("advice"), names, "in\n{summary}");
    }
}

/// Asserts that these classes, or `zero_page_writes`, have these faults and every other has none.
#[track_caller]
pub fn expect_classes(summary: &Record, expected: &[(&str, u64)]) {
    for (name, _) in expected {
        assert!(
            CLASSES.contains(name) || *name == "zero_page_writes",
            "{name} is no class"
        );
    }
    for class in CLASSES.into_iter().chain(["zero_page_writes"]) {
        let wanted = expected
            .iter()
            .find(|(name, _)| *name == class)
            .map_or(0, |(_, faults)| *faults);
        let found = summary.count_or_none(&format!("faults.{class}"));
        assert_eq!(found, wanted, "faults.{class} in\n{summary}");
    }
}
