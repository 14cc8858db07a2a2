//! Applies events to the ledger in their order and shows what each was.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::Context as _;

use super::ending::Ending;
use super::enrich::Enrich;
use super::reclaim::Reclaim;
use super::recognise::Recognise;
use super::sampler::Sampler;
use super::{nothing_lost, report};
use crate::attach::{Attached, Counts};
use crate::clock;
use crate::config::Config;
use crate::decode::{Delivered, decode};
use crate::ledger::event::{Begin, Call, Event, Lost, Mapping, Op};
use crate::ledger::{Ledger, Mm, Stretch};
use crate::order::Reorder;
use crate::output::Output;
use crate::proc;
use crate::source::Chunk;
use crate::view::filter::Filter;
use crate::view::runs::Runs;
use crate::view::status::Meter;
use crate::view::{CallLine, FaultRun, Header, Line, ProcessEvent, ProcessLine, Status};

mod looks;

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
            Event::Faults(batch) => {
                let mut ended = Vec::new();
                let runs = &mut self.runs;
                let mut tell = |faults: &Stretch<'_>| runs.push(faults, &mut ended);
                self.ledger.faults(batch, Some(&mut tell));
                self.show_runs(ended)
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
