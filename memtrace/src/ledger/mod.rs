//! The ledger: what memory was given back, by which call, and which faults brought it back.
//!
//! A pure state machine: [`Ledger::apply`] takes one [`Event`] after the other, and everything it
//! knows came that way, so that the same events always make the same totals. There is one
//! [`Mm`] for each address space, since that is what pages belong to: a vfork child works on its
//! parent's, an exec begins a new one.

pub mod advice;
mod applied;
mod block;
mod cells;
mod classify;
pub mod event;
mod fault_totals;
pub mod faults;
pub mod folded;
mod fork;
mod ground;
pub mod lazy;
mod mapping;
mod mm;
mod page_map;
pub mod pages;
mod ranges;
mod reach;
pub mod rules;
pub mod space;
mod states;
pub mod stretch;
pub mod totals;
pub mod trend;
mod vma;
mod word;

use std::collections::HashMap;
use std::sync::Arc;

pub use classify::Classified;
use event::{Begin, Call, Event, Exec, Exit, FaultBatch, Fork, Gap, Lost, Op};
use folded::{Folded, Folding};
pub use mm::Mm;
use pages::Page;
use rules::Rules;
pub use stretch::Stretch;

/// Which address space a process works on.
#[derive(Clone, Copy, Debug)]
struct Process {
    /// Index into the ledger's `mms`; None before the first exec of a process that we launch.
    mm: Option<usize>,
    /// How many times it has exec'd.
    image: u32,
    /// When its trace began, where it ran before: what is older counts as nothing.
    begun_ns: u64,
    /// It was named, or launched: its last address space is kept whole, whatever its size.
    named: bool,
    /// It has had an address space of its own.
    counted: bool,
}

impl Process {
    fn is_older(&self, at_ns: u64) -> bool {
        at_ns < self.begun_ns
    }
}

#[derive(Debug, Default)]
pub struct Ledger {
    processes: HashMap<u32, Process>,
    mms: Vec<Mm>,
    /// How many address spaces there were so far, and how many processes that had one of their own.
    serials: u64,
    owners: u64,
    folding: Folding,
    lost: Lost,
    /// What the traced kernel does.
    rules: Rules,
    /// The gap that events are still in.
    gap: Option<Gap>,
    /// What was recorded of processes that the ledger was never told of, or after their end.
    strays: u64,
}

impl Ledger {
    /// The ledger of a kernel that follows these rules.
    pub fn of(rules: Rules) -> Self {
        Self {
            rules,
            ..Self::default()
        }
    }

    /// Sets how many address spaces that have ended are kept whole; the smallest of those beyond are
    /// summed up by name.
    pub fn keep_ended(&mut self, most: usize) {
        self.folding.keep(most);
    }

    /// Takes one event in.
    ///
    /// Events must come in the order of their times, as far as that is known.
    pub fn apply(&mut self, event: &Event) {
        // These two are told at once, ahead of what is still held back.
        if !matches!(event, Event::Lost(_) | Event::Begin(_)) {
            self.end_gap(event.at_ns());
        }
        match event {
            Event::Begin(begin) => self.begin(begin),
            Event::Fork(fork) => self.fork(fork),
            Event::Exec(exec) => self.exec(exec),
            Event::Exit(exit) => self.exit(exit),
            Event::Lost(lost) => self.lost = *lost,
            Event::Gap(gap) => self.begin_gap(gap),
            Event::Faults(batch) => self.faults(batch, None),
            // Where it is a stray, its leave says so.
            Event::Enter(call) if !self.knows(call.pid) => {}
            Event::Enter(call) => {
                if self.is_older(call.pid, call.enter_ns) {
                    return;
                }
                if let Some(mm) = self.mm_of_call(call) {
                    mm.enter(call);
                }
            }
            Event::Leave(call) if !self.knows(call.pid) => self.strays += 1,
            Event::Leave(call) if self.is_older(call.pid, call.enter_ns) => {
                if !self.is_older(call.pid, call.exit_ns)
                    && let Some(mm) = self.mm_of_call(call)
                {
                    mm.leave_late(call);
                }
            }
            Event::Leave(call) if call.is_untargeted() => {
                if let Some(mm) = self.mm_mut(call.pid) {
                    mm.totals.untargeted_calls += 1;
                }
            }
            Event::Leave(call) => {
                if let Some(mm) = self.mm_of_call(call) {
                    mm.leave(call);
                }
            }
            Event::Executable(executable) => {
                if let Some(mm) = self.mm_mut(executable.pid) {
                    mm.exe = Some(Arc::clone(&executable.path));
                }
            }
            Event::Mappings(mappings) => {
                if let Some(mm) = self.mm_mut(mappings.pid) {
                    mm.mappings(mappings);
                }
            }
            Event::Flags(flags) => {
                if let Some(mm) = self.mm_mut(flags.pid) {
                    mm.space.learn_flags(&flags.list);
                }
            }
            Event::Folios(folios) => {
                if let Some(mm) = self.mm_mut(folios.pid) {
                    mm.folios(folios);
                }
            }
            Event::Populated(populated) => {
                if let Some(mm) = self.mm_recorded(populated.pid, populated.at_ns, 1) {
                    mm.populated(populated);
                }
            }
            Event::Measuring(measuring) => {
                if let Some(mm) = self.mm_mut(measuring.pid) {
                    mm.measure(measuring.at_ns);
                }
            }
            Event::Taken(taken) => {
                if let Some(mm) = self.mm_mut(taken.pid) {
                    mm.taken(taken);
                }
            }
            Event::Sample(sample) => {
                if let Some(mm) = self.mm_mut(sample.pid) {
                    mm.sample(sample);
                }
            }
        }
    }

