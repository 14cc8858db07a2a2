//! Applies events to the ledger in their order and shows what each was.

use std::collections::HashMap;
use std::io;

use anyhow::Context as _;

use super::ending::Ending;
use super::enrich::Enrich;
use super::flags::FlagReader;
use super::gctrace::{Listener, Told};
use super::go::Go;
use super::pipeline::Pipeline;
use super::reclaim::Reclaim;
use super::recognise::Recognise;
use super::returns::Returns;
use super::sampler::Sampler;
use super::{nothing_lost, report};
use crate::attach::{Attached, Counts};
use crate::clock;
use crate::config::Config;
use crate::kernel::Kernel;
use crate::kernel::caps::Caps;
use crate::ledger::Mm;
use crate::ledger::event::{Begin, Event, Fork, Lost};
use crate::ledger::rules::Rules;
use crate::output::Output;
use crate::proc;
use crate::say::say;
use crate::source::Chunk;
use crate::view::gctrace::{GcTrace, GoLine};
use crate::view::status::Meter;
use crate::view::{Header, Line, Status, Summary, Total};

mod looks;

/// The state of a run between the source and the output.
pub struct Tracker {
    pipeline: Pipeline,
    pub enrich: Enrich,
    pub flags: FlagReader,
    output: Box<dyn Output>,
    verbose: bool,
    status: bool,
    /// Before that moment nothing can have been counted, whenever a process began.
    attached_ns: u64,
    /// Of the last status, by pid and image.
    meters: HashMap<(u32, u32), Meter>,
    pub reclaim: Reclaim,
    pub sampler: Sampler,
    pub recognise: Recognise,
    /// With `--go-pprof`.
    pub go: Option<Go>,
    pub listener: Listener,
    /// Whom the listener hears, where that is clear, and what it heard, once that is all.
    listened_to: Option<u32>,
    gctrace: Option<GcTrace>,
    /// The last FREE of each process for which a look was asked.
    looked_for: HashMap<u32, u64>,
    /// What is to be said at the end of the run.
    pub notes: Vec<String>,
    /// Calls that have not ended when the run did, by process.
    unfinished: HashMap<u32, u64>,
    /// Processes whose mappings this user may not read, and why not.
    unreadable: HashMap<u32, String>,
    /// Those that share the memory of the first of a group since before tracing, and were not named;
    /// and which group it is.
    beside: HashMap<u32, u32>,
    /// Processes that shared the memory of a target when tracing began, by target.
    shared_with: HashMap<u32, Vec<u32>>,
    /// By target: why what was done to its memory may not all be known.
    doubts: HashMap<u32, String>,
    /// Processes that are traced no more, and until when records of theirs may come.
    passed_over: HashMap<u32, u64>,
    /// The start time of each process by pid, to know it from a later one with its pid.
    born: HashMap<u32, u64>,
    malformed: u64,
    /// Calls were lost since mappings were read.
    mappings_lost: bool,
    lost: Lost,
    /// An interval has ended, and its status waits for the events before it.
    status_due: bool,
}

impl Tracker {
    pub fn new(
        config: &Config,
        output: Box<dyn Output>,
        listener: Listener,
    ) -> anyhow::Result<Self> {
        let version = Kernel::running().context("uname")?.version;
        let rules = Rules::of(version.major, version.minor);
        let mut pipeline = Pipeline::new(rules, config.stream.then_some(config.filter));
        pipeline.ledger.keep_ended(config.summaries);
        Ok(Self {
            pipeline,
            enrich: Enrich::new(config.follow_forks),
            flags: FlagReader::default(),
            output,
            verbose: config.verbose > 0,
            status: config.status,
            attached_ns: 0,
            meters: HashMap::new(),
            beside: HashMap::new(),
            shared_with: HashMap::new(),
            doubts: HashMap::new(),
            passed_over: HashMap::new(),
            born: HashMap::new(),
            malformed: 0,
            mappings_lost: false,
            lost: Lost::default(),
            status_due: false,
            reclaim: Reclaim::new(config.reclaim_tracking, config.exact_bytes),
            sampler: Sampler::start()?,
            recognise: Recognise::default(),
            go: config.go_pprof.clone().map(Go::start).transpose()?,
            listener,
            listened_to: None,
            gctrace: None,
            looked_for: HashMap::new(),
            notes: Vec::new(),
            unfinished: HashMap::new(),
            unreadable: HashMap::new(),
        })
    }

