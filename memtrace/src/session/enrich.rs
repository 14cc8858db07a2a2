//! From records to events: adds what only /proc can tell, as soon after the fact as can be.

use std::collections::HashMap;
use std::sync::Arc;

use crate::clock;
use crate::decode::{Passed, Pidfd, Record};
use crate::kernel::caps::Caps;
use crate::kernel::folios::Thp;
use crate::ledger::advice::Advice;
use crate::ledger::event::{Call, Event, Exec, Executable, Exit, Fork, Mappings, Op};
use crate::order::Reorder;
use crate::proc::maps::Maps;
use crate::proc::{self, pidfd};

/// The values of a pidfd that mean the caller itself (include/uapi/linux/pidfd.h).
const PIDFD_SELF: [i32; 2] = [-10_000, -10_001];

const MAP_ANONYMOUS: u32 = 0x20;

/// How long events wait for an exec that loads its program.
const LONGEST_EXEC_NS: u64 = 2_000_000_000;

/// Execs under way beyond which those that take longer than that are forgotten.
const MOST_PREPARED: usize = 4096;

/// Turns records into events, and remembers which processes it must not ask /proc about.
pub struct Enrich {
    pub follow_forks: bool,
    /// Else the kernel shows each as 0.
    sees_exit_codes: bool,
    thp: Thp,
    /// What the process that we launched had mapped when it stood at its first instruction.
    first_image: Option<Mappings>,
    /// Execs past their point of no return, by pid: when that was.
    prepared: HashMap<u32, u64>,
    /// Children that are not followed, by parent.
    pub unfollowed: HashMap<u32, u64>,
    /// Of these, the ones that share its memory.
    pub unfollowed_sharers: HashMap<u32, u64>,
    names: Names,
}

impl Enrich {
    pub fn new(follow_forks: bool) -> Self {
        Self {
            follow_forks,
            sees_exit_codes: Caps::effective().is_ok_and(Caps::can_read_others),
            thp: Thp::read(),
            first_image: None,
            prepared: HashMap::new(),
            unfollowed: HashMap::new(),
            unfollowed_sharers: HashMap::new(),
            names: Names::default(),
        }
    }

    /// What /proc showed for the last chunk is too old for this one.
    pub fn begin_chunk(&mut self) {
        self.names.maps.clear();
    }

    /// Keeps what the next exec of this process has mapped, as read while it stood still.
    pub fn first_image(&mut self, mappings: Mappings) {
        self.first_image = Some(mappings);
    }

    pub fn take(&mut self, record: Record, order: &mut Reorder) {
        match record {
            Record::Faults(batch) => order.push(Event::Faults(batch)),
            Record::Call { call, passed } => {
                let call = Arc::new(self.complete(call, passed));
                if call.op.enter_matters() {
                    order.push(Event::Enter(Arc::clone(&call)));
                }
                order.push(Event::Leave(call));
            }
            Record::Populated(populated) => order.push(Event::Populated(populated)),
            Record::Fork {
                at_ns,
                parent_pid,
                pid,
                shares_vm,
            } => {
                let followed = pid != 0 && (self.follow_forks || shares_vm);
                if !followed {
                    *self.unfollowed.entry(parent_pid).or_default() += 1;
                    if shares_vm {
                        *self.unfollowed_sharers.entry(parent_pid).or_default() += 1;
                    }
                }
                order.push(Event::Fork(Fork {
                    at_ns,
                    parent_pid,
                    pid,
                    shares_vm,
                    followed,
                }));
            }
            Record::Prepare { at_ns, pid } => {
                if self.prepared.len() >= MOST_PREPARED {
                    // Whose end is lost or nobody waits for any more.
                    let since_ns = at_ns.saturating_sub(LONGEST_EXEC_NS);
                    self.prepared.retain(|_, at_ns| *at_ns >= since_ns);
                }
                self.prepared.insert(pid, at_ns);
            }
            Record::Exec {
                at_ns,
                pid,
                comm,
                followed,
            } => {
                // Its own setting up faulted already: that is the new image's.
                let at_ns = self.prepared.remove(&pid).unwrap_or(at_ns);
                let path = if followed {
                    executable(pid, &comm)
                } else {
                    None
                };
                order.push(Event::Exec(Exec {
                    at_ns,
                    pid,
                    comm,
                    followed,
                }));
                if let Some(path) = path {
                    order.push(Event::Executable(Executable { at_ns, pid, path }));
                }
                if followed {
                    self.new_image(at_ns, pid, order);
                }
            }
            Record::Exit {
                at_ns,
                pid,
                status,
                group_known,
            } => {
                self.prepared.remove(&pid);
                if group_known {
                    order.push(Event::Exit(Exit { at_ns, pid, status }));
                } else if let Some(status) = self.ended(pid) {
                    // Without the kernel's BTF a thread's end looks like a process's. This one need
                    // not have been the last, but now there is none any more.
                    let at_ns = clock::now_ns();
                    order.push(Event::Exit(Exit { at_ns, pid, status }));
                }
            }
        }
    }

