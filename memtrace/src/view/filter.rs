//! Which lines of the stream are shown: by kind of event and by size. Totals are never filtered.

use std::fmt;
use std::str::FromStr;

use super::Line;
use crate::ledger::event::Op;

/// A kind of event, by the word that chooses it on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// madvise and process_madvise.
    Madvise,
    Mmap,
    Munmap,
    Mremap,
    Brk,
    Fault,
    /// fork, exec and exit.
    Process,
    /// Lines of Go's collector and scavenger.
    Gc,
}

impl Kind {
    pub const ALL: [Self; 8] = [
        Self::Madvise,
        Self::Mmap,
        Self::Munmap,
        Self::Mremap,
        Self::Brk,
        Self::Fault,
        Self::Process,
        Self::Gc,
    ];

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Madvise => "madvise",
            Self::Mmap => "mmap",
            Self::Munmap => "munmap",
            Self::Mremap => "mremap",
            Self::Brk => "brk",
            Self::Fault => "fault",
            Self::Process => "process",
            Self::Gc => "gc",
        }
    }

    /// The kind of a line; None for a syscall that has no word here.
    pub fn of(line: &Line) -> Option<Self> {
        match line {
            Line::Faults(_) => Some(Self::Fault),
            Line::Process(_) => Some(Self::Process),
            Line::Go(_) => Some(Self::Gc),
            Line::Call(line) => match line.call.op {
                Op::Madvise { .. } | Op::ProcessMadvise { .. } => Some(Self::Madvise),
                Op::Mmap { .. } => Some(Self::Mmap),
                Op::Munmap { .. } => Some(Self::Munmap),
                Op::Mremap { .. } => Some(Self::Mremap),
                Op::Brk { .. } => Some(Self::Brk),
                Op::Unseen {
                    syscall: "process_madvise",
                } => Some(Self::Madvise),
                Op::Unseen { syscall } => Self::ALL.into_iter().find(|k| k.name() == syscall),
            },
        }
    }
}

/// A word that names no kind of event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownKind(String);

impl fmt::Display for UnknownKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = Kind::ALL.map(Kind::name).join(", ");
        if self.0.is_empty() {
            write!(f, "an event is missing; the events are {words}")
        } else {
            write!(f, "unknown event '{}'; the events are {words}", self.0)
        }
    }
}

impl std::error::Error for UnknownKind {}

impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(word: &str) -> Result<Self, UnknownKind> {
        let word = word.trim();
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == word)
            .ok_or_else(|| UnknownKind(word.to_owned()))
    }
}

/// A set of kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kinds(u16);

impl Kinds {
    pub const ALL: Self = Self((1 << Kind::ALL.len()) - 1);

    pub fn contains(self, kind: Kind) -> bool {
        self.0 & 1 << kind as u8 != 0
    }
}

impl FromIterator<Kind> for Kinds {
    fn from_iter<T: IntoIterator<Item = Kind>>(kinds: T) -> Self {
        Self(kinds.into_iter().fold(0, |set, kind| set | 1 << kind as u8))
    }
}

impl FromStr for Kinds {
    type Err = UnknownKind;

    /// Reads a list such as `madvise,fault`.
    fn from_str(list: &str) -> Result<Self, UnknownKind> {
        list.split(',').map(Kind::from_str).collect()
    }
}

/// Which lines of the stream are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filter {
    pub kinds: Kinds,
    pub min_bytes: u64,
}

impl Default for Filter {
    fn default() -> Self {
        Self {
            kinds: Kinds::ALL,
            min_bytes: 0,
        }
    }
}

