//! Applies events to the ledger in their order and shows what each was.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::Context as _;

use super::ending::Ending;
use super::enrich::Enrich;
use super::reclaim::Reclaim;
use super::recognise::Recognise;
use super::sampler::{Reply, Sampler, Who};
use super::{nothing_lost, report};
use crate::attach::{Attached, Counts};
use crate::clock;
use crate::config::Config;
use crate::decode::{Delivered, decode};
use crate::ledger::event::{Begin, Call, Event, Exit, Lost, Mapping, Op, Sample};
use crate::ledger::{Ledger, Mm};
use crate::order::Reorder;
use crate::output::Output;
use crate::proc;
use crate::source::Chunk;
use crate::units::{Bytes, Nanos, counted};
use crate::view::filter::Filter;
use crate::view::runs::{OneFault, Runs};
use crate::view::status::Meter;
use crate::view::{CallLine, FaultRun, Header, Line, ProcessEvent, ProcessLine, Status};

/// A call on its way, and the mapping that it fell on.
type Entered = (Arc<Call>, Option<Mapping>);

/// The state of a run between the source and the output.
pub struct Tracker {
    ledger: Ledger,
    order: Reorder,
    pub enrich: Enrich,
    delivered: Delivered,
    output: Box<dyn Output>,
    stream: bool,
    verbose: bool,
    status: bool,
    filter: Filter,
    runs: Runs,
    /// Calls that entered and have not left, with what they fell on: it may be gone at their exit.
    entered: HashMap<u32, Vec<Entered>>,
    /// Of the last status, by pid and image.
    meters: HashMap<(u32, u32), Meter>,
    pub reclaim: Reclaim,
    pub sampler: Sampler,
    pub recognise: Recognise,
    /// The last FREE of each process for which a look was asked.
    looked_for: HashMap<u32, u64>,
    /// What is to be said at the end of the run.
    pub notes: Vec<String>,
    /// The start time of each process by pid, to know it from a later one with its pid.
    born: HashMap<u32, u64>,
    malformed: u64,
    lost: Lost,
    /// An interval has ended, and its status waits for the events before it.
    status_due: bool,
}

impl Tracker {
    pub fn new(config: &Config, output: Box<dyn Output>) -> anyhow::Result<Self> {
        Ok(Self {
            ledger: Ledger::default(),
            order: Reorder::default(),
            enrich: Enrich::new(config.follow_forks),
            delivered: Delivered::default(),
            output,
            stream: config.stream,
            verbose: config.verbose > 0,
            status: config.status,
            filter: config.filter,
            runs: Runs::new(proc::page_bytes()),
            entered: HashMap::new(),
            meters: HashMap::new(),
            born: HashMap::new(),
            malformed: 0,
            lost: Lost::default(),
            status_due: false,
            reclaim: Reclaim::new(config.reclaim_tracking, config.exact_bytes),
            sampler: Sampler::start()?,
            recognise: Recognise::start()?,
            looked_for: HashMap::new(),
            notes: Vec::new(),
        })
    }

    pub fn header(&mut self, header: &Header) -> anyhow::Result<()> {
        self.output.header(header).context(WRITING)?;
        self.output.flush().context(WRITING)
    }

    /// A process comes under trace. Known at once, so that nobody takes us for being without a target.
    pub fn begin(&mut self, begin: Begin) {
        self.ledger.apply(&Event::Begin(begin));
    }

    /// An event of our own making: it takes its place among the others.
    pub fn event(&mut self, event: Event) {
        self.order.push(event);
    }

    /// A process whose death only /proc may tell is known by this.
    pub fn remember(&mut self, pid: u32, start_ticks: u64) {
        self.born.insert(pid, start_ticks);
    }

    pub fn any_alive(&self) -> bool {
        self.ledger.any_alive()
    }