    /// Up to which time events may be given out of those that are complete up to `complete_ns`: an
    /// exec takes its place where it passed the point of no return, and is told of later.
    pub fn complete_ns(&self, complete_ns: u64) -> u64 {
        // One that takes longer holds up nothing any more: its end may be lost.
        let since_ns = complete_ns.saturating_sub(LONGEST_EXEC_NS);
        let waited_for = self.prepared.values().filter(|at_ns| **at_ns >= since_ns);
        waited_for
            .min()
            .map_or(complete_ns, |oldest_ns| complete_ns.min(*oldest_ns))
    }

    /// Whether a process has ended, by /proc; and how, where its parent has not taken note yet.
    pub fn ended(&self, pid: u32) -> Option<Option<i32>> {
        match proc::stat::read(pid) {
            Ok(stat) if !stat.is_dead() => None,
            Ok(stat) => Some(stat.exit_code.filter(|_| self.sees_exit_codes)),
            Err(_) => Some(None),
        }
    }

    /// Which folios the process may get now.
    pub fn folios(&self, pid: u32) -> Option<Event> {
        let status = proc::status::read(pid).ok()?;
        let folios = self.thp.folios(clock::now_ns(), pid, status.thp_enabled);
        Some(Event::Folios(folios))
    }

    /// Reads what an exec has mapped, unless it was read while the process stood still.
    fn new_image(&mut self, at_ns: u64, pid: u32, order: &mut Reorder) {
        let known = self.first_image.take_if(|first| first.pid == pid);
        let read = || Some(proc::maps::read(pid).ok()?.into_event(pid, at_ns, true));
        if let Some(mut mappings) = known.or_else(read) {
            mappings.at_ns = at_ns;
            // Since the exec it may have grown: the first brk tells where it began.
            mappings.heap_end = None;
            order.push(Event::Mappings(mappings));
        }
        if let Some(Event::Folios(mut folios)) = self.folios(pid) {
            folios.at_ns = at_ns;
            order.push(Event::Folios(folios));
        }
    }

    fn complete(&mut self, mut call: Call, passed: Option<Passed>) -> Call {
        let pid = call.pid;
        match &mut call.op {
            Op::ProcessMadvise {
                target_pid,
                range,
                advice,
                ..
            } => match passed.map(|passed| target_of(pid, passed, *advice, call.ret)) {
                Some(Addressee::Process(target)) => *target_pid = Some(target),
                // It came to no memory, and to none of its ranges.
                Some(Addressee::Nobody) => *range = None,
                Some(Addressee::Unknown) | None => {}
            },
            Op::Mmap {
                fd, flags, name, ..
            } if *fd >= 0 && *flags & MAP_ANONYMOUS == 0 => {
                let mapped_at = call.ret.and_then(|ret| u64::try_from(ret).ok());
                *name = match proc::fd_target(pid, *fd) {
                    Some(file) => Some(Arc::from(file)),
                    // Mapped and closed, as loaders do: the mapping still tells.
                    None => mapped_at.and_then(|addr| self.names.of(pid, addr)),
                };
            }
            _ => {}
        }
        call
    }
}

/// The path of what a process runs, if that still is what had this name when it began.
fn executable(pid: u32, comm: &str) -> Option<Arc<str>> {
    let path = proc::exe(pid)?;
    let same = proc::comm(pid).is_ok_and(|now| now == comm);
    same.then(|| Arc::from(path))
}

/// Whose memory a process_madvise is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Addressee {
    Process(u32),
    /// The kernel refused the call before it came to a memory.
    Nobody,
    Unknown,
}

/// Whose memory a process_madvise of `pid` is about.
fn target_of(
    pid: u32,
    Passed { fd, target }: Passed,
    advice: Advice,
    ret: Option<i64>,
) -> Addressee {
    let refused = ret.is_some_and(|ret| ret < 0);
    let resolved = match target {
        // By an older kernel, for which it is a bad descriptor.
        _ if PIDFD_SELF.contains(&fd) && target != Pidfd::Refused => Some(pid),
        Pidfd::Process(target) => Some(target),
        // Where the call succeeded, another thread has changed the descriptor meanwhile.
        Pidfd::Nobody | Pidfd::Refused if refused => return Addressee::Nobody,
        _ if fd < 0 && refused => return Addressee::Nobody,
        _ => pidfd::pidfd_target(pid, fd),
    };
    // mm/madvise.c:SYSCALL_DEFINE5(process_madvise): what is wrong with the descriptor, the process
    // or the caller's rights to it. Advice on a mapping does not end so, but for what a file system
    // may answer to REMOVE.
    let at_once = [libc::EBADF, libc::ESRCH, libc::EPERM, libc::EACCES];
    let at_once = at_once.map(|errno| Some(-i64::from(errno)));
    match resolved {
        _ if at_once.contains(&ret) && advice != Advice::REMOVE => Addressee::Nobody,
        Some(target) => Addressee::Process(target),
        None => Addressee::Unknown,
    }
}

