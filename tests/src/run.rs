//! What memtrace wrote in one run, parsed and checked for what must hold of every run.

use std::collections::BTreeMap;

use crate::record::Record;

/// The classes of faults, as the summary names them.
pub const CLASSES: [&str; 8] = [
    "first_touch",
    "refault_dontneed",
    "refault_free",
    "refault_other",
    "cow",
    "swap_in",
    "file",
    "unknown",
];

/// Which advice the refaults of a class are due to. For `refault_other` mremap adds some more.
const CAUSES: [(&str, &[&str]); 3] = [
    (
        "refault_dontneed",
        &["MADV_DONTNEED", "MADV_DONTNEED_LOCKED"],
    ),
    ("refault_free", &["MADV_FREE"]),
    (
        "refault_other",
        &["MADV_REMOVE", "MADV_GUARD_INSTALL", "MADV_PAGEOUT"],
    ),
];

/// What is asserted of a run. The default is the strictest.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Nothing was lost and the self-check was equal.
    pub exact: bool,
    /// The stream is unfiltered, so that its lines add up to the summary.
    pub whole_stream: bool,
    /// stderr is empty.
    pub quiet_stderr: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            exact: true,
            whole_stream: true,
            quiet_stderr: true,
        }
    }
}

/// All lines of a run.
#[derive(Debug)]
pub struct Run {
    pub header: Record,
    /// Calls, faults and process lines, in the order written.
    pub events: Vec<Record>,
    pub statuses: Vec<Record>,
    pub summaries: Vec<Record>,
    /// Address spaces without a summary, by name.
    pub folded: Vec<Record>,
    pub total: Option<Record>,
}

impl Run {
    /// Parses the lines and checks what must hold of every run.
    pub fn parse(text: &str, rules: &Rules) -> Self {
        assert!(text.ends_with('\n'), "the last line is cut off:\n{text}");
        let mut lines = text.lines().map(|line| {
            assert!(
                line.starts_with("{\"type\":\""),
                "`type` is not first in {line:?}"
            );
            Record::parse(line).unwrap_or_else(|why| panic!("not valid JSON: {why}"))
        });
        let header = lines.next().expect("the text is not empty");
        assert_eq!(header.kind(), "header", "the first line is\n{header}");

        let mut run = Self {
            header,
            events: Vec::new(),
            statuses: Vec::new(),
            summaries: Vec::new(),
            folded: Vec::new(),
            total: None,
        };
        for line in lines {
            assert!(run.total.is_none(), "after the total came\n{line}");
            match line.kind() {
                "summary" => {
                    assert!(run.folded.is_empty(), "after what is folded came\n{line}");
                    run.summaries.push(line);
                }
                "folded" => run.folded.push(line),
                "total" => run.total = Some(line),
                kind => {
                    assert!(run.summaries.is_empty(), "after a summary came\n{line}");
                    match kind {
                        "header" => panic!("a second header:\n{line}"),
                        "status" => run.statuses.push(line),
                        _ => run.events.push(line),
                    }
                }
            }
        }
        run.check(rules);
        run
    }

    /// What the total is the sum of.
    pub fn parts(&self) -> impl Iterator<Item = &Record> {
        self.summaries.iter().chain(&self.folded)
    }

    /// The only summary.
    #[track_caller]
    pub fn summary(&self) -> &Record {
        match &self.summaries[..] {
            [one] => one,
            all => panic!("{} summaries instead of one: {all:#?}", all.len()),
        }
    }

    /// The summary of one process, by the number of its image.
    #[track_caller]
    pub fn summary_of(&self, pid: u64, image: u64) -> &Record {
        let mut found = self
            .summaries
            .iter()
            .filter(|s| s.count("pid") == pid && s.count("image") == image);
        match (found.next(), found.next()) {
            (Some(one), None) => one,
            (None, _) => panic!(
                "no summary of pid {pid}, image {image} among {:#?}",
                self.summaries
            ),
            _ => panic!("two summaries of pid {pid}, image {image}"),
        }
    }

    /// The lines of one kind, such as `madvise` or `fault`.
    pub fn lines<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Record> {
        self.events.iter().filter(move |event| event.kind() == kind)
    }

    /// How many faults of a class the stream shows.
    pub fn streamed_faults(&self, class: &str) -> u64 {
        self.lines("fault")
            .filter(|line| line.text("class") == class)
            .map(|line| line.count("faults"))
            .sum()
    }

    fn check(&self, rules: &Rules) {
        assert_eq!(self.header.count("schema"), 1);
        assert!(!self.summaries.is_empty(), "no summary");
        for summary in self.summaries.iter().chain(&self.total) {
            check_loss(summary, rules);
        }
        for summary in self.parts().chain(&self.total) {
            check_sums(summary);
            check_advice(summary);
        }
        if let Some(total) = &self.total {
            let sum: u64 = self.parts().map(|s| s.count("faults.total")).sum();
            assert_eq!(total.count("faults.total"), sum, "in\n{total}");
        }
        if rules.whole_stream {
            self.check_stream();
        }
    }