    /// Takes a chunk in, and applies what can have no predecessor any more.
    pub fn take(&mut self, chunk: &Chunk, kernel: &mut Attached) -> anyhow::Result<()> {
        let (enrich, order) = (&mut self.enrich, &mut self.order);
        enrich.begin_chunk();
        let whole = decode(&chunk.records, &mut self.delivered, |record| {
            enrich.take(record, order);
        });
        if let Err(malformed) = whole {
            eprintln!(
                "memtrace: {malformed}: the rest of the chunk is lost (a bug, please report it)"
            );
            self.malformed += 1;
        }
        while let Some(event) = self.order.release(chunk.complete_ns) {
            self.before(&event, kernel);
            self.apply(&event)?;
            self.after(&event, kernel);
        }
        self.look_after_lazy(kernel);
        if chunk.complete_ns > self.lost.at_ns {
            self.show_status_due()?;
        }
        Ok(())
    }

    /// The end of an interval: samples, checks who lives, and lets the status follow as soon as
    /// everything that happened before it is applied.
    pub fn interval(&mut self, lost: Lost, kernel: &Attached) -> anyhow::Result<()> {
        self.show_status_due()?;
        self.sample_rss();
        self.reclaim.read();
        for event in self.reclaim.all(clock::now_ns(), kernel) {
            self.order.push(event);
        }
        let mut images = Vec::new();
        for pid in self.owners() {
            let Some(mm) = self.ledger.mm_of(pid) else {
                continue;
            };
            images.push((mm.pid, mm.image));
            // Where the record of a FREE may be lost, or none was ever looked at, nothing is certain.
            let unsure = self.lost.calls > 0 || mm.rss.last_rollup.is_none();
            if mm.lazy_may_change() || unsure {
                self.sampler.want_now(self.who(pid));
            }
        }
        self.recognise.ask_again(&images);
        self.note_the_dead();
        let of = |lost: &Lost| (lost.faults, lost.calls, lost.lifecycle, lost.populated);
        let more = of(&lost) != of(&self.lost);
        self.lost = lost;
        self.ledger.apply(&Event::Lost(lost));
        if more {
            self.output.lost(&lost).context(WRITING)?;
        }
        self.status_due = true;
        Ok(())
    }

    /// Shows the status of the last interval, if it is not shown yet.
    fn show_status_due(&mut self) -> anyhow::Result<()> {
        if !std::mem::take(&mut self.status_due) {
            return Ok(());
        }
        let lost = self.lost;
        if self.stream {
            let mut runs = Vec::new();
            self.runs.advance(lost.at_ns, &mut runs);
            self.show_runs(runs)?;
        }
        // Those that ended need no rates any more.
        self.meters.retain(|(pid, image), _| {
            self.ledger
                .mm_of(*pid)
                .is_some_and(|mm| (mm.pid, mm.image) == (*pid, *image))
        });
        if self.status {
            let statuses: Vec<_> = self
                .ledger
                .mms()
                .iter()
                .filter(|mm| mm.end_ns.is_none())
                .map(|mm| status(mm, lost, &mut self.meters))
                .collect();
            self.output.status(&statuses).context(WRITING)?;
        }
        self.output.flush().context(WRITING)
    }

    /// Reads the RSS of one process. It shows as 0 where the first thread has ended and others
    /// live on, which means no more than that it is not known.
    pub fn sample(&mut self, pid: u32) {
        if let Ok(sizes) = proc::rss::read(pid)
            && sizes.resident_bytes > 0
        {
            self.order.push(Event::Sample(Sample {
                at_ns: clock::now_ns(),
                pid,
                rss_bytes: sizes.resident_bytes,
                virtual_bytes: Some(sizes.virtual_bytes),
                rollup: None,
                cgroup: None,
            }));
        }
    }

    /// Asks for a first look at what is lazily free in a process.
    pub fn look_first(&mut self, pid: u32) {
        self.sampler.want_now(self.who(pid));
    }

    /// With `--exact-bytes`: counts from here on.
    pub fn count_exactly(&mut self, pid: u32, kernel: &mut Attached) {
        if !self.reclaim.is_exact() {
            return;
        }
        for event in self.reclaim.begin(pid, clock::now_ns(), kernel) {
            self.order.push(event);
        }
    }

