//! Plays a program: step by step, with the kernel's truth taken between two steps.

use std::rc::Rc;

use super::generate::Generator;
use super::mode::Mode;
use super::model::Process;
use super::places::Places;
use super::protocol::{Op, Request};
use super::session::{Programs, Session, Trouble};
use super::settings::Settings;
use super::snapshot::Snapshot;
use super::step::Step;

/// Which steps to play.
#[derive(Clone, Copy, Debug)]
pub enum Plan<'a> {
    Random { seed: u64 },
    Fixed(&'a [Step]),
}

/// A program that was played, and what memtrace wrote of it.
pub struct Played {
    pub steps: Vec<Step>,
    /// Every process, ended, with what it ought to have counted.
    pub processes: Vec<Process>,
    pub output: Rc<str>,
}

/// The processes of a run: those that live, the one that acts last.
struct Stage<'a> {
    session: Session,
    programs: &'a Programs,
    mode: Mode,
    alive: Vec<Process>,
    ended: Vec<Process>,
}

/// Plays programs under one memtrace where it launches them, one after the other. Nothing here judges.
///
/// Attached to, a program is the only one of its run.
pub fn play(programs: &Programs, mode: &Mode, plans: &[Plan]) -> Result<Vec<Played>, Trouble> {
    let settings = Settings::of(mode.mix.sizes)
        .map_err(|error| format!("the settings of huge pages: {error}"))?;
    let session = Session::start(programs, mode.way, !mode.mix.threads)?;
    let mut stage = Stage {
        session,
        programs,
        mode: *mode,
        alive: Vec::new(),
        ended: Vec::new(),
    };
    let mut played = Vec::new();
    for plan in plans {
        let steps = stage.play(plan)?;
        played.push((steps, std::mem::take(&mut stage.ended)));
        if mode.way.attach {
            break;
        }
    }
    let output: Rc<str> = stage.session.finish()?.into();
    if !settings.still_hold() {
        return Err("somebody else has changed the settings of huge pages".to_owned());
    }
    let whole = |(steps, processes)| Played {
        steps,
        processes,
        output: Rc::clone(&output),
    };
    Ok(played.into_iter().map(whole).collect())
}

impl Stage<'_> {
    /// Plays one program to its end: its steps.
    fn play(&mut self, plan: &Plan) -> Result<Vec<Step>, Trouble> {
        self.begin()?;
        let steps = match plan {
            Plan::Fixed(steps) => {
                for step in *steps {
                    if self.takes(step) {
                        self.step(step)?;
                    }
                }
                steps.to_vec()
            }
            Plan::Random { seed } => self.play_random(*seed)?,
        };
        while self.alive.len() > 1 {
            self.step(&Step::Exit)?;
        }
        self.end()?;
        Ok(steps)
    }

    fn play_random(&mut self, seed: u64) -> Result<Vec<Step>, Trouble> {
        let mix = self.mode.mix;
        let mut generator = Generator::new(seed, mix);
        let mut attached = !self.mode.way.attach;
        let mut steps = Vec::new();
        for number in 0..mix.steps {
            let alone = self.alive.len() == 1;
            let step = match (attached, number >= mix.steps / 5, alone) {
                (false, true, true) => Step::Attach,
                (false, true, false) => Step::Exit,
                _ => {
                    let process = self.alive.last().expect("one is alive");
                    generator.next(process, self.alive.len() - 1)
                }
            };
            attached |= step == Step::Attach;
            steps.push(step.clone());
            if self.takes(&step) {
                self.step(&step)?;
            }
        }
        Ok(steps)
    }

    /// The process that the steps are about: a child of the program's first, so that what that one did before
    /// is in another summary; where memtrace attaches, the first.
    fn begin(&mut self) -> Result<(), Trouble> {
        let op = if self.mode.way.attach {
            Op::Call
        } else {
            Op::Fork
        };
        let number = libc::SYS_getpid as u64;
        let (head, _) = self.session.ask(&Request::new(op, &[number]))?;
        let places = Places::new(head.brk);
        let mut process = Process::new(head.pid as u32, places, !self.mode.way.attach);
        process.folio = self.mode.mix.sizes.most_pages();
        process.brk = head.brk - places.heap.min(head.brk);
        process.now = look(&process)?;
        self.alive.push(process);
        Ok(())
    }

    /// Whether a step can be done now; after others were left out, some can't.
    fn takes(&self, step: &Step) -> bool {
        match step {
            Step::Exit => self.alive.len() > 1,
            Step::Attach => self.mode.way.attach && self.alive.len() == 1,
            _ => true,
        }
    }

    fn step(&mut self, step: &Step) -> Result<(), Trouble> {
        let current = self.alive.last_mut().expect("one is alive");
        match step {
            Step::Attach => {
                current.attach();
                let pid = current.pid;
                return self.session.attach(self.programs, self.mode.way, pid);
            }
            Step::Mlock { .. } => current.flags_matter = true,
            Step::Madvise { advice, .. } | Step::ProcessMadvise { advice, .. }
                if [libc::MADV_WIPEONFORK, libc::MADV_KEEPONFORK].contains(advice) =>
            {
                current.flags_matter = true;
            }
            _ => {}
        }
        let (head, entries) = self.session.ask(&step.request(current.places))?;
        let pid = head.pid as u32;
        match step {
            Step::Fork => {
                let mut child = current.child(pid, Snapshot::empty());
                let now = look(&child)?;
                child = current.child(pid, now);
                self.alive.push(child);
                return Ok(());
            }
            Step::Exit => {
                let mut ended = self.alive.pop().expect("one is alive");
                ended.end();
                self.ended.push(ended);
                let parent = self.alive.last_mut().expect("only a child is told to exit");
                parent.now = look(parent)?;
                return expect_pid(parent, pid);
            }
            _ => expect_pid(current, pid)?,
        }
        let after = look(current)?;
        current.apply(step, &head, &entries, after);
        Ok(())
    }

    /// The last process ends: of a program that was launched, its first waits for it.
    fn end(&mut self) -> Result<(), Trouble> {
        let mut last = self.alive.pop().expect("one is alive");
        last.end();
        self.ended.push(last);
        if !self.mode.way.attach {
            self.session.ask(&Request::new(Op::Exit, &[]))?;
        }
        Ok(())
    }
}

fn look(process: &Process) -> Result<Snapshot, Trouble> {
    Snapshot::take(process.pid, process.places, process.flags_matter)
        .map_err(|error| format!("reading /proc/{}: {error}", process.pid))
}

fn expect_pid(process: &Process, pid: u32) -> Result<(), Trouble> {
    if process.pid == pid {
        return Ok(());
    }
    Err(format!("process {} has died, {pid} answers", process.pid))
}
