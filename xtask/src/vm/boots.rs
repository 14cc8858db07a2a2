//! Which boots each kernel of the matrix gets: what the machine has and lacks, and what runs on it.

use crate::vm::kernels::Kernel;
use crate::vm::protocol::{Cgroup, Kind, Plan, Setup, Tests};

/// Emulation makes tests this much slower, and what they wait for.
const PATIENCE: u32 = 4;
/// The longest takes 110 to 150 s on an idle host, and guests share it.
const SECONDS_PER_TEST: u64 = 600;

/// One boot of one kernel.
#[derive(Clone, Debug)]
pub struct Boot {
    pub kernel: &'static Kernel,
    pub name: &'static str,
    setup: Setup,
    /// Where page faults must be taken from there; nowhere, where nothing can be traced.
    pub fault_source: Option<&'static str>,
    kind: Kind,
    pub memory_mib: u64,
    /// What its kernel is told beside what all are.
    pub parameters: &'static str,
}

impl Boot {
    /// All boots of a kernel. Without BTF memtrace is the same on each: the oldest and the newest will do.
    pub fn of(kernel: &'static Kernel) -> Vec<Self> {
        let plain = Setup {
            cgroup: Cgroup::V2,
            btf_hidden: false,
            swap_mib: 0,
        };
        let mut boots = vec![Self {
            kernel,
            name: "plain",
            setup: plain,
            fault_source: Some(kernel.fault_source),
            kind: Kind::Ordinary,
            memory_mib: 2048,
            parameters: "",
        }];
        if kernel.is_at_an_end() {
            boots.push(Self {
                name: "no BTF",
                setup: Setup {
                    cgroup: kernel.other_cgroup(),
                    btf_hidden: true,
                    ..plain
                },
                fault_source: Some(kernel.fault_source_without_btf),
                ..boots[0].clone()
            });
        }
        boots.push(Self {
            name: "swap",
            setup: Setup {
                cgroup: kernel.other_cgroup(),
                swap_mib: 256,
                ..plain
            },
            kind: Kind::OwnMachine,
            // So that it is soon full.
            memory_mib: 768,
            ..boots[0].clone()
        });
        boots.push(Self {
            name: "locked down",
            fault_source: None,
            kind: Kind::LockedDown,
            parameters: "lockdown=confidentiality",
            ..boots[0].clone()
        });
        boots
    }

    /// What the guest is told.
    pub fn plan(&self, filter: Option<&str>) -> Plan {
        Plan {
            setup: self.setup,
            tests: Tests {
                kind: self.kind,
                filter: filter.map(str::to_owned),
            },
            seconds_per_test: SECONDS_PER_TEST,
            patience: PATIENCE,
        }
    }

    /// As files are named after it.
    pub fn file_name(&self) -> String {
        format!("{}-{}", self.kernel.name, self.name.replace(' ', "-"))
    }

    /// What is unlike an ordinary machine there.
    pub fn setup(&self) -> String {
        let cgroup = match self.setup.cgroup {
            Cgroup::V1 => "cgroup v1",
            Cgroup::V2 => "cgroup v2",
        };
        let mut words = vec![cgroup.to_owned()];
        if self.setup.btf_hidden {
            words.push("BTF hidden".to_owned());
        }
        if self.setup.swap_mib > 0 {
            words.push(format!("{} MiB of swap", self.setup.swap_mib));
        }
        if self.kind == Kind::LockedDown {
            words.push("locked down (confidentiality)".to_owned());
        }
        words.join(", ")
    }
}