    /// Takes a look's answer in.
    pub fn looked(&mut self, reply: Reply, kernel: &Attached) {
        if let Some(sample) = reply.sample {
            if self.verbose
                && let Some(rollup) = &sample.rollup
            {
                eprintln!(
                    "memtrace: a look at smaps_rollup of {} took {} of CPU time: {} of {} RSS lazily free",
                    sample.pid,
                    Nanos(rollup.cost_ns),
                    Bytes(rollup.lazyfree_bytes),
                    Bytes(rollup.rss_bytes),
                );
            }
            self.sampled(sample, kernel);
        }
    }

    /// A look, and what the kernel took by then: together they tell what was written again.
    fn sampled(&mut self, sample: Sample, kernel: &Attached) {
        if let Some(taken) = self.reclaim.taken(sample.pid, sample.at_ns, kernel) {
            self.order.push(taken);
        }
        self.order.push(Event::Sample(sample));
    }

    /// The last looks, while the processes still live.
    pub async fn look_last(&mut self, kernel: &Attached) {
        let all: Vec<(Who, u64)> = self
            .owners()
            .into_iter()
            .map(|pid| (self.who(pid), proc::rss::rss_bytes(pid).unwrap_or(0)))
            .collect();
        let (samples, left_out) = self.sampler.last(&all).await;
        for sample in samples {
            self.sampled(sample, kernel);
        }
        if left_out > 0 {
            self.notes.push(format!(
                "{} not looked at once more at the end, which would take too long: the last sample stands",
                counted(left_out, "process")
            ));
        }
    }

    fn who(&self, pid: u32) -> Who {
        Who {
            pid,
            start_ticks: self.born.get(&pid).copied(),
        }
    }

    /// The processes that live and have an address space of their own.
    fn owners(&self) -> Vec<u32> {
        let mut pids = self.ledger.live_pids();
        // Whoever borrows an address space (vfork) may have left it by now, and events lag.
        pids.retain(|pid| self.ledger.mm_of(*pid).is_some_and(|mm| mm.pid == *pid));
        pids
    }

    /// What must be known of an address space before it goes.
    fn before(&mut self, event: &Event, kernel: &mut Attached) {
        let (pid, at_ns) = match event {
            Event::Exec(exec) => (exec.pid, exec.at_ns),
            Event::Exit(exit) => (exit.pid, exit.at_ns),
            _ => return,
        };
        // A vfork child works on its parent's image, which goes on.
        if let Some(mm) = self.ledger.mm_of(pid).filter(|mm| mm.pid == pid) {
            self.recognise.image_ends((mm.pid, mm.image), at_ns);
        }
        self.looked_for.remove(&pid);
        if let Some(taken) = self.reclaim.image_ends(pid, at_ns, kernel) {
            self.ledger.apply(&taken);
        }
    }

    /// Looks at a new address space; with `--exact-bytes` it is counted from its first moment that
    /// we know of.
    fn after(&mut self, event: &Event, kernel: &mut Attached) {
        let pid = match event {
            Event::Exec(exec) if exec.followed => {
                if let Some(mm) = self.ledger.mm_of(exec.pid) {
                    self.recognise.ask((mm.pid, mm.image));
                }
                exec.pid
            }
            Event::Fork(fork) if fork.followed && !fork.shares_vm => {
                if let Some(parent) = self.ledger.mm_of(fork.parent_pid) {
                    let parent = (parent.pid, parent.image);
                    self.recognise.inherit(parent, (fork.pid, 0));
                }
                fork.pid
            }
            _ => return,
        };
        if self.reclaim.is_exact()
            && let Some(mm) = self.ledger.mm_of(pid)
        {
            for event in self.reclaim.look_after(pid, mm, kernel) {
                self.order.push(event);
            }
        }
    }

    /// Sees to it that what the kernel takes is counted where something is lazily free, and that
    /// what was just marked is looked at.
    fn look_after_lazy(&mut self, kernel: &mut Attached) {
        for pid in self.owners() {
            let Some(mm) = self.ledger.mm_of(pid) else {
                continue;
            };
            for event in self.reclaim.look_after(pid, mm, kernel) {
                self.order.push(event);
            }
            if mm.lazy_unseen() {
                let marked_ns = mm.lazy().last_marked_ns.unwrap_or(mm.start_ns);
                if self.looked_for.insert(pid, marked_ns) != Some(marked_ns) {
                    self.sampler.want_soon(self.who(pid));
                }
            }
        }
    }

