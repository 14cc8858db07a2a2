//! What is to be said of a balloon: before it grows, and after it is gone.

use super::{Ending, Plan, Work};
use crate::proc::smaps::Rollup;
use crate::reclaim::outcome::WORTH_TELLING;
use crate::units::{Bytes, Nanos};

const NO_PRESSURE: &str = "pressure is not known here (/proc/pressure/memory; psi=1 on the kernel's command line may switch it on)";

impl Plan {
    /// For stderr, before the first page.
    pub(in crate::reclaim) fn warnings(&self, lazyfree_bytes: u64) -> Vec<String> {
        let whom = match self.binding_limit(lazyfree_bytes) {
            Some(limit) => format!("memtrace's own cgroup (limit {})", Bytes(limit)),
            None => "the machine".to_owned(),
        };
        let mut warnings = vec![format!(
            "warning: a balloon of up to {} makes {whom} short of memory: page cache goes first, then what is lazily \
             free in any process; Ctrl-C lets it go",
            Bytes(self.reach_bytes(lazyfree_bytes))
        )];
        if !self.pressure_known {
            warnings.push(format!(
                "warning: {NO_PRESSURE}: only the floor of {} stops the balloon",
                Bytes(self.room.floor_bytes)
            ));
        }
        warnings
    }

    /// What a dry run says beside the figures.
    pub(in crate::reclaim) fn notes(&self, lazyfree_bytes: u64) -> Vec<String> {
        let mut notes = Vec::new();
        if self.swap_room_bytes > 0 {
            notes.push(format!(
                "swap has {} free, so that memory in use of any process could go there: without --allow-swap it will be refused",
                Bytes(self.swap_room_bytes)
            ));
        }
        notes.extend(self.too_small(lazyfree_bytes));
        if !self.pressure_known {
            notes.push(format!("{NO_PRESSURE}: only the floor stops it"));
        }
        notes
    }

    /// The limit of memtrace's own cgroup, where that is what bounds it.
    pub(in crate::reclaim) fn binding_limit(&self, lazyfree_bytes: u64) -> Option<u64> {
        let group = self.room.group?;
        (group.left_bytes() == self.reach_bytes(lazyfree_bytes)).then_some(group.limit_bytes)
    }

    /// Where it cannot even fill what is free, the kernel has no reason to take anything.
    fn too_small(&self, lazyfree_bytes: u64) -> Option<String> {
        let group = self.room.group.map_or(u64::MAX, |group| group.free_bytes);
        let free = self.room.free_bytes.min(group);
        let reach = self.reach_bytes(lazyfree_bytes);
        (reach < free).then(|| {
            let bound = match reach == self.max_bytes {
                true => "--max is",
                false => "the floor leaves",
            };
            format!(
                "{} is free and has to be filled before the kernel takes anything, and {bound} {}",
                Bytes(free),
                Bytes(reach)
            )
        })
    }
}

impl Work {
    /// Why it ended where it did, and what else the machine has lost.
    pub(in crate::reclaim) fn notes(&self, after: &Rollup) -> Vec<String> {
        let mut notes = Vec::new();
        let (plan, blown) = (&self.plan, &self.blown);
        let why = match blown.ending {
            Ending::Done | Ending::Gone | Ending::Interrupted => None,
            Ending::Max => Some(format!("it reached --max, {}", Bytes(plan.max_bytes))),
            Ending::Floor => Some(format!(
                "it came to its floor: {} of MemAvailable without LazyFree is left to others",
                Bytes(plan.room.floor_bytes)
            )),
            Ending::GroupFloor => Some(format!(
                "it came to the limit of the cgroup that memtrace is in ({})",
                Bytes(plan.room.group.map_or(0, |group| group.limit_bytes))
            )),
            Ending::Pressure => Some(
                "tasks stalled for memory (full avg10 of /proc/pressure/memory rose by 10%)"
                    .to_owned(),
            ),
            Ending::Killed => Some(
                "it was killed, most likely by the OOM killer, which it is there for".to_owned(),
            ),
            Ending::NoMemory => Some(
                "the kernel refused it address space (vm.overcommit_memory, or ulimit -v)"
                    .to_owned(),
            ),
        };
        if let Some(why) = why {
            notes.push(format!(
                "the balloon was let go with {} still lazily free: {why}",
                Bytes(after.lazyfree_bytes)
            ));
        }
        notes.push(format!(
            "the balloon held {} at its largest, and is gone",
            Bytes(blown.held_bytes)
        ));
        let lost = self
            .cached_before_bytes
            .saturating_sub(self.cached_after_bytes);
        if lost >= WORTH_TELLING {
            notes.push(format!(
                "the machine's page cache shrank by {}: reading it again will hit the disk",
                Bytes(lost)
            ));
        }
        match blown.stalled_ns {
            None => notes.push(NO_PRESSURE.to_owned()),
            Some(0) => {}
            Some(stalled_ns) => notes.push(format!(
                "memory pressure: all tasks stalled for {} (PSI full), including the balloon",
                Nanos(stalled_ns)
            )),
        }
        notes
    }
}

