//! What the host tells a guest to do, and what the guest tells the host: JSON, shared by both sides.

use serde::{Deserialize, Serialize};

/// Where a guest finds its [`Plan`].
pub const PLAN: &str = "/plan.json";
/// Where the programs under test and those of the host are in a guest.
pub const PROGRAMS: &str = "/bin";
/// Where the test binaries are in a guest.
pub const TESTS: &str = "/tests";
/// The binary with the tests of [`Kind::LockedDown`].
pub const LOCKED_DOWN: &str = "locked_down";
/// The module that swap in a guest lives in: it needs no other one.
pub const RAMDISK_MODULE: &str = "/brd.ko";

/// How a guest is set up, and what it is to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    pub setup: Setup,
    pub tests: Tests,
    /// A test that takes longer is ended, and has failed.
    pub seconds_per_test: u64,
    /// How much slower than a real machine the guest may be: what tests wait for gets that much longer.
    pub patience: u32,
}

/// What the machine is to have, and to lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setup {
    pub cgroup: Cgroup,
    /// Nobody finds the kernel's BTF.
    pub btf_hidden: bool,
    /// Swap of that size; none for 0.
    pub swap_mib: u64,
}

/// The hierarchy with the memory controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cgroup {
    V1,
    V2,
}

/// Which tests to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tests {
    pub kind: Kind,
    /// Only those whose name, `BINARY::TEST`, has this in it.
    pub filter: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// Those that run on any machine.
    Ordinary,
    /// Those that want a machine of their own, which are ignored elsewhere.
    OwnMachine,
    /// Those that want a kernel that is locked down, in a binary of their own.
    LockedDown,
}

/// One line of a guest to the host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Message {
    /// The guest is set up.
    Booted { release: String },
    /// What `memtrace doctor --format json` said.
    Doctor { report: serde_json::Value },
    /// Whether a program at a function's entry loads and attaches, and else why not.
    Fentry { works: bool, detail: String },
    /// A test begins. One that begins and never ends hangs, or took the kernel with it.
    Begun { test: String },
    Ended {
        test: String,
        outcome: Outcome,
        /// How often it was begun anew, since the kernel had left out a program of memtrace's.
        repeated: u32,
        milliseconds: u64,
    },
    /// All that was asked for was run.
    Done,
    /// The guest could not do what it was asked to.
    Broken { why: String },
}

/// How a test went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    Passed,
    Failed {
        /// What it wrote.
        output: String,
    },
    /// It said that it cannot run here, and why.
    NotRun {
        why: String,
    },
}