impl Filter {
    /// What has no size, or none that is known, passes any minimum: it is not known to be small.
    pub fn shows(&self, line: &Line) -> bool {
        Kind::of(line).is_none_or(|kind| self.kinds.contains(kind))
            && line.size_bytes().is_none_or(|size| size >= self.min_bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::golang::gctrace::{Event, GcLine};
    use crate::ledger::advice::Advice;
    use crate::ledger::event::{Access, Call};
    use crate::ledger::totals::FaultClass;
    use crate::view::gctrace::GoLine;
    use crate::view::{CallLine, FaultRun, ProcessEvent, ProcessLine};

    fn call(op: Op, ret: i64, old_break: Option<u64>) -> Line {
        Line::Call(CallLine {
            call: Arc::new(Call {
                pid: 1,
                tid: 1,
                enter_ns: 10,
                exit_ns: 20,
                ret: Some(ret),
                op,
                released_bytes: None,
            }),
            mapping: None,
            old_break,
        })
    }

    fn one_of_each() -> Vec<(Kind, Line)> {
        let fault = FaultRun {
            at_ns: 1,
            pid: 1,
            tid: 1,
            addr: 0,
            len_bytes: 8192,
            faults: 2,
            class: FaultClass::FirstTouch,
            access: Access::Write,
            age_ns: None,
            zero_page_write: false,
            mapping: None,
        };
        let process = ProcessLine {
            at_ns: 1,
            pid: 1,
            event: ProcessEvent::Exit { status: None },
        };
        let collection = GoLine {
            at_ns: 1,
            pid: None,
            event: Event::Gc(GcLine::default()),
        };
        let madvise = Op::Madvise {
            advice: Advice::FREE,
            addr: 0,
            len: 8192,
        };
        let remote = Op::ProcessMadvise {
            target_pid: None,
            advice: Advice::COLD,
            range: Some((0, 8192)),
            index: 0,
            ranges: 1,
            before_bytes: 0,
        };
        let mmap = Op::Mmap {
            addr: 0,
            len: 8192,
            prot: 0,
            flags: 0,
            fd: -1,
            name: None,
        };
        let mremap = Op::Mremap {
            addr: 0,
            old_len: 4096,
            new_len: 8192,
            flags: 0,
            new_addr: 0,
        };
        vec![
            (Kind::Madvise, call(madvise, 0, None)),
            (Kind::Madvise, call(remote, 0, None)),
            (Kind::Mmap, call(mmap, 0x1000, None)),
            (
                Kind::Munmap,
                call(Op::Munmap { addr: 0, len: 8192 }, 0, None),
            ),
            (Kind::Mremap, call(mremap, 0, None)),
            (
                Kind::Brk,
                call(Op::Brk { addr: 0x3000 }, 0x3000, Some(0x1000)),
            ),
            (Kind::Fault, Line::Faults(fault)),
            (Kind::Process, Line::Process(process)),
            (Kind::Gc, Line::Go(collection)),
        ]
    }

    #[test]
    fn a_kind_shows_its_own_lines_only() {
        for kind in Kind::ALL {
            let filter = Filter {
                kinds: kind.name().parse().expect("its own word"),
                min_bytes: 0,
            };
            for (of, line) in one_of_each() {
                assert_eq!(filter.shows(&line), of == kind, "{kind:?} {line:?}");
            }
        }
    }

    #[test]
    fn calls_under_way_at_the_start_count_as_their_syscall() {
        for (syscall, kind) in [
            ("munmap", Kind::Munmap),
            ("madvise", Kind::Madvise),
            ("process_madvise", Kind::Madvise),
        ] {
            let line = call(Op::Unseen { syscall }, 0, None);
            assert_eq!(Kind::of(&line), Some(kind));
        }
    }

    #[test]
    fn small_lines_are_hidden_and_those_without_a_size_are_not() {
        let filter = |min_bytes| Filter {
            kinds: Kinds::ALL,
            min_bytes,
        };
        for (kind, line) in one_of_each() {
            assert!(filter(8192).shows(&line), "{kind:?}");
            let sizeless = matches!(kind, Kind::Process | Kind::Gc);
            assert_eq!(filter(8193).shows(&line), sizeless, "{kind:?}");
        }
        let unknown_break = call(Op::Brk { addr: 0x3000 }, 0x3000, None);
        assert!(filter(8193).shows(&unknown_break));
    }

    #[test]
    fn lists_are_read_and_wrong_words_named() {
        let kinds: Kinds = "madvise, fault".parse().expect("two kinds");
        assert!(kinds.contains(Kind::Madvise) && kinds.contains(Kind::Fault));
        assert!(!kinds.contains(Kind::Brk));
        let words = "madvise, mmap, munmap, mremap, brk, fault, process, gc";
        assert_eq!(words.parse(), Ok(Kinds::ALL));
        assert_eq!(
            "madvise,falt"
                .parse::<Kinds>()
                .expect_err("a typo")
                .to_string(),
            format!("unknown event 'falt'; the events are {words}")
        );
        assert_eq!(
            "madvise,".parse::<Kinds>().expect_err("a gap").to_string(),
            format!("an event is missing; the events are {words}")
        );
    }
}