    /// Reads the RSS of every process that lives, and what folios it may get.
    pub fn sample_rss(&mut self) {
        for pid in self.owners() {
            // In their place among the events: after an exec, what is read is the new image's.
            self.sample(pid);
            if let Some(event) = self.enrich.folios(pid) {
                self.order.push(event);
            }
        }
    }

    /// Ends the ledger and shows the summaries.
    pub fn finish(
        &mut self,
        end_ns: u64,
        counts: &Counts,
        ending: &Ending,
        kernel: &Attached,
    ) -> anyhow::Result<()> {
        for event in self.reclaim.all(end_ns, kernel) {
            self.ledger.apply(&event);
        }
        let mut runs = Vec::new();
        self.runs.flush(&mut runs);
        self.show_runs(runs)?;
        self.status_due = false;
        let lost = report::lost(end_ns, counts);
        self.ledger.apply(&Event::Lost(lost));
        if !nothing_lost(&lost) {
            self.output.lost(&lost).context(WRITING)?;
        }
        let check = report::Check {
            counts: *counts,
            delivered: self.delivered,
            late: self.order.late(),
            malformed: self.malformed,
            alive: self.ledger.live_pids().len() as u64,
            ending: *ending,
        };
        self.ledger.finish(end_ns);
        let summaries = report::summaries(
            &self.ledger,
            &check,
            &mut report::Surroundings {
                recognise: &mut self.recognise,
                unfollowed: &self.enrich.unfollowed,
                follow_forks: self.enrich.follow_forks,
                notes: &self.notes,
                machine_lazyfreed_bytes: self.reclaim.machine_bytes(),
                reclaim_unknown: self.reclaim.unknown_because(),
            },
        );
        for summary in &summaries {
            self.output.summary(summary).context(WRITING)?;
        }
        if summaries.len() > 1 {
            let total = crate::view::Total::of(&summaries, lost);
            self.output.total(&total).context(WRITING)?;
        }
        self.output.flush().context(WRITING)
    }

    fn apply(&mut self, event: &Event) -> anyhow::Result<()> {
        if self.stream {
            return self.apply_and_show(event);
        }
        self.ledger.apply(event);
        Ok(())
    }

    fn apply_and_show(&mut self, event: &Event) -> anyhow::Result<()> {
        match event {
            Event::Fault(fault) => {
                let Some(was) = self.ledger.apply(event) else {
                    return Ok(());
                };
                let mapping = self
                    .ledger
                    .mm_of(fault.pid)
                    .and_then(|mm| mm.mapping_at(fault.addr));
                let mut runs = Vec::new();
                self.runs
                    .push(&OneFault::new(fault, &was, mapping), &mut runs);
                self.show_runs(runs)
            }
            Event::Enter(call) => {
                let on = self.falls_on(call);
                self.entered
                    .entry(call.tid)
                    .or_default()
                    .push((Arc::clone(call), on));
                self.ledger.apply(event);
                Ok(())
            }
            Event::Leave(call) => {
                let on = self.entered_on(call).unwrap_or_else(|| self.falls_on(call));
                let old_break = self.ledger.mm_of(call.pid).and_then(Mm::brk);
                let known = self.ledger.mm_of(call.pid).is_some();
                self.ledger.apply(event);
                if !known {
                    return Ok(());
                }
                let mut runs = Vec::new();
                self.runs.end(call.tid, &mut runs);
                self.show_runs(runs)?;
                self.show(&Line::Call(CallLine {
                    call: Arc::clone(call),
                    mapping: on,
                    old_break,
                }))
            }
            Event::Fork(fork) => {
                let (at_ns, pid, parent_pid) = (fork.at_ns, fork.pid, fork.parent_pid);
                self.lifecycle(event, at_ns, pid, ProcessEvent::Fork { parent_pid })
            }
            Event::Exec(exec) => {
                let comm = exec.comm.clone();
                self.lifecycle(event, exec.at_ns, exec.pid, ProcessEvent::Exec { comm })
            }
            Event::Exit(exit) => {
                // A process can be told dead twice: by the kernel side, and by /proc.
                let known = self.ledger.knows(exit.pid);
                if known {
                    let status = exit.status;
                    return self.lifecycle(
                        event,
                        exit.at_ns,
                        exit.pid,
                        ProcessEvent::Exit { status },
                    );
                }
                Ok(())
            }
            _ => {
                self.ledger.apply(event);
                Ok(())
            }
        }
    }