    /// The programs are attached.
    pub fn attached(&mut self, at_ns: u64) {
        self.attached_ns = at_ns;
    }

    pub fn header(&mut self, header: &Header) -> anyhow::Result<()> {
        self.output.header(header).context(WRITING)?;
        self.output.flush().context(WRITING)
    }

    /// A process comes under trace. Known at once, so that nobody takes us for being without a target.
    pub fn begin(&mut self, begin: Begin) {
        self.pipeline.ledger.apply(&Event::Begin(begin));
    }

    /// A process that shares the memory of another since before tracing comes under trace: as if it
    /// had just been made.
    pub fn begin_beside(&mut self, pid: u32, of: u32, at_ns: u64, named: bool) {
        self.pipeline.ledger.apply(&Event::Fork(Fork {
            at_ns,
            parent_pid: of,
            pid,
            shares_vm: true,
            followed: true,
        }));
        self.shared_with.entry(of).or_default().push(pid);
        if !named {
            self.beside.insert(pid, of);
        }
    }

    /// What was done to the memory of a process may not all be known.
    pub fn doubt(&mut self, pid: u32, why: String) {
        self.doubts.insert(pid, why);
    }

    /// Takes no notice of what is recorded of a process until now: it is none of ours.
    pub fn pass_over(&mut self, pid: u32) {
        self.passed_over
            .insert(pid, clock::now_ns() + LAST_RECORDS_NS);
    }

    /// The only process that is traced, or the command that was launched.
    pub fn listens_to(&mut self, pid: u32) {
        self.listened_to = Some(pid);
    }

    /// Shows a line of Go's.
    pub fn told(&mut self, (at_ns, event): Told) -> anyhow::Result<()> {
        let Some(stream) = &mut self.pipeline.stream else {
            return Ok(());
        };
        let pid = self.listened_to;
        let line = Line::Go(GoLine { at_ns, pid, event });
        stream.show(&line, &mut *self.output).context(WRITING)
    }

    /// Takes the last lines of Go's in.
    pub fn end_listening(&mut self) -> anyhow::Result<()> {
        let (last, gctrace, notes) = self.listener.finish();
        for told in last {
            self.told(told)?;
        }
        self.gctrace = gctrace;
        self.notes.extend(notes);
        Ok(())
    }

    /// An event of our own making: it takes its place among the others.
    pub fn event(&mut self, event: Event) {
        self.pipeline.order.push(event);
    }

    /// A process whose death only /proc may tell is known by this.
    pub fn remember(&mut self, pid: u32, start_ticks: u64) {
        self.born.insert(pid, start_ticks);
    }

    /// The mappings of a process may not be read: told at once, since it can be helped.
    pub fn unreadable(&mut self, pid: u32, error: &io::Error) {
        let why = match Caps::effective() {
            Ok(caps) if !caps.can_read_others() => {
                "CAP_SYS_PTRACE is missing (run memtrace with sudo)".to_owned()
            }
            _ => error.to_string(),
        };
        say(format_args!(
            "the mappings and LazyFree of process {pid} can't be read: {why}; tracing goes on without them"
        ));
        self.unreadable.insert(pid, why);
    }

    /// From here on the faults in some ranges are counted apart.
    pub fn count_returns(&mut self, returns: Returns) {
        self.pipeline.returns = Some(returns);
    }

    /// What they were.
    pub fn returns(&mut self) -> Returns {
        self.pipeline.returns.take().unwrap_or_default()
    }

