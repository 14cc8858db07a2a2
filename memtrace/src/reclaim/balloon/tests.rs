//! Tests of the growing in a machine that is made up.

use super::live::GroupRoom;
use super::*;

const M: u64 = 1 << 20;
const G: u64 = 1 << 30;

/// A machine where free memory is used first, then page cache and what is lazily free, half and half.
struct Fake {
    total: u64,
    free: u64,
    cache: u64,
    lazy: u64,
    freed: u64,
    held: u64,
    steps: Vec<u64>,
    looks: u32,
    rested: Duration,
    released: u32,
    /// How long all stood still for a step that had to reclaim.
    stall: Duration,
    pressure: Option<Pressure>,
    /// `full avg10` once so much is held.
    pressed_at: Option<(u64, u32)>,
    group: Option<GroupRoom>,
    /// How the worker answers when it is asked to hold more than so much.
    beyond: Option<(u64, Answer)>,
    /// Says that it is busy so often.
    busy: u32,
    dies_at: Option<u64>,
    asked: u64,
}

impl Fake {
    fn new(free: u64, cache: u64, lazy: u64) -> Self {
        Self {
            total: 16 * G,
            free,
            cache,
            lazy,
            freed: 0,
            held: 0,
            steps: Vec::new(),
            looks: 0,
            rested: Duration::ZERO,
            released: 0,
            stall: Duration::ZERO,
            pressure: Some(Pressure::default()),
            pressed_at: None,
            group: None,
            beyond: None,
            busy: 0,
            dies_at: None,
            asked: 0,
        }
    }

    fn run(&mut self, max: u64) -> Blown {
        self.watched(max, |_| ControlFlow::Continue(()))
    }

    fn watched(&mut self, max: u64, watch: impl FnMut(u64) -> ControlFlow<()>) -> Blown {
        let before = Rollup {
            lazyfree_bytes: self.lazy,
            ..Rollup::default()
        };
        let blown = blow(self, before, max, watch).unwrap();
        assert_eq!(self.released, 1, "it is let go once");
        assert!(self.held <= max);
        blown
    }
}

impl Machine for Fake {
    fn sums(&mut self) -> io::Result<Option<Rollup>> {
        self.looks += 1;
        let dead = self.dies_at.is_some_and(|held| self.held >= held);
        Ok((!dead).then(|| Rollup {
            rss_bytes: self.lazy,
            lazyfree_bytes: self.lazy,
            ..Rollup::default()
        }))
    }

    fn lazyfreed_bytes(&mut self) -> Option<u64> {
        Some(self.freed)
    }

    fn room(&mut self) -> io::Result<Room> {
        Ok(Room {
            free_bytes: self.free,
            available_bytes: self.free + self.cache + self.lazy,
            floor_bytes: self.total / 20,
            group: self.group,
        })
    }

    fn pressure(&mut self) -> Option<Pressure> {
        if let Some((at, avg10)) = self.pressed_at
            && self.held >= at
        {
            self.pressure.as_mut()?.full_avg10 = avg10;
        }
        self.pressure
    }

    fn grow(&mut self, bytes: u64) -> io::Result<()> {
        assert!(self.steps.len() < 10_000 && bytes > 0);
        self.steps.push(bytes);
        self.asked = bytes;
        Ok(())
    }

    fn answer(&mut self) -> io::Result<Answer> {
        if self.busy > 0 {
            self.busy -= 1;
            return Ok(Answer::Busy);
        }
        if let Some((held, answer)) = self.beyond
            && self.held + self.asked > held
        {
            return Ok(answer);
        }
        let of_free = self.asked.min(self.free);
        self.free -= of_free;
        let of_lazy = ((self.asked - of_free) / 2).min(self.lazy);
        self.lazy -= of_lazy;
        self.freed += of_lazy;
        self.cache -= self.asked - of_free - of_lazy;
        self.held += self.asked;
        if let Some(pressure) = &mut self.pressure
            && self.asked > of_free
        {
            pressure.full_total_ns += self.stall.as_nanos() as u64;
        }
        Ok(Answer::Holds(self.held))
    }

    fn rest(&mut self, time: Duration) {
        self.rested += time;
    }

    fn release(&mut self) {
        self.released += 1;
    }
}

#[test]
fn it_grows_until_nothing_is_lazily_free_and_looks_only_while_the_kernel_takes() {
    let mut machine = Fake::new(2 * G, 4 * G, 320 * M);
    let blown = machine.run(8 * G);
    assert_eq!((blown.ending, machine.lazy), (Ending::Done, 0));
    assert_eq!(blown.after.unwrap().lazyfree_bytes, 0);
    // All that was free, and twice what was lazily free, to the next step.
    assert_eq!(blown.held_bytes, 2 * G + 640 * M);
    assert!(machine.steps.iter().all(|step| *step == SMALLEST_STEP));
    // 40 steps that took something, each 16th of the 128 that filled what was free, and the end.
    assert_eq!(machine.looks, 40 + 8 + 1);
    let lowest = 4 * G + 320 * M - 624 * M;
    assert_eq!(blown.available_bytes, Some(lowest));
}

#[test]
fn steps_are_larger_where_much_is_lazily_free() {
    let mut machine = Fake::new(0, 12 * G, 4 * G);
    let blown = machine.run(16 * G);
    assert_eq!(blown.ending, Ending::Done);
    assert_eq!(machine.steps[0], 128 * M);
    assert_eq!(*machine.steps.last().unwrap(), SMALLEST_STEP);
    assert!(machine.looks < 220, "{}", machine.looks);
}

