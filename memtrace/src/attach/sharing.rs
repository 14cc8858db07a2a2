//! Finds the processes that share a target's memory (CLONE_VM, vfork) since before tracing, and has them traced too.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Read as _;
use std::time::Duration;

use aya::maps::{HashMap as BpfMap, MapData};
use aya::programs::Iter;
use aya::{Btf, Ebpf};
use memtrace_ebpf::{MmUser, followed};

use super::control::Control;
use super::programs;
use crate::proc::{kcmp, namespace};

/// The program that tells who has which address space.
const PROGRAM: &str = "tell_mm";
/// Of its output, in bytes: for four million threads.
const MOST_TOLD: u64 = 64 << 20;
/// Looks after attaching, until one finds nobody new.
const MOST_LOOKS: u32 = 10;
/// Looks for a moment in which nobody but its own threads has an address space, and the time between two.
const MOST_TRIES: u32 = 20;
const BETWEEN_TRIES: Duration = Duration::from_millis(2);

/// Who shares the memory of the targets.
#[derive(Debug, Default)]
pub struct Sharing {
    /// Processes on one address space, of which one at least is a target. Only where they are several.
    pub groups: Vec<Vec<u32>>,
    /// Processes that were traced for a moment and share nothing (any more).
    pub left: Vec<u32>,
    /// By target: why what was done to its memory may not all be seen.
    pub doubts: HashMap<u32, String>,
}

/// One look at who has which address space.
#[derive(Debug, Default, PartialEq, Eq)]
struct Look {
    groups: Vec<Vec<u32>>,
    /// Targets whose address space has more users than threads were told of.
    more_users: Vec<u32>,
}

/// Looks before and after the programs are attached.
pub struct Finder<'a> {
    targets: &'a [u32],
    /// The iterator is loaded.
    iterates: bool,
    /// The pid namespace is not the machine's first: there may be processes beyond.
    nested: bool,
    /// Traced by our doing.
    followed: HashSet<u32>,
    found: Sharing,
}

impl<'a> Finder<'a> {
    /// `identifies`: the kernel side knows where to look.
    pub fn new(ebpf: &mut Ebpf, btf: Option<&Btf>, identifies: bool, targets: &'a [u32]) -> Self {
        let mut load = |btf| {
            let program: &mut Iter = programs::program(ebpf, PROGRAM)?;
            programs::attached("the iterator over tasks", program.load("task", btf))
        };
        Self {
            targets,
            iterates: btf
                .filter(|_| identifies)
                .is_some_and(|btf| load(btf).is_ok()),
            nested: !namespace::own().is_ok_and(|own| own.initial),
            followed: HashSet::new(),
            found: Sharing::default(),
        }
    }

    /// Has those traced from the first that share a target's memory now.
    pub fn before(
        &mut self,
        ebpf: &mut Ebpf,
        traced: &mut BpfMap<MapData, u32, u32>,
        control: &Control,
    ) {
        // Whatever goes wrong here does so afterwards too, and is told then.
        if let Ok(look) = self.look(ebpf) {
            for pid in self.strangers(&look, traced) {
                self.follow(pid, traced, control);
            }
        }
    }

    /// Has those traced that came meanwhile, and those no more that went. From here on the kernel
    /// side sees each come and go.
    pub fn after(
        mut self,
        ebpf: &mut Ebpf,
        traced: &mut BpfMap<MapData, u32, u32>,
        control: &Control,
    ) -> Sharing {
        for _ in 0..MOST_LOOKS {
            let look = match self.settled(ebpf) {
                Ok(look) => look,
                Err(why) => {
                    self.doubt_all(&format!(
                        "whether other processes share its memory could not be found out: {why}"
                    ));
                    return self.found;
                }
            };
            let strangers = self.strangers(&look, traced);
            if strangers.is_empty() {
                return self.settle(look, traced, control);
            }
            for pid in strangers {
                if let Some(target) = self.target_beside(&look, pid) {
                    self.found.doubts.insert(
                        target,
                        format!(
                            "process {pid}, which shares its memory, was found when tracing had begun already: \
                             what it did before that is not known"
                        ),
                    );
                }
                self.follow(pid, traced, control);
            }
        }
        self.doubt_all("new processes that share its memory kept coming while memtrace attached");
        self.found
    }

    /// A look in which, if we wait for it, all users of the address spaces are known.
    fn settled(&self, ebpf: &mut Ebpf) -> Result<Look, String> {
        let mut look = self.look(ebpf)?;
        // In the first namespace every thread is told of; whoever else is a user only looks at it.
        for _ in 0..MOST_TRIES {
            if !self.nested || look.more_users.is_empty() {
                break;
            }
            std::thread::sleep(BETWEEN_TRIES);
            look = self.look(ebpf)?;
        }
        Ok(look)
    }