    /// True while anybody lives for whose sake we trace.
    pub fn any_alive(&self) -> bool {
        self.pipeline
            .ledger
            .any_alive_but(|pid| self.beside.contains_key(&pid))
    }

    /// Takes a chunk in, and applies what can have no predecessor any more.
    pub fn take(&mut self, chunk: &Chunk, kernel: &mut Attached) -> anyhow::Result<()> {
        let enrich = &mut self.enrich;
        enrich.begin_chunk();
        let whole = self.pipeline.take_in(chunk, |record, order| {
            enrich.take(record, order);
        });
        if let Err(malformed) = whole {
            say(format_args!(
                "{malformed}: the rest of the chunk is lost (a bug, please report it)"
            ));
            self.malformed += 1;
        }
        for pid in &chunk.unfinished {
            *self.unfinished.entry(*pid).or_default() += 1;
        }
        if let Some(gap) = chunk.gap {
            self.mappings_lost |= gap.calls;
            self.pipeline.order.push(Event::Gap(gap));
        }
        let complete_ns = self.enrich.complete_ns(chunk.complete_ns);
        while let Some(event) = self.pipeline.next(complete_ns) {
            if self.is_passed_over(&event, kernel) {
                continue;
            }
            self.before(&event, kernel);
            self.apply(&event)?;
            self.after(&event, kernel);
        }
        for pid in self.pipeline.ledger.take_unsure() {
            self.read_mappings(pid, kernel);
        }
        self.passed_over
            .retain(|_, until_ns| *until_ns > complete_ns);
        self.look_after_lazy(kernel);
        if complete_ns > self.lost.at_ns {
            self.show_status_due()?;
        }
        Ok(())
    }

