//! What is measured: each workload with its variants and the steps of one run of it.
use std::time::Instant;

use anyhow::Result;

use super::empty::Hook;
use super::peers::Peer;
use super::redis;
use super::report::Sample;
use super::setup::Setup;
use super::target::{Target, Truth};
use super::variant::{Attached, Variant};

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Workload {
    /// Faults one after the other
    Faults,
    /// Faults in random order
    Random,
    /// Faults while something is lazily free
    Lazy,
    /// madvise(MADV_DONTNEED) of 64 KiB
    Madvise,
    /// System calls of a process that is not traced
    Syscalls,
    /// Faults of a process that is not traced
    Bystander,
    /// Faults of a process that is not traced, while the traced one holds lazily freed memory
    BystanderLazy,
    /// Requests to a Redis
    Redis,
}

/// 128 MiB of 4 KiB pages.
const PAGES: usize = 32768;
/// 64 MiB.
const LAZY_PAGES: usize = 16384;
/// 64 KiB.
const CHUNK_PAGES: usize = 16;
/// Rounds within a run; its value is their median.
const INNER_ROUNDS: usize = 7;
/// For those that take 15 us a fault and more.
const INNER_ROUNDS_OF_SLOW: usize = 2;
const SYSCALLS: usize = 300_000;

impl Workload {
    pub fn key(self) -> &'static str {
        match self {
            Self::Faults => "faults",
            Self::Random => "random",
            Self::Lazy => "lazy",
            Self::Madvise => "madvise",
            Self::Syscalls => "syscalls",
            Self::Bystander => "bystander",
            Self::BystanderLazy => "bystander-lazy",
            Self::Redis => "redis",
        }
    }

    pub fn title(self) -> &'static str {
        match self {
            Self::Faults => "A fault of the target, sequential",
            Self::Random => "A fault of the target, random order",
            Self::Lazy => "A fault of the target while 64 MiB of it are lazily free",
            Self::Madvise => "A madvise of the target",
            Self::Syscalls => "A system call of another process",
            Self::Bystander => "A fault of another process",
            Self::BystanderLazy => {
                "A fault of another process while 64 MiB of the target are lazily free"
            }
            Self::Redis => "A request to a Redis that gives memory back",
        }
    }

    pub fn about(self) -> String {
        let without = if self.is_lazy() {
            "after it has gone"
        } else {
            "before and after"
        };
        let slow = format!(
            "a run is {INNER_ROUNDS} rounds ({INNER_ROUNDS_OF_SLOW} under what takes microseconds an event), its value their \
             median; what is added is against the same process without the tracer, {without}, and with nothing attached it is chance"
        );
        match self {
            Self::Faults | Self::Random => format!(
                "One thread writes a byte to each of {PAGES} pages of 4 KiB{}, then gives them all back with MADV_DONTNEED; \
                 only the writes are timed; {slow}.",
                if self == Self::Random {
                    ", in an order that looks random"
                } else {
                    ""
                }
            ),
            Self::Lazy => format!(
                "As above, in sequential order. memtrace then also counts, on every change of an RSS, what reclaim takes; \
                 `--no-reclaim-tracking` leaves that off; {slow}."
            ),
            Self::Madvise => format!(
                "MADV_DONTNEED of 64 KiB of populated pages at a time, {} calls a round; only the calls are timed, but memtrace \
                 traces the {CHUNK_PAGES} faults before each call too, and its CPU time is for all of that; {slow}.",
                PAGES / CHUNK_PAGES
            ),
            Self::Syscalls => format!(
                "A process that nobody traces calls getppid, {SYSCALLS} times a round, while an idle one is traced; {slow}."
            ),
            Self::Bystander | Self::BystanderLazy => format!(
                "A process that nobody traces makes sequential faults while an idle one is traced; {slow}."
            ),
            Self::Redis => redis::about(),
        }
    }

    /// Something is held lazily free, which is made under the tracer's eyes.
    fn is_lazy(self) -> bool {
        matches!(self, Self::Lazy | Self::BystanderLazy)
    }

    pub fn event(self) -> &'static str {
        match self {
            Self::Faults | Self::Random | Self::Lazy | Self::Bystander | Self::BystanderLazy => {
                "fault"
            }
            Self::Madvise | Self::Syscalls => "call",
            Self::Redis => "request",
        }
    }

    /// What it is measured under. `rungs` are the sources of faults that memtrace knows besides
    /// the one it takes by itself.
    pub fn variants(self, rungs: &[&'static str]) -> Vec<Variant> {
        use Variant::{Empty, Memtrace};
        let mut variants = vec![Variant::Untraced];
        match self {
            Self::Faults => {
                variants.extend([
                    Empty(Hook::FaultTpBtf),
                    Empty(Hook::FaultTracepoint),
                    Memtrace(""),
                    Memtrace("-q"),
                    Memtrace("-q --exact-bytes"),
                ]);
                variants.extend(rungs.iter().map(|options| Memtrace(options)));
                variants.extend(
                    [
                        Peer::PerfStat,
                        Peer::PerfRecordSoftware,
                        Peer::PerfRecordTracepoint,
                        Peer::PerfTraceFaults,
                        Peer::BpftraceCount,
                        Peer::BpftracePrintf,
                    ]
                    .map(Variant::Peer),
                );
            }
            Self::Random => variants.extend([
                Empty(Hook::FaultTpBtf),
                Memtrace(""),
                Memtrace("-q"),
                Variant::Peer(Peer::PerfRecordSoftware),
                Variant::Peer(Peer::BpftraceCount),
            ]),
            Self::Lazy => variants.extend([
                Empty(Hook::FaultTpBtf),
                Memtrace("-q"),
                Memtrace("-q --no-reclaim-tracking"),
                Memtrace("-q --exact-bytes"),
                Variant::Peer(Peer::PerfRecordSoftware),
            ]),
            Self::Madvise => variants.extend([
                Empty(Hook::MadviseTracepoints),
                Memtrace(""),
                Memtrace("-q"),
                Memtrace("-q --exact-bytes"),
                Variant::Peer(Peer::PerfTraceCalls),
                Variant::Peer(Peer::BpftraceCountCalls),
                Variant::Peer(Peer::Strace),
            ]),
            Self::Syscalls => variants.extend([
                Empty(Hook::MadviseTracepoints),
                Memtrace("-q"),
                Variant::Peer(Peer::PerfTraceCalls),
                Variant::Peer(Peer::BpftraceCountCalls),
                Variant::Peer(Peer::Strace),
            ]),
            Self::Bystander => variants.extend([
                Empty(Hook::FaultTpBtf),
                Memtrace("-q"),
                Memtrace("-q --exact-bytes"),
                Variant::Peer(Peer::PerfRecordSoftware),
                Variant::Peer(Peer::PerfRecordTracepoint),
                Variant::Peer(Peer::BpftraceCount),
            ]),
            Self::BystanderLazy => variants.extend([
                Empty(Hook::FaultTpBtf),
                Memtrace("-q"),
                Memtrace("-q --no-reclaim-tracking"),
            ]),
            // Others are compared with themselves.
            Self::Redis => variants.extend([
                Variant::UntracedAgain,
                Memtrace("-q"),
                Memtrace(""),
                Variant::Peer(Peer::BpftraceCount),
                Variant::Peer(Peer::PerfRecordSoftware),
                Variant::Peer(Peer::PerfTraceCalls),
                Variant::Peer(Peer::Strace),
            ]),
        }
        variants
    }

    /// What it needs besides the variant's own program.
    pub fn missing(self) -> Option<String> {
        match self {
            Self::Redis => redis::missing(),
            _ => None,
        }
    }

    /// One run under one variant. The round is left for the caller to fill in.
    pub fn run(self, variant: &Variant, setup: &Setup) -> Result<Sample> {
        if self == Self::Redis {
            return redis::run(variant, setup);
        }
        let rounds = if variant.is_slow() {
            INNER_ROUNDS_OF_SLOW
        } else {
            INNER_ROUNDS
        };
        let faults = |random, lazy| words("faults", &[PAGES, rounds, random, lazy]);
        let waits = |lazy| words("waits", &[lazy]);
        let (target, bystander) = match self {
            Self::Faults => (faults(0, 0), None),
            Self::Random => (faults(1, 0), None),
            Self::Lazy => (faults(0, LAZY_PAGES), None),
            Self::Madvise => (words("madvise", &[PAGES, rounds, CHUNK_PAGES]), None),
            Self::Syscalls => (waits(0), Some(words("syscalls", &[SYSCALLS, rounds]))),
            Self::Bystander => (waits(0), Some(faults(0, 0))),
            Self::BystanderLazy => (waits(LAZY_PAGES), Some(faults(0, 0))),
            Self::Redis => unreachable!("it returned above"),
        };
        let lazy = self.is_lazy();
        let cpu = setup.cpus.measured;
        let mut target = Target::start(&setup.workload, &target, cpu)?;
        let mut bystander = match bystander {
            Some(args) => Some(Target::start(&setup.workload, &args, cpu)?),
            None => None,
        };
        let mut untraced = Vec::new();
        let mut attached = if lazy {
            // What is lazily free is made under its eyes.
            let attached = variant.attach(target.pid(), setup)?;
            target.go()?;
            if let Some(bystander) = &mut bystander {
                bystander.go()?;
            }
            attached
        } else {
            target.go()?;
            if let Some(bystander) = &mut bystander {
                bystander.go()?;
            }
            untraced.push(bystander.as_mut().unwrap_or(&mut target).act()?);
            variant.attach(target.pid(), setup)?
        };
        if let Attached::Memtrace(memtrace) = &mut attached
            && lazy
            && variant.switches_reclaim_tracking()
        {
            memtrace.await_reclaim_tracking()?;
        }
        let cpu_before = attached.settle()?;
        let measured = bystander.as_mut().unwrap_or(&mut target);
        let begun = Instant::now();
        let truth = measured.act()?;
        let elapsed = begun.elapsed();
        let mut sample = Sample {
            ns_per_event: truth.ns_per_event()?,
            own_cpu_ns_per_event: Some(truth.cpu_ns_per_event()?),
            best_ns_per_event: Some(truth.best_ns_per_event()?),
            ..Sample::default()
        };
        if let (Some(tracer), Some(before)) = (attached.running(), cpu_before) {
            let used = tracer.settled_cpu_ns()? - before;
            let memory = tracer.memory()?;
            sample.cpu_ns_per_event = Some(used as f64 / truth.events()? as f64);
            sample.cpu_percent = Some(used as f64 / elapsed.as_nanos() as f64 * 100.0);
            sample.rss_bytes = Some(memory.rss_bytes);
            sample.peak_bytes = Some(memory.peak_bytes);
        }
        if let Attached::Memtrace(memtrace) = &attached {
            sample.start_ms = Some(memtrace.start.as_secs_f64() * 1e3);
        }
        sample.seen = attached.stop()?;
        untraced.push(bystander.as_mut().unwrap_or(&mut target).act()?);
        let mean = |of: fn(&Truth) -> Result<f64>| -> Result<f64> {
            let values = untraced.iter().map(of).collect::<Result<Vec<f64>>>()?;
            Ok(values.iter().sum::<f64>() / values.len() as f64)
        };
        sample.untraced_ns_per_event = Some(mean(Truth::ns_per_event)?);
        sample.untraced_own_cpu_ns_per_event = Some(mean(Truth::cpu_ns_per_event)?);
        if bystander.is_none() {
            sample.faults = Some(truth.faults()?);
            if self == Self::Madvise {
                sample.madvise_calls = Some(truth.events()?);
            }
        }
        if let Some(bystander) = bystander {
            bystander.end()?;
            // It has waited for its turn all the time.
            target.act()?;
        }
        target.end()?;
        Ok(sample)
    }
}

/// A command line of `bench-workload`.
pub fn words(name: &str, numbers: &[usize]) -> Vec<String> {
    let numbers = numbers.iter().map(usize::to_string);
    [name.to_owned()].into_iter().chain(numbers).collect()
}