    /// Takes the last look for the truth.
    fn settle(
        mut self,
        look: Look,
        traced: &mut BpfMap<MapData, u32, u32>,
        control: &Control,
    ) -> Sharing {
        let share: HashSet<u32> = look.groups.iter().flatten().copied().collect();
        for &pid in self.followed.difference(&share) {
            if traced.remove(&pid).is_ok() {
                control.unfollow();
            }
            self.found.left.push(pid);
        }
        if self.nested {
            for &target in &look.more_users {
                self.found.doubts.entry(target).or_insert_with(|| {
                    "its memory may be shared by a process outside of this pid namespace, which can't be traced from here: \
                     run memtrace on the host"
                        .to_owned()
                });
            }
        }
        // Children that the kernel side has seen born come by their own records.
        let ours = |pid: &u32| self.targets.contains(pid) || self.followed.contains(pid);
        self.found.groups = look
            .groups
            .into_iter()
            .map(|group| group.into_iter().filter(ours).collect())
            .filter(|group: &Vec<u32>| group.len() > 1)
            .collect();
        self.found
    }

    fn doubt_all(&mut self, why: &str) {
        for target in self.targets {
            self.found.doubts.insert(*target, why.to_owned());
        }
    }

    fn target_beside(&self, look: &Look, pid: u32) -> Option<u32> {
        let group = look.groups.iter().find(|group| group.contains(&pid))?;
        group.iter().copied().find(|pid| self.targets.contains(pid))
    }

    /// Those that share a target's memory and are not traced.
    fn strangers(&self, look: &Look, traced: &BpfMap<MapData, u32, u32>) -> Vec<u32> {
        let all = look.groups.iter().flatten().copied();
        all.filter(|pid| !self.targets.contains(pid) && traced.get(pid, 0).is_err())
            .collect()
    }

    fn follow(&mut self, pid: u32, traced: &mut BpfMap<MapData, u32, u32>, control: &Control) {
        if traced.insert(pid, followed::BORROWED_MM, 0).is_ok() {
            control.follow(1);
            self.followed.insert(pid);
        }
    }

    fn look(&self, ebpf: &mut Ebpf) -> Result<Look, String> {
        if self.iterates {
            let users = users(ebpf).map_err(|error| format!("{error:#}"))?;
            return Ok(of_users(&users, self.targets));
        }
        if self.nested {
            return Err(
                "this pid namespace is not the machine's first, and the kernel has no BTF"
                    .to_owned(),
            );
        }
        Ok(Look {
            groups: kcmp::sharers(self.targets)?,
            more_users: Vec::new(),
        })
    }
}

/// Every thread's address space, as the kernel side tells it.
fn users(ebpf: &mut Ebpf) -> anyhow::Result<Vec<MmUser>> {
    let program: &mut Iter = programs::program(ebpf, PROGRAM)?;
    let link = program.attach()?;
    let file = program.take_link(link)?.into_file()?;
    let mut told = Vec::new();
    file.take(MOST_TOLD).read_to_end(&mut told)?;
    let users = told.chunks_exact(size_of::<MmUser>()).map(|user| {
        let number =
            |at: usize| u32::from_ne_bytes([user[at], user[at + 1], user[at + 2], user[at + 3]]);
        MmUser {
            mm: u64::from(number(0)) | u64::from(number(4)) << 32,
            pid: number(8),
            users: number(12),
        }
    });
    Ok(users.collect())
}

/// The address spaces of the targets that several processes have.
fn of_users(users: &[MmUser], targets: &[u32]) -> Look {
    // In order, and with it the threads and processes of each.
    let mut spaces: BTreeMap<u64, (u32, u32, Vec<u32>)> = BTreeMap::new();
    for user in users.iter().filter(|user| targets.contains(&user.pid)) {
        spaces.entry(user.mm).or_default();
    }
    for user in users {
        if let Some((threads, known, pids)) = spaces.get_mut(&user.mm) {
            *threads += 1;
            // It was read once for each thread: the least has fewest that only looked at it.
            *known = if *threads == 1 {
                user.users
            } else {
                (*known).min(user.users)
            };
            if !pids.contains(&user.pid) {
                pids.push(user.pid);
            }
        }
    }
    let mut look = Look::default();
    for (threads, known, pids) in spaces.into_values() {
        if known > threads {
            look.more_users
                .extend(pids.iter().filter(|pid| targets.contains(pid)));
        }
        if pids.len() > 1 {
            look.groups.push(pids);
        }
    }
    look
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(mm: u64, pid: u32, users: u32) -> MmUser {
        MmUser { mm, pid, users }
    }

    #[test]
    fn processes_on_one_address_space_are_a_group_and_threads_are_not() {
        let users = [
            user(1, 10, 2),
            user(1, 10, 2),
            user(2, 20, 2),
            user(3, 30, 1),
            user(2, 21, 2),
            user(4, 40, 2),
            user(4, 41, 2),
        ];
        let look = of_users(&users, &[10, 21, 30]);
        assert_eq!(look.groups, [vec![20, 21]]);
        assert_eq!(look.more_users, [0; 0]);
    }

    #[test]
    fn a_user_who_is_no_thread_that_we_see_is_told() {
        let users = [user(1, 10, 4), user(1, 11, 3), user(2, 20, 1)];
        let look = of_users(&users, &[10, 20]);
        assert_eq!(look.groups, [vec![10, 11]]);
        assert_eq!(look.more_users, [10]);
    }

    #[test]
    fn nobody_is_found_of_a_target_that_has_ended() {
        assert_eq!(of_users(&[user(1, 10, 1)], &[11]), Look::default());
    }
}