#[cfg(test)]
mod tests {
    use super::super::Blown;
    use super::super::live::{GroupRoom, Room};
    use super::*;

    const M: u64 = 1 << 20;

    fn plan(max_bytes: u64) -> Plan {
        Plan {
            max_bytes,
            room: Room {
                free_bytes: 500 * M,
                available_bytes: 2000 * M,
                floor_bytes: 256 * M,
                group: None,
            },
            swap_room_bytes: 0,
            pressure_known: true,
        }
    }

    #[test]
    fn the_warning_says_what_goes_first_and_how_much_it_may_be() {
        let warnings = plan(4000 * M).warnings(100 * M);
        assert_eq!(warnings.len(), 1);
        // 2000 less the floor.
        assert!(
            warnings[0].starts_with("warning: a balloon of up to 1.70G"),
            "{warnings:?}"
        );
        assert!(warnings[0].contains("page cache goes first"));
        let mut limited = plan(4000 * M);
        limited.room.group = Some(GroupRoom {
            limit_bytes: 64 * M,
            free_bytes: 0,
            room_bytes: 33 * M,
        });
        let own = &limited.warnings(0)[0];
        assert!(
            own.contains("up to 32.0M makes memtrace's own cgroup (limit 64.0M) short"),
            "{own}"
        );
        let blind = Plan {
            pressure_known: false,
            ..plan(M)
        };
        assert!(blind.warnings(0)[1].contains("only the floor of 256M"));
        assert!(
            blind
                .notes(0)
                .iter()
                .any(|note| note.contains("pressure is not known"))
        );
    }

    #[test]
    fn a_balloon_that_cannot_fill_what_is_free_takes_nothing_and_says_so() {
        assert!(plan(500 * M).notes(100 * M).is_empty());
        let small = plan(100 * M).notes(100 * M);
        assert!(
            small[0].starts_with("500M is free and has to be filled")
                && small[0].ends_with("--max is 100M"),
            "{small:?}"
        );
    }

    #[test]
    fn where_it_stopped_is_told_with_what_it_cost() {
        let after = Rollup {
            lazyfree_bytes: 3 * M,
            ..Rollup::default()
        };
        let of = |ending, stalled_ns| {
            Work {
                plan: plan(900 * M),
                blown: Blown {
                    ending,
                    after: Some(after),
                    held_bytes: 700 * M,
                    available_bytes: None,
                    stalled_ns,
                },
                cached_before_bytes: 50 * M,
                cached_after_bytes: 10 * M,
            }
            .notes(&after)
        };
        let done = of(Ending::Done, Some(0));
        assert_eq!(done[0], "the balloon held 700M at its largest, and is gone");
        assert!(done[1].starts_with("the machine's page cache shrank by 40.0M"));
        assert_eq!(done.len(), 2);
        for (ending, named) in [
            (Ending::Max, "--max, 900M"),
            (Ending::Floor, "256M of MemAvailable"),
            (Ending::Pressure, "stalled"),
            (Ending::Killed, "OOM killer"),
            (Ending::NoMemory, "overcommit"),
        ] {
            let notes = of(ending, Some(2_000_000));
            assert!(
                notes[0].starts_with("the balloon was let go with 3.00M still lazily free: ")
                    && notes[0].contains(named),
                "{notes:?}"
            );
            assert!(notes[3].contains("2.0 ms"), "{notes:?}");
        }
        assert!(of(Ending::Done, None)[2].starts_with("pressure is not known"));
    }
}
