//! The matrix as a table: Markdown, for the terminal and for the documentation.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::vm::boots::Boot;
use crate::vm::console::Report;

const HEADER: &str = "\
| kernel | machine | page faults from | reclaim counted | fentry | passed | failed | not run |
|---|---|---|---|---|---:|---:|---:|
";

/// One row for each boot, and under it what did not run and why.
pub fn markdown(rows: &[(Boot, Report)]) -> String {
    let mut text = HEADER.to_owned();
    for (boot, report) in rows {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} | {} |",
            report.release.as_deref().unwrap_or("did not come up"),
            boot.setup(),
            report.fault_source().unwrap_or("none"),
            counting(report),
            fentry(report),
            report.passed(),
            failed(report),
            report.not_run().count(),
        );
    }
    text.push_str(&repeated(rows));
    text.push_str(&reasons(rows));
    text
}

/// Whether what the kernel takes is counted page by page.
fn counting(report: &Report) -> &'static str {
    match report.check("reclaim_count") {
        Some(("ok", _)) => "yes",
        _ => "no",
    }
}

fn fentry(report: &Report) -> &'static str {
    match report.fentry {
        Some((true, _)) => "yes",
        _ => "no",
    }
}

/// A boot that did not come to its end has failed, whatever else it has.
fn failed(report: &Report) -> String {
    let failed = report.failed().count();
    if report.done {
        failed.to_string()
    } else {
        format!("{failed}, then it ended early")
    }
}

/// Where tests were begun anew: a program that is preempted makes the kernel leave others out, and under
/// emulation it runs long enough for that. memtrace says so of itself; the tests want exact figures.
fn repeated(rows: &[(Boot, Report)]) -> String {
    let mut text = String::new();
    for (boot, report) in rows {
        let tests: Vec<&str> = report.repeated().collect();
        if !tests.is_empty() {
            let _ = writeln!(
                text,
                "- {} ({}): {}",
                boot.kernel.name,
                boot.name,
                tests.join(", ")
            );
        }
    }
    if text.is_empty() {
        return text;
    }
    format!(
        "\nRepeated, since the kernel had left out a program while it had preempted another, or a call took \
         seconds, which memtrace tells and tests of exact figures do not stand:\n\n{text}"
    )
}

/// Why tests did not run: each reason once, with how many tests and on which kernels.
fn reasons(rows: &[(Boot, Report)]) -> String {
    let mut reasons = BTreeMap::<&str, BTreeMap<&str, Vec<String>>>::new();
    for (boot, report) in rows {
        for (test, why) in report.not_run() {
            let tests = reasons.entry(why).or_default();
            let on = format!("{} ({})", boot.kernel.name, boot.name);
            tests.entry(test).or_default().push(on);
        }
    }
    if reasons.is_empty() {
        return String::new();
    }
    let mut text = "\nNot run, and why:\n\n".to_owned();
    for (why, tests) in reasons {
        let mut on = BTreeMap::<String, Vec<&str>>::new();
        for (test, boots) in tests {
            on.entry(boots.join(", ")).or_default().push(test);
        }
        for (boots, tests) in on {
            let _ = writeln!(text, "- {why}. On {boots}: {}", tests.join(", "));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::kernels::Kernel;

    #[test]
    fn each_boot_has_a_row_and_each_reason_is_told_once() {
        let kernel = Kernel::named("5.10").expect("it is one");
        let [plain, no_btf, ..] = &Boot::of(kernel)[..] else {
            panic!("it is at an end of the matrix");
        };
        let said = concat!(
            r#"{"type":"booted","release":"5.10.0-46"}"#,
            "\n",
            r#"{"type":"doctor","report":{"fault_source":"tp_btf","checks":[]}}"#,
            "\n",
            r#"{"type":"fentry","works":true,"detail":""}"#,
            "\n",
            r#"{"type":"ended","test":"a::b","outcome":{"outcome":"passed"},"repeated":0,"milliseconds":12}"#,
            "\n",
            r#"{"type":"ended","test":"a::c","outcome":{"outcome":"not_run","why":"no go"},"repeated":0,"milliseconds":1}"#,
            "\n",
            r#"{"type":"done"}"#,
            "\n",
        );
        let rows = [
            (plain.clone(), Report::read(said)),
            (no_btf.clone(), Report::default()),
        ];
        let table = markdown(&rows);
        assert!(
            table.contains("| 5.10.0-46 | cgroup v2 | tp_btf | no | yes | 1 | 0 | 1 |\n"),
            "{table}"
        );
        assert!(
            table.contains("| did not come up | cgroup v1, BTF hidden | none | no | no | 0 | 0, then it ended early | 0 |"),
            "{table}"
        );
        assert!(
            table.ends_with("- no go. On 5.10 (plain): a::c\n"),
            "{table}"
        );
    }
}
