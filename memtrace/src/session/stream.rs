//! The live stream: what each event was, as lines.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use crate::ledger::event::{Call, Event, Mapping, Op};
use crate::ledger::{Ledger, Mm, Stretch};
use crate::output::Output;
use crate::proc;
use crate::view::filter::{Filter, Kind};
use crate::view::runs::Runs;
use crate::view::{CallLine, FaultRun, Line, ProcessEvent, ProcessLine};

/// A call on its way, and the mapping that it fell on.
type Entered = (Arc<Call>, Option<Mapping>);

#[derive(Debug)]
pub struct Stream {
    filter: Filter,
    runs: Runs,
    /// Runs that have ended and are not shown yet.
    ended: Vec<FaultRun>,
    /// Calls that entered and have not left, with what they fell on: it may be gone at their exit.
    entered: HashMap<u32, Vec<Entered>>,
}

impl Stream {
    pub fn new(filter: Filter) -> Self {
        Self {
            filter,
            runs: Runs::new(proc::page_bytes()),
            ended: Vec::new(),
            entered: HashMap::new(),
        }
    }

    /// Applies an event to the ledger and shows what it was.
    pub fn apply(
        &mut self,
        ledger: &mut Ledger,
        event: &Event,
        output: &mut dyn Output,
    ) -> io::Result<()> {
        match event {
            Event::Faults(batch) if self.filter.kinds.contains(Kind::Fault) => {
                let Self { runs, ended, .. } = self;
                let mut tell = |faults: &Stretch<'_>| runs.push(faults, ended);
                ledger.faults(batch, Some(&mut tell));
                self.show_ended(output)
            }
            // Of before the trace.
            Event::Enter(call) if ledger.is_older(call.pid, call.enter_ns) => Ok(()),
            Event::Leave(call) if ledger.is_older(call.pid, call.exit_ns) => Ok(()),
            Event::Enter(call) => {
                let on = falls_on(ledger, call);
                self.entered
                    .entry(call.tid)
                    .or_default()
                    .push((Arc::clone(call), on));
                ledger.apply(event);
                Ok(())
            }
            Event::Leave(call) => {
                let on = self
                    .entered_on(call)
                    .unwrap_or_else(|| falls_on(ledger, call));
                let mm = ledger.mm_of(call.pid);
                let (known, old_break) = (mm.is_some(), mm.and_then(Mm::brk));
                ledger.apply(event);
                if !known {
                    return Ok(());
                }
                self.runs.end(call.tid, &mut self.ended);
                self.show_ended(output)?;
                let line = Line::Call(CallLine {
                    call: Arc::clone(call),
                    mapping: on,
                    old_break,
                });
                self.show(&line, output)
            }
            Event::Fork(fork) => {
                ledger.apply(event);
                let parent_pid = fork.parent_pid;
                let what = ProcessEvent::Fork { parent_pid };
                self.show_process(fork.at_ns, fork.pid, what, output)
            }
            Event::Exec(exec) => {
                ledger.apply(event);
                let comm = exec.comm.clone();
                self.show_process(exec.at_ns, exec.pid, ProcessEvent::Exec { comm }, output)
            }
            // A process can be told dead twice: by the kernel side, and by /proc.
            Event::Exit(exit) if ledger.knows(exit.pid) => {
                ledger.apply(event);
                let status = exit.status;
                self.show_process(exit.at_ns, exit.pid, ProcessEvent::Exit { status }, output)
            }
            _ => {
                ledger.apply(event);
                Ok(())
            }
        }
    }

    /// Time has come this far: shows the runs that are too old to wait longer.
    pub fn advance(&mut self, now_ns: u64, output: &mut dyn Output) -> io::Result<()> {
        self.runs.advance(now_ns, &mut self.ended);
        self.show_ended(output)
    }

    /// Shows every run, from the oldest.
    pub fn finish(&mut self, output: &mut dyn Output) -> io::Result<()> {
        self.runs.flush(&mut self.ended);
        self.show_ended(output)
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

    fn show_process(
        &mut self,
        at_ns: u64,
        pid: u32,
        event: ProcessEvent,
        output: &mut dyn Output,
    ) -> io::Result<()> {
        self.runs.end(pid, &mut self.ended);
        self.show_ended(output)?;
        let line = Line::Process(ProcessLine { at_ns, pid, event });
        self.show(&line, output)
    }

    fn show_ended(&mut self, output: &mut dyn Output) -> io::Result<()> {
        for run in self.ended.drain(..) {
            let line = Line::Faults(run);
            if self.filter.shows(&line) {
                output.line(&line)?;
            }
        }
        Ok(())
    }

    /// Shows a line that the filter lets through.
    pub fn show(&self, line: &Line, output: &mut dyn Output) -> io::Result<()> {
        if self.filter.shows(line) {
            output.line(line)?;
        }
        Ok(())
    }
}

/// The mapping at the address that the call names, as it is now.
fn falls_on(ledger: &Ledger, call: &Call) -> Option<Mapping> {
    let addr = call.op.addr()?;
    let whose = match call.op {
        Op::ProcessMadvise { target_pid, .. } => target_pid?,
        _ => call.pid,
    };
    ledger.mm_of(whose)?.mapping_at(addr).cloned()
}