    /// The end of an interval: samples, checks who lives, and lets the status follow as soon as
    /// everything that happened before it is applied.
    pub fn interval(&mut self, lost: Lost, kernel: &Attached) -> anyhow::Result<()> {
        self.show_status_due()?;
        self.sample_rss();
        for event in self.flags.take() {
            self.pipeline.order.push(event);
        }
        self.reclaim.read();
        for event in self.reclaim.all(clock::now_ns(), kernel) {
            self.pipeline.order.push(event);
        }
        let mut images = Vec::new();
        for pid in self.owners() {
            let Some(mm) = self.pipeline.ledger.mm_of(pid) else {
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
        self.ask_go();
        self.note_the_dead();
        if std::mem::take(&mut self.mappings_lost) {
            for pid in self.owners() {
                self.read_mappings(pid, kernel);
            }
        }
        // Faults that were taken from a batch which was then lost are taken off again.
        let more = lost.faults > self.lost.faults
            || lost.calls > self.lost.calls
            || lost.lifecycle > self.lost.lifecycle
            || lost.populated > self.lost.populated;
        self.lost = lost;
        self.pipeline.ledger.apply(&Event::Lost(lost));
        if more {
            self.output.lost(&lost).context(WRITING)?;
        }
        self.status_due = true;
        Ok(())
    }

    /// Reads what a process has mapped once more, since calls that changed it were lost or failed
    /// half-way.
    fn read_mappings(&mut self, pid: u32, kernel: &Attached) {
        // Stamped before the read: what changes while it goes on is then applied on top of it.
        let at_ns = clock::now_ns();
        kernel.end_epoch();
        if let Ok(mut maps) = proc::maps::read(pid) {
            self.flags.add_to(&mut maps, pid);
            let mappings = maps.into_event(pid, at_ns, false);
            self.pipeline.order.push(Event::Mappings(mappings));
        }
    }

    /// Shows the status of the last interval, if it is not shown yet.
    fn show_status_due(&mut self) -> anyhow::Result<()> {
        if !std::mem::take(&mut self.status_due) {
            return Ok(());
        }
        let lost = self.lost;
        if let Some(stream) = &mut self.pipeline.stream {
            stream
                .advance(lost.at_ns, &mut *self.output)
                .context(WRITING)?;
        }
        // Those that ended need no rates any more.
        self.meters.retain(|(pid, image), _| {
            self.pipeline
                .ledger
                .mm_of(*pid)
                .is_some_and(|mm| (mm.pid, mm.image) == (*pid, *image))
        });
        if self.status {
            let statuses: Vec<_> = self
                .pipeline
                .ledger
                .mms()
                .iter()
                .filter(|mm| mm.end_ns.is_none())
                .map(|mm| status(mm, lost, self.attached_ns, &mut self.meters))
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
            self.pipeline.ledger.apply(&event);
        }
        if let Some(stream) = &mut self.pipeline.stream {
            stream.finish(&mut *self.output).context(WRITING)?;
        }
        self.status_due = false;
        let lost = report::lost(end_ns, counts);
        self.pipeline.ledger.apply(&Event::Lost(lost));
        if !nothing_lost(&lost) {
            self.output.lost(&lost).context(WRITING)?;
        }
        let check = report::Check {
            counts: *counts,
            delivered: self.pipeline.delivered,
            late: self.pipeline.order.late(),
            malformed: self.malformed,
            strays: self.pipeline.ledger.strays(),
            alive: self.left_alive(),
            ending: *ending,
        };
        self.pipeline.ledger.finish(end_ns);
        let last_image = self.image_of_go();
        let mut summaries = report::summaries(
            &self.pipeline.ledger,
            &check,
            &mut report::Surroundings {
                recognise: &mut self.recognise,
                unfinished: &self.unfinished,
                unreadable: &self.unreadable,
                unfollowed: &self.enrich.unfollowed,
                unfollowed_sharers: &self.enrich.unfollowed_sharers,
                shared_with: &self.shared_with,
                doubts: &self.doubts,
                follow_forks: self.enrich.follow_forks,
                notes: &self.notes,
                machine_lazyfreed_bytes: self.reclaim.machine_bytes(),
                reclaim_unknown: self.reclaim.unknown_because(),
                last_image,
                go: self
                    .go
                    .as_ref()
                    .and_then(|go| Some((go.pid()?, go.report(end_ns)))),
            },
        );
        if let (Some(gctrace), Some(pid)) = (self.gctrace.take(), self.listened_to)
            && let Some(summary) = report::gos_own(&mut summaries, pid)
        {
            summary.gctrace = Some(gctrace);
        }
        self.show_summaries(&summaries, &check, lost)
    }

    /// Shows the summaries, what has none, and the sum.
    fn show_summaries(
        &mut self,
        summaries: &[Summary],
        check: &report::Check,
        lost: Lost,
    ) -> anyhow::Result<()> {
        let ledger = &self.pipeline.ledger;
        let (pages, commands) = report::commands(summaries, ledger, check);
        let output = &mut self.output;
        for (summary, page) in summaries.iter().zip(pages) {
            let shown = if page {
                output.summary(summary)
            } else {
                output.summary_in_brief(summary)
            };
            shown.context(WRITING)?;
        }
        if commands.is_needed() {
            output.commands(&commands).context(WRITING)?;
        }
        if summaries.len() as u64 + commands.images_folded() > 1 {
            let total = Total::of(summaries, &commands.folded, ledger.owners(), lost);
            output.total(&total).context(WRITING)?;
        }
        output.flush().context(WRITING)
    }

    fn apply(&mut self, event: &Event) -> anyhow::Result<()> {
        self.pipeline
            .apply(event, &mut *self.output)
            .context(WRITING)
    }
}

/// A program that runs while a process is left still records what it is about, and it may take its time
/// where a hypervisor takes its CPU.
const LAST_RECORDS_NS: u64 = 1_000_000_000;

const WRITING: &str = "cannot write the output";

fn status(
    mm: &Mm,
    lost: Lost,
    attached_ns: u64,
    meters: &mut HashMap<(u32, u32), Meter>,
) -> Status {
    let at_ns = lost.at_ns;
    let meter = meters
        .entry((mm.pid, mm.image))
        .or_insert_with(|| Meter::new(mm.start_ns.max(attached_ns)));
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
