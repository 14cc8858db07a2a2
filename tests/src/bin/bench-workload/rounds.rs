//! The times of the rounds of one behaviour, and what they come to.

use memtrace_tests::area::now_ns;
use memtrace_tests::scene::must;

/// How long each round took. The room is there before the first one, so that noting makes no fault.
pub struct Rounds {
    each_ns: Vec<i64>,
    each_cpu_ns: Vec<i64>,
    events: usize,
}

impl Rounds {
    /// For as many rounds, each of so many events.
    pub fn new(rounds: usize, events: usize) -> Self {
        Self {
            each_ns: room(rounds),
            each_cpu_ns: room(rounds),
            events,
        }
    }

    /// Times what is done once, by the clock and by the CPU time of this thread, in which others
    /// that run on the same CPU have no part.
    pub fn time(&mut self, round: impl FnOnce()) {
        let (begun, begun_cpu) = (now_ns(), cpu_ns());
        round();
        let (cpu, time) = (cpu_ns() - begun_cpu, now_ns() - begun);
        self.each_ns.push(time);
        self.each_cpu_ns.push(cpu);
    }

    /// The median round, the quickest, how many events each had, and how many rounds there were.
    /// Forgets them, for the next turn.
    pub fn report(&mut self) -> [(&'static str, i64); 5] {
        let median_ns = median(&mut self.each_ns);
        let report = [
            ("median_ns", median_ns),
            ("median_cpu_ns", median(&mut self.each_cpu_ns)),
            ("best_ns", self.each_ns[0]),
            ("events", self.events as i64),
            ("rounds", self.each_ns.len() as i64),
        ];
        self.each_ns.clear();
        self.each_cpu_ns.clear();
        report
    }
}

/// An empty list whose memory is populated.
fn room(len: usize) -> Vec<i64> {
    let mut list = vec![1; len];
    list.clear();
    list
}

/// Sorts them too.
fn median(list: &mut [i64]) -> i64 {
    list.sort_unstable();
    (list[(list.len() - 1) / 2] + list[list.len() / 2]) / 2
}

fn cpu_ns() -> i64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the struct is ours to be written.
    must(
        unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut now) },
        "clock_gettime",
    );
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}
