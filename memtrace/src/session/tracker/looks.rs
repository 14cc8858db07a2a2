//! What the tracker looks at by itself: samples, the count of what the kernel takes, runtimes, and who lives.

use anyhow::Context as _;

use super::super::go::Go;
use super::super::sampler::{self, Who};
use super::{Tracker, WRITING};
use crate::attach::Attached;
use crate::clock;
use crate::golang::Reading;
use crate::golang::poll::Reply;
use crate::ledger::event::{Event, Exec, Exit, Sample};
use crate::proc;
use crate::say::say;
use crate::units::{Bytes, Nanos, counted};
use crate::view::MemStatsLine;

impl Tracker {
    /// Reads the RSS of one process. It shows as 0 where the first thread has ended and others
    /// live on, which means no more than that it is not known.
    pub fn sample(&mut self, pid: u32) {
        if let Ok(sizes) = proc::rss::read(pid)
            && sizes.resident_bytes > 0
        {
            self.pipeline.order.push(Event::Sample(Box::new(Sample {
                at_ns: clock::now_ns(),
                pid,
                rss_bytes: sizes.resident_bytes,
                virtual_bytes: Some(sizes.virtual_bytes),
                rollup: None,
                cgroup: None,
            })));
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
            self.pipeline.order.push(event);
        }
    }

    /// Takes a look's answer in.
    pub fn looked(&mut self, reply: sampler::Reply, kernel: &Attached) {
        if let Some(sample) = reply.sample {
            if self.verbose
                && let Some(rollup) = &sample.rollup
            {
                say(format_args!(
                    "a look at smaps_rollup of {} took {} of CPU time: {} of {} RSS lazily free",
                    sample.pid,
                    Nanos(rollup.cost_ns),
                    Bytes(rollup.lazyfree_bytes),
                    Bytes(rollup.rss_bytes),
                ));
            }
            self.sampled(sample, kernel);
        }
    }