/// Names of mappings whose descriptor was closed before it could be looked at.
#[derive(Default)]
struct Names {
    /// As read for this chunk.
    maps: HashMap<u32, Maps>,
    /// No look before this time: so that looking takes a twentieth of one core at the most.
    not_before_ns: u64,
}

impl Names {
    /// The name of the mapping that is at `addr` now. It is a label: nothing is counted by it.
    fn of(&mut self, pid: u32, addr: u64) -> Option<Arc<str>> {
        if !self.maps.contains_key(&pid) {
            let start_ns = clock::now_ns();
            if start_ns < self.not_before_ns {
                return None;
            }
            let maps = proc::maps::read(pid).unwrap_or_default();
            let end_ns = clock::now_ns();
            self.not_before_ns = end_ns + 19 * (end_ns - start_ns);
            self.maps.insert(pid, maps);
        }
        let list = &self.maps.get(&pid)?.list;
        let at = list.partition_point(|(range, _)| range.end <= addr);
        let (range, mapping) = list.get(at)?;
        if range.contains(&addr) {
            mapping.name.clone()
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_process_madvise_came_to_nobodys_memory() {
        let own = std::process::id();
        let of = |fd, target, advice, errno: i32| {
            let passed = Passed { fd, target };
            target_of(own, passed, advice, Some(-i64::from(errno)))
        };
        let (not_looked, pid) = (Pidfd::NotLookedAt, Pidfd::Process(own));
        let (cold, remove) = (Advice::COLD, Advice::REMOVE);
        let process = Addressee::Process(own);
        for (got, expected) in [
            (of(-1, not_looked, cold, libc::EINVAL), Addressee::Nobody),
            (
                of(7, Pidfd::Nobody, remove, libc::EINVAL),
                Addressee::Nobody,
            ),
            (
                of(-10_001, Pidfd::Refused, cold, libc::EINVAL),
                Addressee::Nobody,
            ),
            (of(-10_001, Pidfd::Nobody, cold, libc::EINVAL), process),
            (
                of(-10_001, Pidfd::Nobody, cold, libc::EBADF),
                Addressee::Nobody,
            ),
            (of(7, pid, cold, libc::EINVAL), process),
            (of(7, pid, cold, libc::EPERM), Addressee::Nobody),
            (of(7, pid, cold, libc::ESRCH), Addressee::Nobody),
            // Its file may be what does not permit it, and a mapping before that is done.
            (of(7, pid, remove, libc::EPERM), process),
        ] {
            assert_eq!(got, expected);
        }
        // No process of ours has so many descriptors.
        let closed = Passed {
            fd: i32::MAX,
            target: not_looked,
        };
        let unknown = Addressee::Unknown;
        assert_eq!(target_of(own, closed, cold, Some(-22)), unknown);
        assert_eq!(target_of(own, closed, cold, Some(4096)), unknown);
        assert_eq!(target_of(own, closed, cold, Some(-9)), Addressee::Nobody);
        // Changed by another thread after the kernel side looked.
        let changed = Passed {
            target: Pidfd::Nobody,
            ..closed
        };
        assert_eq!(target_of(own, changed, cold, Some(4096)), unknown);
    }

    #[test]
    fn an_exec_holds_events_up_from_its_point_of_no_return_but_not_for_ever() {
        let at_ns = 10_000_000_000;
        let mut enrich = Enrich::new(false);
        enrich.take(Record::Prepare { at_ns, pid: 7 }, &mut Reorder::default());
        assert_eq!(enrich.complete_ns(at_ns - 1), at_ns - 1);
        let last_ns = at_ns + LONGEST_EXEC_NS;
        assert_eq!(enrich.complete_ns(last_ns), at_ns);
        assert_eq!(enrich.complete_ns(last_ns + 1), last_ns + 1);
        assert_eq!(enrich.complete_ns(u64::MAX), u64::MAX);
    }

    #[test]
    fn execs_whose_end_is_lost_are_forgotten() {
        let mut enrich = Enrich::new(true);
        for n in 0..20_000 {
            let at_ns = u64::from(n) * 1_000_000;
            enrich.take(Record::Prepare { at_ns, pid: n }, &mut Reorder::default());
        }
        assert!(
            enrich.prepared.len() <= MOST_PREPARED,
            "{}",
            enrich.prepared.len()
        );
        // The last is waited for all the same.
        assert!(enrich.prepared.contains_key(&19_999));
    }
}