#[test]
fn max_is_never_passed() {
    let mut machine = Fake::new(2 * G, 4 * G, 320 * M);
    let blown = machine.run(100 * M);
    assert_eq!((blown.ending, blown.held_bytes), (Ending::Max, 100 * M));
    assert_eq!(machine.steps.last(), Some(&(4 * M)));
    assert_eq!(machine.lazy, 320 * M);
}

#[test]
fn what_is_lazily_free_does_not_count_as_available_to_others() {
    // 16 GiB: the floor is 819.2 MiB, and 1 GiB is not lazily free.
    let mut machine = Fake::new(G, 0, 4 * G);
    let blown = machine.run(8 * G);
    assert_eq!((blown.ending, machine.lazy), (Ending::Floor, 4 * G));
    let others = machine.free + machine.cache;
    assert!(others >= machine.total / 20 && others < machine.total / 20 + LEAST_ROOM);
}

#[test]
fn what_was_taken_since_the_last_look_is_looked_at_before_the_floor_stops_it() {
    // Lazily free memory that goes without a word: as where it is written again.
    let mut machine = Fake::new(G, 0, 4 * G);
    machine.lazy = 0;
    let before = Rollup {
        lazyfree_bytes: 4 * G,
        ..Rollup::default()
    };
    let go_on = |_| ControlFlow::Continue(());
    let blown = blow(&mut machine, before, 8 * G, go_on).unwrap();
    assert_eq!((blown.ending, blown.held_bytes), (Ending::Done, 0));
}

#[test]
fn a_limit_of_its_own_cgroup_stops_it_too() {
    let mut machine = Fake::new(8 * G, 4 * G, 64 * M);
    machine.group = Some(GroupRoom {
        limit_bytes: 64 * M,
        free_bytes: 0,
        room_bytes: M,
    });
    let blown = machine.run(8 * G);
    assert_eq!((blown.ending, blown.held_bytes), (Ending::GroupFloor, 0));
}

#[test]
fn it_stops_when_tasks_stall_more_than_before() {
    let mut machine = Fake::new(2 * G, 4 * G, 320 * M);
    machine.pressure = Some(Pressure {
        full_avg10: 500,
        full_total_ns: 7,
    });
    machine.pressed_at = Some((64 * M, 1499));
    assert_eq!(machine.run(G).ending, Ending::Max);
    let mut machine = Fake::new(2 * G, 4 * G, 320 * M);
    machine.pressed_at = Some((64 * M, PRESSURE_RISE));
    let blown = machine.run(G);
    assert_eq!((blown.ending, blown.held_bytes), (Ending::Pressure, 64 * M));
    // While a step takes its time, too.
    let mut machine = Fake::new(2 * G, 4 * G, 320 * M);
    machine.busy = u32::MAX;
    let mut looks = 0;
    machine.pressed_at = Some((0, 0));
    let blown = machine.watched(G, |_| {
        looks += 1;
        match looks {
            5 => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    });
    assert_eq!(
        (blown.ending, machine.steps.len()),
        (Ending::Interrupted, 1)
    );
}

#[test]
fn it_rests_nine_times_as_long_as_all_stood_still() {
    let mut machine = Fake::new(0, 4 * G, 32 * M);
    machine.stall = Duration::from_millis(7);
    let blown = machine.run(G);
    assert_eq!(blown.stalled_ns, Some(4 * 7_000_000));
    assert_eq!(machine.rested, Duration::from_millis(4 * 7 * 9));
    let mut machine = Fake::new(0, 4 * G, 32 * M);
    machine.pressure = None;
    let blown = machine.run(G);
    assert_eq!((blown.ending, blown.stalled_ns), (Ending::Done, None));
    assert_eq!(machine.rested, Duration::ZERO);
}

#[test]
fn an_end_of_the_worker_is_told_from_a_signal_to_both() {
    for (answer, ending) in [
        (Answer::Ended(Some(libc::SIGKILL)), Ending::Killed),
        (Answer::Ended(None), Ending::Killed),
        (Answer::Ended(Some(libc::SIGINT)), Ending::Interrupted),
        (Answer::NoMemory(libc::ENOMEM), Ending::NoMemory),
    ] {
        let mut machine = Fake::new(2 * G, 4 * G, 320 * M);
        machine.beyond = Some((40 * M, answer));
        let blown = machine.run(G);
        assert_eq!((blown.ending, blown.held_bytes), (ending, 32 * M));
    }
}

#[test]
fn an_end_of_the_process_is_a_normal_end() {
    let mut machine = Fake::new(0, 4 * G, 320 * M);
    machine.dies_at = Some(64 * M);
    let blown = machine.run(G);
    assert_eq!((blown.ending, blown.after), (Ending::Gone, None));
}

#[test]
fn its_reach_counts_what_gives_way_to_it() {
    let plan = |available_bytes, max_bytes, group| Plan {
        max_bytes,
        room: Room {
            free_bytes: G,
            available_bytes,
            floor_bytes: 256 * M,
            group,
        },
        swap_room_bytes: 0,
        pressure_known: true,
    };
    assert_eq!(plan(4 * G, 64 * G, None).reach_bytes(G), 4 * G - 256 * M);
    assert_eq!(plan(4 * G, 2 * G, None).reach_bytes(G), 2 * G);
    // Nothing is left to others but the floor.
    assert_eq!(plan(G + 256 * M, 2 * G, None).reach_bytes(G), 0);
    let group = GroupRoom {
        limit_bytes: 64 * M,
        free_bytes: 0,
        room_bytes: 33 * M,
    };
    assert_eq!(plan(4 * G, 2 * G, Some(group)).reach_bytes(G), 32 * M);
}