    /// Takes faults in, and tells what they were if somebody wants to know.
    pub fn faults(&mut self, batch: &FaultBatch, tell: Option<stretch::Tell<'_>>) {
        self.end_gap(batch.at_ns);
        let gap = self.gap;
        if let Some(mm) = self.mm_recorded(batch.pid, batch.at_ns, batch.len() as u64) {
            mm.faults(batch, gap, tell);
        }
    }

    /// True where the trace of the process had not begun by then.
    pub fn is_older(&self, pid: u32, at_ns: u64) -> bool {
        let process = self.processes.get(&pid);
        process.is_some_and(|process| process.is_older(at_ns))
    }

    /// Ends the trace: what still lives ends here.
    pub fn finish(&mut self, at_ns: u64) {
        for mm in &mut self.mms {
            mm.end_ns.get_or_insert(at_ns);
        }
        self.processes.clear();
        self.mms.sort_by_key(|mm| mm.serial);
    }

    /// Every address space that is kept whole; in the order in which they came, once the trace has ended.
    pub fn mms(&self) -> &[Mm] {
        &self.mms
    }

    /// What the others came to, by name; the name is None for all beyond a number of names.
    pub fn folded(&self) -> impl Iterator<Item = (Option<&str>, &Folded)> {
        self.folding.sums()
    }

    /// Processes that had an address space of their own; one that got the pid of an earlier one is another.
    pub fn owners(&self) -> u64 {
        self.owners
    }

    /// The address space that a process works on now.
    pub fn mm_of(&self, pid: u32) -> Option<&Mm> {
        let process = self.processes.get(&pid)?;
        self.mms.get(process.mm?)
    }

    /// True for a process that lives, as far as the ledger was told.
    pub fn knows(&self, pid: u32) -> bool {
        self.processes.contains_key(&pid)
    }

    /// The processes whose mappings must be read again: a call failed that may have changed them.
    pub fn take_unsure(&mut self) -> Vec<u32> {
        let mut unsure = Vec::new();
        for (pid, process) in &self.processes {
            let mm = process.mm.and_then(|mm| self.mms.get_mut(mm));
            if let Some(mm) = mm
                && std::mem::take(&mut mm.mappings_unsure)
            {
                unsure.push(*pid);
            }
        }
        unsure
    }

    /// The processes that live, and are past their first exec.
    pub fn live_pids(&self) -> Vec<u32> {
        let mut pids: Vec<u32> = self
            .processes
            .iter()
            .filter(|(_, process)| process.mm.is_some())
            .map(|(pid, _)| *pid)
            .collect();
        pids.sort_unstable();
        pids
    }

    /// True while any process lives, those before their first exec included, but for those of which
    /// `other` is true.
    pub fn any_alive_but(&self, other: impl Fn(u32) -> bool) -> bool {
        self.processes.keys().any(|pid| !other(*pid))
    }

    pub fn lost(&self) -> Lost {
        self.lost
    }

    /// Calls, faults, forks and execs of processes that the ledger was never told of, or after their end.
    pub fn strays(&self) -> u64 {
        self.strays
    }

    fn begin_gap(&mut self, gap: &Gap) {
        // Of what was not touched before nothing was given back.
        self.doubt(gap, Page::Doubt { given: None });
        self.gap = Some(self.gap.map_or(*gap, |open| open.with(*gap)));
    }

    /// What was learned inside the gap may have been undone by what was lost after it.
    fn end_gap(&mut self, now_ns: u64) {
        if let Some(gap) = self.gap.take_if(|gap| gap.until_ns <= now_ns) {
            self.doubt(&gap, Page::IN_DOUBT);
        }
    }

    fn doubt(&mut self, gap: &Gap, untouched: Page) {
        for mm in self.mms.iter_mut().filter(|mm| !mm.ended()) {
            mm.doubt(gap, untouched);
        }
    }

    /// The address space that a process works on. What we look at by ourselves may be told when the
    /// process has ended.
    fn mm_mut(&mut self, pid: u32) -> Option<&mut Mm> {
        let process = self.processes.get(&pid)?;
        self.mms.get_mut(process.mm?)
    }

