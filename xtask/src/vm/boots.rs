//! Which boots each kernel of the matrix gets: what the machine has and lacks, and what runs on it.

use crate::vm::kernels::Kernel;
use crate::vm::protocol::{Cgroup, Plan, Setup, Tests};

/// Emulation makes tests this much slower, and what they wait for.
const PATIENCE: u32 = 8;
const SECONDS_PER_TEST: u64 = 120;

/// One boot of one kernel.
#[derive(Clone, Debug)]
pub struct Boot {
    pub kernel: &'static Kernel,
    pub name: &'static str,
    setup: Setup,
    /// Where page faults must be taken from there.
    pub fault_source: &'static str,
    ordinary: bool,
}

impl Boot {
    /// All boots of a kernel.
    pub fn of(kernel: &'static Kernel) -> [Self; 3] {
        let plain = Setup {
            cgroup: Cgroup::V2,
            btf_hidden: false,
            swap_mib: 0,
        };
        [
            Self {
                kernel,
                name: "plain",
                setup: plain,
                fault_source: "tp_btf",
                ordinary: true,
            },
            Self {
                kernel,
                name: "no BTF",
                setup: Setup {
                    cgroup: kernel.other_cgroup(),
                    btf_hidden: true,
                    ..plain
                },
                fault_source: "raw_tp",
                ordinary: true,
            },
            Self {
                kernel,
                name: "swap",
                setup: Setup {
                    swap_mib: 256,
                    ..plain
                },
                fault_source: "tp_btf",
                ordinary: false,
            },
        ]
    }

    /// What the guest is told.
    pub fn plan(&self, filter: Option<&str>) -> Plan {
        Plan {
            setup: self.setup,
            tests: Tests {
                ordinary: self.ordinary,
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
        words.join(", ")
    }
}
