//! Where an advice takes effect, and what it leaves there.

use std::ops::Range;

use super::account::Key;
use super::pages::{Kind, PAGE, Pages, State};
use crate::ledger::advice::Advice as A;

const ENOMEM: i64 = -(libc::ENOMEM as i64);
const EINVAL: i64 = -(libc::EINVAL as i64);
const EACCES: i64 = -(libc::EACCES as i64);

/// What an advice does to a range (mm/madvise.c:madvise_walk_vmas).
#[derive(Default)]
pub struct Effect {
    pub done: Vec<usize>,
    /// Nothing tells where of these.
    pub unknown: Vec<usize>,
    pub ret: i64,
}

impl Effect {
    pub fn unknown(range: Range<usize>, ret: i64) -> Self {
        Self {
            done: Vec::new(),
            unknown: range.collect(),
            ret,
        }
    }
}

impl Pages {
    pub fn effect(&self, advice: A, range: Range<usize>) -> Effect {
        let mapped = self.mapped(range.clone());
        let whole = mapped.len() == range.len();
        let kind = |n: &usize| self.cells[*n].map(|cell| cell.vma.kind);
        let not_anon = mapped.iter().find(|n| kind(n) != Some(Kind::Anon));
        let first = |wanted: Kind| mapped.iter().copied().find(|n| kind(n) == Some(wanted));
        let up_to = |stop, ret| Effect {
            done: self.mapped(range.start..stop),
            unknown: Vec::new(),
            ret,
        };
        let refused = |ret| {
            if range.len() == 1 && ret == EINVAL {
                return Effect {
                    ret,
                    ..Effect::default()
                };
            }
            Effect::unknown(range.clone(), ret)
        };
        match (advice, not_anon) {
            (A::FREE | A::WIPEONFORK, Some(&stop)) => up_to(stop, EINVAL),
            // Kernels differ in what they refuse here.
            (A::GUARD_INSTALL, Some(_)) => refused(EINVAL),
            (A::REMOVE, _) if first(Kind::Anon).is_some() || first(Kind::File).is_some() => {
                match (first(Kind::Anon), first(Kind::File)) {
                    (Some(anon), file) if file.is_none_or(|file| anon < file) => {
                        up_to(anon, EINVAL)
                    }
                    (_, file) => up_to(file.unwrap_or(range.start), EACCES),
                }
            }
            (A::KEEPONFORK, Some(_)) => refused(EINVAL),
            (A::POPULATE_READ | A::POPULATE_WRITE, ..) => Effect {
                done: range.take_while(|n| self.is_mapped(*n)).collect(),
                unknown: Vec::new(),
                ret: if whole { 0 } else { ENOMEM },
            },
            _ => Effect {
                done: mapped,
                unknown: Vec::new(),
                ret: if whole { 0 } else { ENOMEM },
            },
        }
    }

    pub fn take_effect(&mut self, advice: A, effect: &Effect, at_ns: u64) {
        let gives_back = advice.give_back().is_some();
        let sum = self.account.sum(Key::Advice(advice));
        sum.requested += effect.done.len() as u64 * PAGE;
        sum.doubtful |= advice == A::FREE;
        sum.unknown |= gives_back && !effect.unknown.is_empty();
        for n in effect.done.iter().copied() {
            match advice {
                A::POPULATE_WRITE => self.write_in(n),
                A::POPULATE_READ => self.read_in(n),
                _ if gives_back => self.give_back(advice, n, at_ns),
                _ => {}
            }
            if advice == A::GUARD_INSTALL {
                self.write_to(n);
            }
            if let Some(cell) = &mut self.cells[n] {
                match advice {
                    A::DONTFORK => cell.vma.dont_fork = true,
                    A::DOFORK => cell.vma.dont_fork = false,
                    A::WIPEONFORK => cell.vma.wipe_on_fork = true,
                    A::KEEPONFORK => cell.vma.wipe_on_fork = false,
                    _ => {}
                }
            }
        }
        if advice == A::REMOVE {
            self.remove_elsewhere(&effect.done);
        }
        if advice == A::FREE {
            self.perhaps_free(&effect.unknown);
            return;
        }
        for n in effect.unknown.iter().copied() {
            match advice {
                A::POPULATE_WRITE => self.perhaps_write_in(n),
                _ if gives_back => self.lose(n),
                _ => {}
            }
        }
    }

    /// Files have no names here: each may be the one that loses its pages.
    fn remove_elsewhere(&mut self, removed: &[usize]) {
        let is_file = |pages: &Self, n: usize| {
            let kind = pages.cells[n].map(|cell| cell.vma.kind);
            matches!(kind, Some(Kind::File | Kind::SharedFile))
        };
        if !removed.iter().any(|n| is_file(self, *n)) {
            return;
        }
        for n in (0..self.cells.len()).filter(|n| !removed.contains(n)) {
            if !is_file(self, n) {
                continue;
            }
            self.account.sum(Key::Advice(A::REMOVE)).unknown = true;
            if let Some(cell) = &mut self.cells[n]
                && cell.state == State::Populated
            {
                cell.state = State::Unknown;
            }
        }
    }
}
