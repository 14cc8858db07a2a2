//! Tests of the checks, of given facts and of this machine.

use super::own_file::{OwnFile, own_file};
use super::*;
use crate::config::Sink;
use crate::kernel::caps::{BPF, Caps, PERFMON, SYS_PTRACE};
use crate::kernel::folios::{Mode, Thp};
use crate::kernel::tracefs::TracefsError;
use crate::kernel::{Kernel, Lockdown, Version};
use crate::proc::namespace::PidNamespace;

const WORKS: fn() -> Tried = || Tried {
    fault_sources: vec![("tp_btf", Err("no BTF".to_owned())), ("raw_tp", Ok(()))],
    counting: Err("Linux before 6.2".to_owned()),
};
const FAILS: fn() -> Tried = || {
    let why = || Err("loading: CAP_BPF is missing".to_owned());
    Tried {
        fault_sources: vec![("tp_btf", why()), ("raw_tp", why())],
        counting: why(),
    }
};

fn verdicts(checks: &[Check]) -> Vec<Verdict> {
    checks.iter().map(|check| check.verdict).collect()
}

fn is_advised(check: &Check) -> bool {
    check.verdict != Verdict::No || check.advice.is_some()
}

#[test]
fn old_kernels_and_other_architectures_are_no() {
    let kernel = |version: Version| Kernel {
        release: format!("{version}.0"),
        version,
        machine: "x86_64".to_owned(),
        preemptible: true,
    };
    assert_eq!(
        kernel::version(&kernel(Version::new(5, 10))).verdict,
        Verdict::Ok
    );
    let old = kernel::version(&kernel(Version::new(5, 4)));
    assert!(old.verdict == Verdict::No && old.detail.contains("5.10 or newer"));
    assert_eq!(kernel::architecture("x86_64").verdict, Verdict::Ok);
    assert_eq!(kernel::architecture("aarch64").verdict, Verdict::No);
}

#[test]
fn missing_capabilities_are_named() {
    let some = Caps::from_bits(1 << BPF);
    let check = kernel::capabilities(some, true);
    assert!(check.detail.contains("CAP_PERFMON") && !check.detail.contains("CAP_BPF"));
    assert!(check.advice.unwrap().contains("sudo"));
    let nested = kernel::capabilities(Caps::default(), false);
    assert!(nested.advice.unwrap().contains("on the host"));
    let enough = Caps::from_bits(1 << BPF | 1 << PERFMON);
    assert_eq!(kernel::capabilities(enough, true).verdict, Verdict::Ok);
    assert_eq!(kernel::other_users(enough).verdict, Verdict::Note);
    assert_eq!(
        kernel::other_users(Caps::from_bits(1 << SYS_PTRACE)).verdict,
        Verdict::Ok
    );
}

#[test]
fn capabilities_are_advised_for_one_group_and_why_is_said() {
    let advice = kernel::capabilities(Caps::default(), true).advice.unwrap();
    for word in [
        "every process of the machine, root's too",
        "chown root:memtrace",
        "chmod 0750",
        "cap_dac_read_search+ep",
    ] {
        assert!(advice.contains(word), "{word} is missing in {advice}");
    }
    // chown takes capabilities away.
    assert!(advice.find("chown") < advice.find("setcap"), "{advice}");
}

#[test]
fn a_file_with_capabilities_that_everyone_may_run_is_told_of() {
    let check = |capabilities, mode| own_file(Ok(OwnFile { capabilities, mode }));
    assert_eq!(check(false, 0o755).verdict, Verdict::Ok);
    assert_eq!(check(true, 0o750).verdict, Verdict::Ok);
    let open = check(true, 0o755);
    assert!(open.verdict == Verdict::Note && open.detail.contains("root's too"));
    assert!(open.advice.unwrap().contains("chmod 0750"));
    let setuid = check(false, 0o4755);
    assert!(setuid.verdict == Verdict::Note && setuid.advice.unwrap().contains("u-s"));
}