    fn lifecycle(
        &mut self,
        event: &Event,
        at_ns: u64,
        pid: u32,
        process_event: ProcessEvent,
    ) -> anyhow::Result<()> {
        self.ledger.apply(event);
        let mut runs = Vec::new();
        self.runs.end(pid, &mut runs);
        self.show_runs(runs)?;
        self.show(&Line::Process(ProcessLine {
            at_ns,
            pid,
            event: process_event,
        }))
    }

    /// The mapping at the address that the call names, as it is now.
    fn falls_on(&self, call: &Call) -> Option<Mapping> {
        let addr = call.op.addr()?;
        let whose = match call.op {
            Op::ProcessMadvise { target_pid, .. } => target_pid?,
            _ => call.pid,
        };
        self.ledger.mm_of(whose)?.mapping_at(addr).cloned()
    }

    /// What the call fell on when it entered, if it was seen to enter.
    fn entered_on(&mut self, call: &Arc<Call>) -> Option<Option<Mapping>> {
        let calls = self.entered.get_mut(&call.tid)?;
        let at = calls.iter().position(|(c, _)| Arc::ptr_eq(c, call))?;
        let (_, on) = calls.swap_remove(at);
        if calls.is_empty() {
            self.entered.remove(&call.tid);
        }
        Some(on)
    }

    /// Processes whose end the kernel side could not tell us.
    fn note_the_dead(&mut self) {
        for pid in self.ledger.live_pids() {
            let (dead, start_ticks) = match proc::stat::read(pid) {
                Ok(stat) => (stat.is_dead(), Some(stat.start_ticks)),
                Err(error) => (proc::is_gone(&error), None),
            };
            let reused = match (self.born.get(&pid), start_ticks) {
                (Some(born), Some(now)) => *born != now,
                _ => false,
            };
            if dead || reused {
                // Its own record, if there is one, is in the ring already and comes first.
                self.order.push(Event::Exit(Exit {
                    at_ns: clock::now_ns(),
                    pid,
                    status: None,
                }));
            }
        }
    }

    fn show_runs(&mut self, runs: Vec<FaultRun>) -> anyhow::Result<()> {
        for run in runs {
            self.show(&Line::Faults(run))?;
        }
        Ok(())
    }

    fn show(&mut self, line: &Line) -> anyhow::Result<()> {
        if self.filter.shows(line) {
            self.output.line(line).context(WRITING)?;
        }
        Ok(())
    }
}

const WRITING: &str = "cannot write the output";

fn status(mm: &Mm, lost: Lost, meters: &mut HashMap<(u32, u32), Meter>) -> Status {
    let at_ns = lost.at_ns;
    let meter = meters
        .entry((mm.pid, mm.image))
        .or_insert_with(|| Meter::new(mm.start_ns));
    // Where nothing can be lazily free nobody looks, and nobody needs to.
    let (lazyfree_bytes, effective_rss_bytes, looked_ns) =
        if lost.calls > 0 || !mm.nothing_is_lazy() {
            let looked_ns = mm.rss.last_rollup.map(|rollup| rollup.at_ns);
            (mm.rss.lazyfree_bytes(), mm.rss.effective_bytes(), looked_ns)
        } else {
            let read_ns = mm.rss.last_bytes.and(mm.rss.last_at_ns);
            (read_ns.map(|_| 0), mm.rss.last_bytes, read_ns)
        };
    Status {
        at_ns,
        pid: mm.pid,
        comm: mm.comm.clone(),
        rss_bytes: mm.rss.last_bytes,
        lazyfree_bytes,
        lazyfree_age_ns: looked_ns.map(|then| at_ns.saturating_sub(then)),
        effective_rss_bytes,
        sample_cost_ns: mm.rss.last_rollup.map(|rollup| rollup.cost_ns),
        rates: meter.rates(at_ns, &mm.totals),
        totals: mm.totals.clone(),
        lost,
    }
}
