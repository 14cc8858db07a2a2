//! Makes a report out of what a guest has told.

use std::time::Duration;

use serde_json::Value;

use crate::vm::protocol::{Message, Outcome};

/// A test that ran, and how it went.
#[derive(Clone, Debug, PartialEq)]
pub struct Ran {
    pub test: String,
    pub outcome: Outcome,
    pub repeated: u32,
    pub took: Duration,
}

/// All that is known of one boot.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    pub release: Option<String>,
    doctor: Option<Value>,
    pub fentry: Option<(bool, String)>,
    pub ran: Vec<Ran>,
    /// The test that had begun when the guest fell silent.
    pub unfinished: Option<String>,
    /// The guest said that it has run everything.
    pub done: bool,
    /// Why the guest, or a line of it, is of no use.
    pub trouble: Vec<String>,
}

impl Report {
    /// Reads what has come so far; a last line without its end is still on its way.
    pub fn read(text: &str) -> Self {
        let mut report = Self::default();
        for line in text.split_inclusive('\n') {
            let Some(line) = line.strip_suffix('\n') else {
                break;
            };
            match serde_json::from_str(line.trim_end()) {
                Ok(message) => report.add(message),
                Err(error) => report
                    .trouble
                    .push(format!("a line that cannot be read: {error}: {line}")),
            }
        }
        report
    }

    fn add(&mut self, message: Message) {
        match message {
            Message::Booted { release } => self.release = Some(release),
            Message::Doctor { report } => self.doctor = Some(report),
            Message::Fentry { works, detail } => self.fentry = Some((works, detail)),
            Message::Begun { test } => self.unfinished = Some(test),
            Message::Ended {
                test,
                outcome,
                repeated,
                milliseconds,
            } => {
                self.unfinished = None;
                self.ran.push(Ran {
                    test,
                    outcome,
                    repeated,
                    took: Duration::from_millis(milliseconds),
                });
            }
            Message::Done => self.done = true,
            Message::Broken { why } => self.trouble.push(why),
        }
    }

    /// The rung of the ladder that memtrace takes there.
    pub fn fault_source(&self) -> Option<&str> {
        self.doctor.as_ref()?["fault_source"].as_str()
    }

    /// What the doctor says of one thing: whether it is well, and why.
    pub fn check(&self, name: &str) -> Option<(&str, &str)> {
        let checks = self.doctor.as_ref()?["checks"].as_array()?;
        let check = checks.iter().find(|check| check["name"] == name)?;
        Some((check["status"].as_str()?, check["detail"].as_str()?))
    }

    pub fn passed(&self) -> usize {
        let passed = self.ran.iter().filter(|ran| ran.outcome == Outcome::Passed);
        passed.count()
    }

    /// The tests that were begun anew.
    pub fn repeated(&self) -> impl Iterator<Item = &str> {
        let repeated = self.ran.iter().filter(|ran| ran.repeated > 0);
        repeated.map(|ran| &ran.test[..])
    }

    /// The failed tests with what they wrote.
    pub fn failed(&self) -> impl Iterator<Item = (&str, &str)> {
        self.ran.iter().filter_map(|ran| match &ran.outcome {
            Outcome::Failed { output } => Some((&ran.test[..], &output[..])),
            _ => None,
        })
    }

    /// The tests that could not run there, with the reasons.
    pub fn not_run(&self) -> impl Iterator<Item = (&str, &str)> {
        self.ran.iter().filter_map(|ran| match &ran.outcome {
            Outcome::NotRun { why } => Some((&ran.test[..], &why[..])),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_counts_how_tests_went_and_knows_which_one_hangs() {
        let text = concat!(
            r#"{"type":"booted","release":"6.1.0-50"}"#,
            "\r\n",
            r#"{"type":"doctor","report":{"fault_source":"raw_tp","checks":[{"name":"BTF","status":"no","detail":"none"}]}}"#,
            "\n",
            r#"{"type":"begun","test":"a::b"}"#,
            "\n",
            r#"{"type":"ended","test":"a::b","outcome":{"outcome":"passed"},"repeated":0,"milliseconds":12}"#,
            "\n",
            r#"{"type":"begun","test":"a::c"}"#,
            "\n",
            r#"{"type":"ended","test":"a::c","outcome":{"outcome":"failed","output":"no"},"repeated":0,"milliseconds":1}"#,
            "\n",
            r#"{"type":"begun","test":"a::d"}"#,
            "\n",
            r#"{"type":"ended","test":"a::d","outcome":{"outcome":"not_run","why":"no go"},"repeated":0,"milliseconds":1}"#,
            "\n",
            r#"{"type":"begun","test":"a::e"}"#,
            "\n",
            r#"{"type":"ended","test":"a::"#,
        );
        let report = Report::read(text);
        assert_eq!(report.release.as_deref(), Some("6.1.0-50"));
        assert_eq!(report.fault_source(), Some("raw_tp"));
        assert_eq!(report.check("BTF"), Some(("no", "none")));
        assert_eq!(report.passed(), 1);
        assert_eq!(report.failed().collect::<Vec<_>>(), [("a::c", "no")]);
        assert_eq!(report.not_run().collect::<Vec<_>>(), [("a::d", "no go")]);
        assert_eq!(report.unfinished.as_deref(), Some("a::e"));
        assert!(!report.done && report.trouble.is_empty(), "{report:?}");
    }

    #[test]
    fn what_is_no_message_is_told_and_what_a_guest_cannot_do_too() {
        let text = "half a line\n{\"type\":\"broken\",\"why\":\"no swap\"}\n{\"type\":\"done\"}\n";
        let report = Report::read(text);
        assert_eq!(report.trouble.len(), 2, "{report:?}");
        assert!(report.trouble[0].contains("half a line"));
        assert_eq!(report.trouble[1], "no swap");
        assert!(report.done);
    }
}