#[test]
fn only_confidentiality_locks_tracing_out() {
    let modes = [
        Lockdown::Off,
        Lockdown::Integrity,
        Lockdown::Unknown,
        Lockdown::Confidentiality,
    ];
    let checks = modes.map(kernel::lockdown_mode);
    assert_eq!(
        verdicts(&checks),
        [Verdict::Ok, Verdict::Ok, Verdict::Ok, Verdict::No]
    );
}

#[test]
fn tracefs_may_be_mounted_by_others_by_us_or_not_at_all() {
    assert!(
        kernel::tracefs_mount(true, Ok(()))
            .detail
            .starts_with("mounted")
    );
    assert!(
        kernel::tracefs_mount(false, Ok(()))
            .detail
            .contains("for one thread")
    );
    let refused = TracefsError::Unshare(io::Error::from_raw_os_error(libc::EPERM));
    let check = kernel::tracefs_mount(false, Err(refused));
    assert!(check.verdict == Verdict::No && check.advice.unwrap().contains("mount -t tracefs"));
}

#[test]
fn a_nested_namespace_is_a_note_and_a_foreign_proc_a_no() {
    let namespace = |initial| {
        Some(PidNamespace {
            dev: 4,
            ino: 1,
            initial,
        })
    };
    let checks = [
        kernel::pid_namespace(namespace(true), true),
        kernel::pid_namespace(namespace(false), true),
        kernel::pid_namespace(namespace(true), false),
        kernel::pid_namespace(None, true),
    ];
    assert_eq!(
        verdicts(&checks),
        [Verdict::Ok, Verdict::Note, Verdict::No, Verdict::No]
    );
}

#[test]
fn locked_memory_matters_before_5_11_only() {
    let (old, new) = (Version::new(5, 10), Version::new(5, 11));
    let none = Caps::default();
    assert_eq!(
        kernel::locked_memory(new, Some(65536), none).verdict,
        Verdict::Ok
    );
    assert_eq!(kernel::locked_memory(old, None, none).verdict, Verdict::Ok);
    assert_eq!(
        kernel::locked_memory(old, Some(65536), none).verdict,
        Verdict::Note
    );
    let all = Caps::from_bits(u64::MAX);
    assert_eq!(
        kernel::locked_memory(old, Some(65536), all).verdict,
        Verdict::Ok
    );
}

#[test]
fn ptrace_scope_3_forbids_launching() {
    assert_eq!(kernel::launching(Some("1")).verdict, Verdict::Ok);
    assert_eq!(kernel::launching(None).verdict, Verdict::Ok);
    assert_eq!(kernel::launching(Some("3")).verdict, Verdict::No);
}

#[test]
fn the_first_fault_source_that_works_is_the_one_and_failures_are_told() {
    let check = checks::fault_source(&WORKS().fault_sources);
    assert_eq!(
        check.detail,
        "raw_tp: loaded and attached; not tp_btf: no BTF"
    );
    let both = checks::fault_source(&[("tp_btf", Ok(())), ("raw_tp", Ok(()))]);
    assert_eq!(
        both.detail,
        "tp_btf: loaded and attached; raw_tp would do too"
    );
    assert_eq!(both.verdict, Verdict::Ok);
    let none = checks::fault_source(&FAILS().fault_sources);
    assert_eq!(none.verdict, Verdict::No);
    assert_eq!(none.detail.matches("CAP_BPF").count(), 1, "{}", none.detail);
    assert_eq!(checks::fault_source(&[]).verdict, Verdict::No);
}

