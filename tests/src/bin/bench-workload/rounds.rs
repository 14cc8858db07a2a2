//! The times of the rounds of one behaviour, and what they come to.

use memtrace_tests::area::now_ns;

/// How long each round took. The room is there before the first one, so that noting makes no fault.
pub struct Rounds {
    each_ns: Vec<i64>,
    events: usize,
}

impl Rounds {
    /// For as many rounds, each of so many events.
    pub fn new(rounds: usize, events: usize) -> Self {
        let mut each_ns = vec![1; rounds];
        each_ns.clear();
        Self { each_ns, events }
    }

    /// Times what is done once.
    pub fn time(&mut self, round: impl FnOnce()) {
        let begun = now_ns();
        round();
        self.each_ns.push(now_ns() - begun);
    }

    /// The median round, the quickest, how many events each had, and how many rounds there were.
    pub fn report(mut self) -> [(&'static str, i64); 4] {
        self.each_ns.sort_unstable();
        let (low, high) = (
            self.each_ns.len().saturating_sub(1) / 2,
            self.each_ns.len() / 2,
        );
        [
            ("median_ns", (self.each_ns[low] + self.each_ns[high]) / 2),
            ("best_ns", self.each_ns[0]),
            ("events", self.events as i64),
            ("rounds", self.each_ns.len() as i64),
        ]
    }
}