    /// A look, and what the kernel took by then: together they tell what was written again.
    pub(super) fn sampled(&mut self, sample: Sample, kernel: &Attached) {
        if let Some(taken) = self.reclaim.taken(sample.pid, sample.at_ns, kernel) {
            self.pipeline.order.push(taken);
        }
        self.pipeline.order.push(Event::Sample(Box::new(sample)));
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
                "{} not sampled at exit, which would take too long: using the last sample",
                counted(left_out, "process")
            ));
        }
    }

    /// With `--go-pprof`: asks the first target, which is the only one, or a launched command.
    pub(super) fn ask_go(&mut self) {
        let Some(who) = self.owners().first().map(|pid| self.who(*pid)) else {
            return;
        };
        if let Some(go) = &mut self.go {
            go.ask(who);
        }
    }

    /// Takes an answer of a Go process in, and shows it.
    pub fn go_said(&mut self, reply: Reply) -> anyhow::Result<()> {
        let Some(go) = &mut self.go else {
            return Ok(());
        };
        let pid = go.pid();
        let figures = go.take(reply);
        self.show_memstats(pid, figures)
    }

    /// The last question, while the process lives.
    pub async fn ask_go_last(&mut self) -> anyhow::Result<()> {
        let Some(go) = &mut self.go else {
            return Ok(());
        };
        let pid = go.pid();
        let last = go.last().await;
        self.show_memstats(pid, last)
    }

    fn show_memstats(
        &mut self,
        pid: Option<u32>,
        figures: impl IntoIterator<Item = (u64, Reading)>,
    ) -> anyhow::Result<()> {
        for (at_ns, reading) in figures {
            let line = MemStatsLine {
                at_ns,
                pid: pid.unwrap_or(0),
                reading,
            };
            self.output.memstats(&line).context(WRITING)?;
        }
        Ok(())
    }

    /// Which image of the process that was asked came last.
    pub(super) fn image_of_go(&self) -> u32 {
        let pid = self.go.as_ref().and_then(Go::pid);
        let images = self.pipeline.ledger.mms().iter();
        images
            .filter(|mm| Some(mm.pid) == pid)
            .map(|mm| mm.image)
            .max()
            .unwrap_or(0)
    }

    pub(super) fn who(&self, pid: u32) -> Who {
        Who {
            pid,
            start_ticks: self.born.get(&pid).copied(),
        }
    }

    /// The processes that live and have an address space of their own.
    pub(super) fn owners(&self) -> Vec<u32> {
        let mut pids = self.pipeline.ledger.live_pids();
        // Whoever borrows an address space (vfork) may have left it by now, and events lag.
        pids.retain(|pid| {
            self.pipeline
                .ledger
                .mm_of(*pid)
                .is_some_and(|mm| mm.pid == *pid)
        });
        pids
    }

    /// How many processes live on, but for those that are traced for the memory that they share.
    pub(super) fn left_alive(&self) -> u64 {
        let pids = self.pipeline.ledger.live_pids();
        let left = pids.iter().filter(|pid| !self.beside.contains_key(pid));
        left.count() as u64
    }

    /// Whether an event is one of a process that is none of ours (any more). Its children are not either.
    pub(super) fn is_passed_over(&mut self, event: &Event, kernel: &mut Attached) -> bool {
        if self.passed_over.is_empty() {
            return false;
        }
        let Some(pid) = event.recorded_of() else {
            return false;
        };
        // A child of ours may have got its pid.
        if !self.passed_over.contains_key(&pid) || self.pipeline.ledger.knows(pid) {
            return false;
        }
        if let Event::Fork(fork) = event
            && fork.followed
        {
            kernel.leave(fork.pid);
            self.pass_over(fork.pid);
        }
        true
    }

    /// What must be known of an address space before it goes.
    pub(super) fn before(&mut self, event: &Event, kernel: &mut Attached) {
        let (pid, at_ns) = match event {
            Event::Exec(exec) => (exec.pid, exec.at_ns),
            Event::Exit(exit) => (exit.pid, exit.at_ns),
            _ => return,
        };
        let ledger = &self.pipeline.ledger;
        match ledger.mm_of(pid) {
            Some(mm) if mm.pid == pid => {
                self.recognise.image_ends(mm, at_ns);
                self.recognise.forget_all_but(ledger.mms());
            }
            // A vfork child works on its parent's image, which goes on, and has no summary.
            Some(_) => {
                self.enrich.unfollowed.remove(&pid);
            }
            None => {}
        }
        self.looked_for.remove(&pid);
        if matches!(event, Event::Exit(_)) {
            // The pid may become another's.
            self.born.remove(&pid);
            self.sampler.forget(pid);
        }
        if let Some(taken) = self.reclaim.image_ends(pid, at_ns, kernel) {
            self.pipeline.ledger.apply(&taken);
        }
    }

    /// Looks at a new address space; with `--exact-bytes` it is counted from its first moment that
    /// we know of.
    pub(super) fn after(&mut self, event: &Event, kernel: &mut Attached) {
        if let Event::Exec(Exec { pid, .. }) | Event::Exit(Exit { pid, .. }) = event {
            self.beside.remove(pid);
        }
        let pid = match event {
            // Its new address space faulted already, and is nobody's concern.
            Event::Exec(exec) if !exec.followed => return self.pass_over(exec.pid),
            Event::Exec(exec) => {
                if let Some(mm) = self.pipeline.ledger.mm_of(exec.pid) {
                    self.recognise.ask((mm.pid, mm.image));
                }
                exec.pid
            }
            Event::Fork(fork) if fork.followed && !fork.shares_vm => {
                if let Some(parent) = self.pipeline.ledger.mm_of(fork.parent_pid) {
                    let parent = (parent.pid, parent.image);
                    self.recognise.inherit(parent, (fork.pid, 0));
                }
                fork.pid
            }
            Event::Exit(exit) => return kernel.ended(exit.pid),
            _ => return,
        };
        if self.reclaim.is_exact()
            && let Some(mm) = self.pipeline.ledger.mm_of(pid)
        {
            for event in self.reclaim.look_after(pid, mm, kernel) {
                self.pipeline.order.push(event);
            }
        }
    }

    /// Sees to it that what the kernel takes is counted where something is lazily free, and that
    /// what was just marked is looked at.
    pub(super) fn look_after_lazy(&mut self, kernel: &mut Attached) {
        for pid in self.owners() {
            let Some(mm) = self.pipeline.ledger.mm_of(pid) else {
                continue;
            };
            for event in self.reclaim.look_after(pid, mm, kernel) {
                self.pipeline.order.push(event);
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
                self.pipeline.order.push(event);
            }
        }
    }

    /// Processes whose end the kernel side could not tell us.
    pub fn note_the_dead(&mut self) {
        for pid in self.pipeline.ledger.live_pids() {
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
                let status = self.enrich.ended(pid).flatten().filter(|_| !reused);
                self.pipeline.order.push(Event::Exit(Exit {
                    at_ns: clock::now_ns(),
                    pid,
                    status,
                }));
            }
        }
    }
}