    /// As [`Ledger::mm_mut`], for what the process was recorded doing at that time: so many events. None
    /// for what is older than its trace.
    fn mm_recorded(&mut self, pid: u32, at_ns: u64, events: u64) -> Option<&mut Mm> {
        let Some(process) = self.processes.get(&pid) else {
            self.strays += events;
            return None;
        };
        if process.is_older(at_ns) {
            return None;
        }
        self.mms.get_mut(process.mm?)
    }

    /// The address space that a call changes: the caller's, but for a process_madvise on another.
    fn mm_of_call(&mut self, call: &Call) -> Option<&mut Mm> {
        if call.is_untargeted() {
            return None;
        }
        if let Op::ProcessMadvise {
            target_pid: Some(target),
            ..
        } = call.op
            && target != call.pid
        {
            return self.mm_mut(target);
        }
        self.mm_mut(call.pid)
    }

    fn begin(&mut self, begin: &Begin) {
        self.forget(begin.pid, begin.at_ns);
        let mut process = Process {
            mm: None,
            image: 0,
            named: true,
            counted: false,
            begun_ns: begin.at_ns,
        };
        if !begin.before_exec {
            let mm = Mm::new(begin.pid, 0, begin.comm.clone(), begin.at_ns);
            self.give(&mut process, mm);
        }
        self.processes.insert(begin.pid, process);
    }

    fn fork(&mut self, fork: &Fork) {
        if !self.processes.contains_key(&fork.parent_pid) {
            self.strays += 1;
            return;
        }
        // First: what is forgotten may move others.
        if fork.pid != fork.parent_pid {
            self.forget(fork.pid, fork.at_ns);
        }
        let parent = self.processes[&fork.parent_pid];
        if !fork.followed {
            return;
        }
        let mut process = Process {
            mm: parent.mm,
            image: 0,
            named: false,
            counted: false,
            begun_ns: if fork.shares_vm { parent.begun_ns } else { 0 },
        };
        if let Some(mm) = parent.mm.filter(|_| !fork.shares_vm) {
            let mut child = self.mms[mm].fork(fork.pid, fork.at_ns);
            // Before the mappings of its parent were read.
            child.mappings_unsure |= fork.at_ns < parent.begun_ns;
            self.give(&mut process, child);
        }
        self.processes.insert(fork.pid, process);
    }

    fn exec(&mut self, exec: &Exec) {
        let Some(before) = self.processes.remove(&exec.pid) else {
            self.strays += 1;
            return;
        };
        if exec.followed {
            let mut process = Process {
                // A process that we launched begins with its first exec.
                image: before.image + u32::from(before.mm.is_some()),
                begun_ns: 0,
                ..before
            };
            let mm = Mm::fresh(exec.pid, process.image, exec.comm.clone(), exec.at_ns);
            self.give(&mut process, mm);
            self.processes.insert(exec.pid, process);
        }
        if let Some(mm) = before.mm
            && self.mms[mm].pid == exec.pid
        {
            self.mms[mm].named = false;
        }
        self.disown(before.mm, exec.at_ns);
    }

    fn exit(&mut self, exit: &Exit) {
        if let Some(process) = self.processes.remove(&exit.pid) {
            if let Some(mm) = process.mm.and_then(|index| self.mms.get_mut(index))
                && mm.pid == exit.pid
            {
                // Whoever shares it may go on, and its end is not this one's.
                mm.exit = exit.status;
            }
            self.disown(process.mm, exit.at_ns);
        }
    }

    /// A process whose end nobody saw, and whose pid is another's now.
    fn forget(&mut self, pid: u32, at_ns: u64) {
        if let Some(before) = self.processes.remove(&pid) {
            self.disown(before.mm, at_ns);
        }
    }

    /// Gives a process an address space of its own.
    fn give(&mut self, process: &mut Process, mut mm: Mm) {
        self.serials += 1;
        self.owners += u64::from(!process.counted);
        mm.serial = self.serials;
        mm.rules = self.rules;
        mm.named = process.named;
        process.counted = true;
        process.mm = Some(self.mms.len());
        self.mms.push(mm);
    }

    /// Ends an address space if nobody works on it any more.
    fn disown(&mut self, mm: Option<usize>, at_ns: u64) {
        let Some(index) = mm else { return };
        if self.processes.values().any(|p| p.mm == Some(index)) {
            return;
        }
        let mm = &mut self.mms[index];
        let exit = mm.exit;
        mm.end(at_ns, exit);
        if !mm.named {
            self.folding.ended(mm, index);
        }
        while let Some(index) = self.folding.surplus() {
            self.fold(index);
        }
    }

    /// Sums one up that has ended; the last of all takes its place.
    fn fold(&mut self, index: usize) {
        let mm = self.mms.swap_remove(index);
        self.folding.fold(&mm);
        let Some(moved) = self.mms.get(index) else {
            return;
        };
        self.folding.moved(moved, index);
        let from = self.mms.len();
        for process in self.processes.values_mut() {
            if process.mm == Some(from) {
                process.mm = Some(index);
            }
        }
    }
}

#[cfg(test)]
mod tests;