    /// The stream and the summaries tell the same.
    fn check_stream(&self) {
        let total = |path: &str| -> u64 { self.parts().map(|s| s.count_or_none(path)).sum() };
        let mut all = 0;
        for class in CLASSES {
            let streamed = self.streamed_faults(class);
            let counted = total(&format!("faults.{class}"));
            // The write after a read of the zero page is shown under some class, yet counted apart.
            let apart = total("faults.zero_page_writes");
            assert!(
                (counted..=counted + apart).contains(&streamed),
                "{class}: {streamed} in the stream, {counted} in the summaries"
            );
            all += streamed;
        }
        assert_eq!(all, total("faults.total"), "faults in the stream");

        let exact = self.summaries.iter().all(|summary| summary.truth("exact"));
        let mut calls = BTreeMap::<&str, u64>::new();
        let mut unseen = 0;
        for line in self.lines("madvise") {
            // It was under way before, or the kernel left its first program out, which is told:
            // nobody knows the advice.
            if line.at("advice").is_null() {
                unseen += 1;
                continue;
            }
            *calls.entry(line.text("advice")).or_default() += 1;
        }
        assert!(!exact || unseen <= total("unseen_calls"), "unseen calls");
        for (advice, streamed) in calls {
            // process_madvise counts under the same advice.
            if self
                .lines("process_madvise")
                .any(|line| line.text("advice") == advice)
            {
                continue;
            }
            let counted = total(&format!("advice.{advice}.calls"));
            assert_eq!(streamed, counted, "calls of {advice} in the stream");
        }
    }
}

fn check_loss(summary: &Record, rules: &Rules) {
    if rules.exact {
        summary.expect(&[("lost.calls", 0), ("lost.faults", 0)]);
        assert!(summary.truth("exact"), "not exact:\n{summary}");
    }
}

fn check_sums(summary: &Record) {
    let count = |name: &str| summary.count_or_none(&format!("faults.{name}"));
    let sum: u64 = CLASSES.map(count).into_iter().sum();
    assert_eq!(
        sum + count("zero_page_writes"),
        count("total"),
        "the classes do not add up to the total in\n{summary}"
    );
    let bytes: u64 = CLASSES
        .map(|class| count(&format!("bytes.{class}")))
        .into_iter()
        .sum();
    assert_eq!(
        bytes,
        count("bytes.total"),
        "the bytes of the classes do not add up in\n{summary}"
    );
    assert!(count("ambiguous") <= count("total"), "in\n{summary}");
}

fn check_advice(summary: &Record) {
    for (class, causes) in CAUSES {
        let caused: u64 = causes
            .iter()
            .map(|advice| summary.count_or_none(&format!("advice.{advice}.refaults")))
            .sum();
        let counted = summary.count_or_none(&format!("faults.{class}"));
        let by_mremap = class == "refault_other";
        assert!(
            caused == counted || by_mremap && caused < counted,
            "{class} is {counted}, but its advice has {caused} refaults in\n{summary}"
        );
    }
    for advice in summary.keys("advice") {
        let at = |key: &str| format!("advice.{advice}.{key}");
        assert!(summary.count(&at("partial")) <= summary.count(&at("failed")));
        assert!(summary.count(&at("failed")) <= summary.count(&at("calls")));
        check_ratio(summary, &at);
        check_ages(summary, &at);
    }
}

/// The ratio is what its basis says.
fn check_ratio(summary: &Record, at: &dyn Fn(&str) -> String) {
    let ratio_path = at("refault_ratio");
    if summary
        .find(&ratio_path)
        .is_none_or(|ratio| ratio.is_null())
    {
        return;
    }
    let basis = summary.text(&at("ratio_basis"));
    let given_back = summary.count(&at(&format!("{basis}_bytes")));
    // What a parent gave back and a child refaulted has no release of the child's to compare with.
    let inherited = summary.count_or_none(&at("inherited_refaulted_bytes"));
    let own = summary.count(&at("refaulted_bytes")) - inherited;
    let expected = own as f64 / given_back as f64;
    let ratio = summary.real(&ratio_path);
    // Whatever it was rounded to for printing, it is not off by a thousandth.
    assert!(
        (ratio - expected).abs() < 0.001,
        "{ratio_path} is {ratio}, expected {expected} in\n{summary}"
    );
}

/// Ages are known exactly where there are refaults, and in order.
fn check_ages(summary: &Record, at: &dyn Fn(&str) -> String) {
    let ages = ["p50", "p90", "p99"].map(|p| at(&format!("age_ns.{p}")));
    if summary.count_or_none(&at("refaults")) == 0 {
        for age in &ages {
            assert_eq!(summary.count_or_none(age), 0, "{age} in\n{summary}");
        }
        return;
    }
    let [p50, p90, p99] = ages.map(|age| summary.count(&age));
    assert!(0 < p50 && p50 <= p90 && p90 <= p99, "ages in\n{summary}");
}
