//! What the tests share: guards for the workload and the tracer, a typed view of the JSON, and the workloads' own side.
//!
//! A test starts a [`workload::Workload`], attaches a [`tracer::Trace`] to it, lets it act and compares the
//! [`run::Run`] with the truth that the workload found out by itself. [`scenario::Scenario`] does the usual
//! sequence in one call. Of these modules the workloads use [`scene`], [`area`], [`processes`] and [`userfault`].

pub mod area;
pub mod binary;
pub mod bounds;
pub mod bpf;
pub mod cgroup;
pub mod compare;
pub mod counters;
pub mod differential;
pub mod golang;
pub mod huge_pages;
pub mod needs;
pub mod paced;
pub mod processes;
pub mod programs;
pub mod pty;
pub mod reclaim;
pub mod record;
pub mod run;
pub mod runtimes;
pub mod scenario;
pub mod scene;
pub mod screen;
pub mod smaps;
pub mod tempdir;
pub mod tracer;
pub mod userfault;
pub mod wait;
pub mod workload;

/// One of this package's workloads, by name: in the program beside the tests, or in the directory
/// that MEMTRACE_WORKLOADS names.
#[macro_export]
macro_rules! exe {
    ($name:literal) => {
        $crate::binary::Exe::new($name, env!("CARGO_BIN_EXE_workload"))
    };
}
