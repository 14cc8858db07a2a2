//! On a kernel that is locked down memtrace says so, and leaves alone what would harm it.
//!
//! They are ignored, since nothing lifts a lockdown but a reboot: `cargo xtask vm-test` runs them.

use std::process::{Command, Stdio};

use memtrace_tests::exe;
use memtrace_tests::tracer::command;
use memtrace_tests::workload::Workload;

/// Where it may say so itself, and where nobody has mounted what says it.
const SECURITYFS: [&str; 2] = ["mount -t securityfs none /sys/kernel/security && ", ""];

#[test]
#[ignore = "wants a kernel with lockdown=confidentiality"]
fn a_kernel_that_forbids_tracing_is_named_and_survives() {
    let workload = Workload::start(&exe!("waits"), &[]);
    for mount in SECURITYFS {
        // Taking off a tracefs that came up under lockdown crashes some kernels.
        let output = Command::new("unshare")
            .args(["--mount", "sh", "-c", &format!("{mount} exec \"$@\""), "sh"])
            .arg(command().get_program())
            .args(["-p", &workload.pid.to_string()])
            .stdin(Stdio::null())
            .output()
            .expect("unshare runs");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(
            stderr.contains("locked down (confidentiality)")
                && stderr.contains("lockdown=integrity"),
            "{stderr}"
        );
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    }
}