#[test]
fn what_memory_the_machine_gives_and_takes_is_told() {
    let refused = io::Error::from_raw_os_error(libc::EINVAL);
    assert_eq!(checks::lazy_free(Err(refused)).verdict, Verdict::Note);
    let thp = |global| Thp {
        global: Some(global),
        sizes: vec![(2 << 20, Mode::Inherit)],
        huge_files: false,
        large_shmem: false,
        zero_page: true,
    };
    assert!(
        checks::huge_pages(&thp(Mode::Always))
            .detail
            .contains("lower bound")
    );
    assert_eq!(checks::huge_pages(&thp(Mode::Madvise)).verdict, Verdict::Ok);
    let heading = "Filename Type Size Used Priority";
    assert_eq!(checks::swap(Some(heading)).verdict, Verdict::Note);
    assert_eq!(checks::swap(None).verdict, Verdict::Note);
    let one = format!("{heading}\n/dev/vda2 partition 1 0 -2");
    assert_eq!(checks::swap(Some(&one)).verdict, Verdict::Ok);
}

#[test]
fn this_machine_is_examined_and_every_no_says_what_to_do() {
    let findings = examine(WORKS);
    assert_eq!(findings.fault_source, Some("raw_tp"));
    for name in [
        "kernel",
        "tracefs",
        "capabilities",
        "fault_source",
        "madv_free",
        "ring_buffer",
    ] {
        assert!(
            findings.checks.iter().any(|check| check.name == name),
            "{name}"
        );
    }
    assert!(
        findings.checks.iter().all(is_advised),
        "{:?}",
        findings.checks
    );
}

fn text(findings: &Findings, color: bool) -> String {
    let mut out = Vec::new();
    findings.write_text(&mut out, color).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn the_text_has_a_line_for_each_check_and_a_last_word() {
    let findings = Findings {
        checks: vec![
            Check::ok("kernel", "Linux 6.1"),
            Check::no("pid_namespace", "wrong").advise("mount it"),
        ],
        fault_source: None,
    };
    assert_eq!(
        text(&findings, false),
        "ok    kernel         Linux 6.1\n\
         no    pid namespace  wrong\n\
        \x20                    -> mount it\n\
         \n\
         Tracing cannot work here yet: see the lines that begin with \"no\".\n"
    );
    assert!(text(&findings, true).contains("\x1b[31mno  \x1b[0m"));
}

#[test]
fn the_json_is_one_line_that_begins_with_its_type() {
    let findings = Findings {
        checks: vec![Check::no("btf", "a \"quoted\" word").advise("do")],
        fault_source: Some("raw_tp"),
    };
    let mut out = Vec::new();
    findings.write_json(&mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(
        text.starts_with("{\"type\":\"doctor\",") && text.lines().count() == 1,
        "{text}"
    );
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    let check = &value["checks"][0];
    assert_eq!(
        (&check["name"], &check["ok"]),
        (&json!("btf"), &json!(false))
    );
    assert_eq!(
        (&check["detail"], &check["advice"]),
        (&json!("a \"quoted\" word"), &json!("do"))
    );
    assert_eq!(value["works"], json!(true));
}

#[test]
fn the_exit_status_is_that_of_the_fault_source() {
    let report = Report {
        format: Format::Json,
        sink: Sink::File("/dev/null".into()),
        terminal: false,
        color: false,
    };
    assert_eq!(run(&report, WORKS).unwrap(), 0);
    assert_eq!(run(&report, FAILS).unwrap(), 1);
    let nowhere = Report {
        sink: Sink::File("/no/such/directory/x".into()),
        ..report
    };
    assert!(run(&nowhere, WORKS).unwrap_err().to_string().contains("-o"));
}

#[test]
fn a_kernel_that_cannot_count_reclaim_is_a_note_and_not_a_failure() {
    let counting =
        |traces, tried: Result<(), &str>| checks::counting(traces, tried.map_err(str::to_owned));
    assert_eq!(counting(true, Ok(())).verdict, Verdict::Ok);
    let old = counting(true, Err("Linux before 6.2"));
    assert!(
        old.verdict == Verdict::Note && old.detail.contains("Linux before 6.2"),
        "{old:?}"
    );
    // The reason has been told already.
    assert!(
        !counting(false, Err("CAP_BPF is missing"))
            .detail
            .contains("CAP_BPF")
    );
}
