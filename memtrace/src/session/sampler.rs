//! Looks at smaps_rollup in a thread of its own, as often as its budget allows: 1 % of one core.

use std::collections::BTreeMap;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::clock;
use crate::ledger::event::{Cgroup, Rollup, Sample};
use crate::proc;

/// For one part of time spent looking, so many of not looking.
const REST: u64 = 99;
/// A burst of FREEs is left to finish this long before it is looked at.
const SETTLE_NS: u64 = 25_000_000;
/// What a look is taken to cost before one was made: per byte of RSS, for base pages, as measured
/// at 9 to 22 ms a GiB.
const NS_PER_GIB: u64 = 22_000_000;
/// The longest that the end of a run waits for last looks, in all.
const LAST_LOOKS_NS: u64 = 1_000_000_000;

/// A process to look at, and how it is known from a later one with its pid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Who {
    pub pid: u32,
    pub start_ticks: Option<u64>,
}

/// When whom to look at. Pure: it is told the time.
#[derive(Debug, Default)]
struct Schedule {
    /// By process, when its look is due.
    due: BTreeMap<u32, (u64, Option<u64>)>,
    not_before_ns: u64,
}

impl Schedule {
    fn want(&mut self, who: Who, due_ns: u64) {
        let due = self.due.entry(who.pid).or_insert((due_ns, who.start_ticks));
        due.0 = due.0.min(due_ns);
    }

    /// The next look, and when it may begin.
    fn next(&self) -> Option<(Who, u64)> {
        let (&pid, &(due_ns, start_ticks)) = self.due.iter().min_by_key(|(_, (due, _))| *due)?;
        let who = Who { pid, start_ticks };
        Some((who, due_ns.max(self.not_before_ns)))
    }

    fn begun(&mut self, pid: u32) {
        self.due.remove(&pid);
    }

    fn forget(&mut self, pid: u32) {
        self.due.remove(&pid);
    }

    fn ended(&mut self, now_ns: u64, cost_ns: u64) {
        self.not_before_ns = now_ns + REST * cost_ns;
    }
}

/// The thread, and what is under way.
pub struct Sampler {
    schedule: Schedule,
    requests: Option<mpsc::Sender<Who>>,
    replies: UnboundedReceiver<Reply>,
    busy: bool,
    /// Per byte of RSS: what the dearest look so far did cost.
    ns_per_gib: Option<u64>,
}

/// What a look showed; no sample where the process is gone, or may not be looked at.
#[derive(Debug)]
pub struct Reply {
    pub sample: Option<Sample>,
    cost_ns: u64,
}

impl Sampler {
    /// Starts the thread, which sleeps until it is asked.
    ///
    /// # Errors
    /// When the system is out of threads.
    pub fn start() -> anyhow::Result<Self> {
        let (requests, asked) = mpsc::channel::<Who>();
        let (answers, replies) = unbounded_channel();
        std::thread::Builder::new()
            .name("sampler".to_owned())
            .spawn(move || {
                for who in asked {
                    if answers.send(look(who)).is_err() {
                        break;
                    }
                }
            })
            .context("cannot start the thread that samples")?;
        Ok(Self {
            schedule: Schedule::default(),
            requests: Some(requests),
            replies,
            busy: false,
            ns_per_gib: None,
        })
    }

    /// Asks for a look as soon as the budget allows.
    pub fn want_now(&mut self, who: Who) {
        self.schedule.want(who, clock::now_ns());
    }

    /// Asks for a look once a burst of calls is over.
    pub fn want_soon(&mut self, who: Who) {
        self.schedule.want(who, clock::now_ns() + SETTLE_NS);
    }

    /// A process has ended: nobody need look at it any more.
    pub fn forget(&mut self, pid: u32) {
        self.schedule.forget(pid);
    }

    /// The next answer; begins looks as they become due. Never resolves while nothing is wanted.
    pub async fn next(&mut self) -> Reply {
        loop {
            if self.busy {
                let Some(reply) = self.replies.recv().await else {
                    // The thread ends with us only.
                    return std::future::pending().await;
                };
                return self.answered(reply);
            }
            let Some((who, at_ns)) = self.schedule.next() else {
                return std::future::pending().await;
            };
            let wait_ns = at_ns.saturating_sub(clock::now_ns());
            if wait_ns > 0 {
                tokio::time::sleep(Duration::from_nanos(wait_ns)).await;
            }
            self.ask(who);
        }
    }

    /// Last looks at these processes, with their RSS, as far as they fit into a second: a look at
    /// a very large one would hold up the end. Returns what was seen, and how many did not fit.
    pub async fn last(&mut self, all: &[(Who, u64)]) -> (Vec<Sample>, u64) {
        let mut samples = Vec::new();
        let until_ns = clock::now_ns() + LAST_LOOKS_NS;
        let mut left_out = 0;
        for &(who, rss_bytes) in all {
            if self.busy {
                let left_ns = until_ns.saturating_sub(clock::now_ns());
                let wait = Duration::from_nanos(left_ns);
                match tokio::time::timeout(wait, self.replies.recv()).await {
                    Ok(Some(reply)) => {
                        samples.extend(self.answered(reply).sample);
                    }
                    _ => {
                        left_out += 1;
                        continue;
                    }
                }
            }
            let expected_ns = self.expected_ns(rss_bytes);
            if clock::now_ns() + expected_ns > until_ns {
                left_out += 1;
                continue;
            }
            self.ask(who);
            let left_ns = until_ns.saturating_sub(clock::now_ns()).max(expected_ns);
            match tokio::time::timeout(Duration::from_nanos(left_ns), self.replies.recv()).await {
                Ok(Some(reply)) => samples.extend(self.answered(reply).sample),
                _ => left_out += 1,
            }
        }
        (samples, left_out)
    }

    fn expected_ns(&self, rss_bytes: u64) -> u64 {
        let per_gib = u128::from(self.ns_per_gib.unwrap_or(NS_PER_GIB));
        u64::try_from((u128::from(rss_bytes) * per_gib) >> 30).unwrap_or(u64::MAX)
    }

    fn ask(&mut self, who: Who) {
        self.schedule.begun(who.pid);
        if let Some(requests) = &self.requests {
            self.busy = requests.send(who).is_ok();
        }
    }

    fn answered(&mut self, reply: Reply) -> Reply {
        self.busy = false;
        self.schedule.ended(clock::now_ns(), reply.cost_ns);
        if let Some(sample) = &reply.sample
            && sample.rss_bytes > 64 << 20
        {
            let per_gib = (u128::from(reply.cost_ns) << 30) / u128::from(sample.rss_bytes);
            let per_gib = u64::try_from(per_gib).unwrap_or(u64::MAX);
            self.ns_per_gib = self.ns_per_gib.max(Some(per_gib));
        }
        reply
    }
}

/// One look at a process.
fn look(who: Who) -> Reply {
    let pid = who.pid;
    let cpu_before_ns = clock::thread_cpu_ns();
    let at_ns = clock::now_ns();
    let rollup = proc::smaps::rollup(pid).ok().flatten();
    let cost_ns = clock::thread_cpu_ns().saturating_sub(cpu_before_ns);
    let sample = rollup.map(|rollup| Sample {
        at_ns,
        pid,
        rss_bytes: rollup.rss_bytes,
        virtual_bytes: proc::rss::read(pid).ok().map(|sizes| sizes.virtual_bytes),
        rollup: Some(Rollup {
            at_ns,
            rss_bytes: rollup.rss_bytes,
            lazyfree_bytes: rollup.lazyfree_bytes,
            pss_bytes: rollup.pss_bytes,
            swap_bytes: rollup.swap_bytes,
            anonymous_bytes: rollup.anonymous_bytes,
            anon_huge_bytes: rollup.anon_huge_bytes,
            lazyfree_error_bytes: held_back_bytes(),
            cost_ns,
        }),
        cgroup: cgroup(pid),
    });
    // Another process may have the pid by now.
    let same = match (who.start_ticks, proc::stat::read(pid)) {
        (Some(born), Ok(stat)) => stat.start_ticks == born && !stat.is_dead(),
        (None, Ok(stat)) => !stat.is_dead(),
        (_, Err(_)) => false,
    };
    Reply {
        sample: sample.filter(|_| same),
        // With all that came along.
        cost_ns: clock::thread_cpu_ns().saturating_sub(cpu_before_ns),
    }
}

/// What all CPUs may hold back of freed pages before smaps shows them: each a folio batch
/// (include/linux/pagevec.h:PAGEVEC_SIZE, 31 since Linux 6.10 and 15 before; mm/swap.c).
fn held_back_bytes() -> u64 {
    const BATCH_PAGES: u64 = 31;
    // Of the machine, not of those that memtrace itself may use.
    // SAFETY: sysconf reads a figure of the system and takes no pointer.
    let cpus = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
    let cpus = u64::try_from(cpus).unwrap_or(1);
    BATCH_PAGES * cpus * proc::page_bytes()
}

fn cgroup(pid: u32) -> Option<Cgroup> {
    let usage = proc::cgroup::usage(pid).ok()??;
    Some(Cgroup {
        version: usage.version,
        path: usage.path,
        usage_bytes: usage.usage_bytes,
        inactive_file_bytes: usage.inactive_file_bytes,
        limit_bytes: usage.limit_bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: u64 = 1_000_000;

    fn who(pid: u32) -> Who {
        Who {
            pid,
            start_ticks: None,
        }
    }

    #[test]
    fn a_look_that_cost_18_ms_is_followed_by_1_8_s_of_rest() {
        let mut schedule = Schedule::default();
        schedule.want(who(7), 100 * MS);
        assert_eq!(schedule.next(), Some((who(7), 100 * MS)));
        schedule.begun(7);
        assert_eq!(schedule.next(), None);
        schedule.ended(118 * MS, 18 * MS);
        schedule.want(who(7), 120 * MS);
        assert_eq!(schedule.next(), Some((who(7), (118 + 99 * 18) * MS)));
    }

    #[test]
    fn the_earlier_of_two_wishes_counts_and_each_process_has_its_turn() {
        let mut schedule = Schedule::default();
        schedule.want(who(1), 50);
        schedule.want(who(1), 90);
        schedule.want(who(2), 40);
        assert_eq!(schedule.next(), Some((who(2), 40)));
        schedule.begun(2);
        schedule.want(who(2), 60);
        assert_eq!(schedule.next(), Some((who(1), 50)));
    }

    #[test]
    fn who_has_ended_is_not_looked_at() {
        let mut schedule = Schedule::default();
        for pid in 0..1000 {
            schedule.want(who(pid), 40);
            schedule.forget(pid);
        }
        assert_eq!((schedule.next(), schedule.due.len()), (None, 0));
    }

    proptest! {
        #[test]
        fn looks_never_take_more_than_a_hundredth_of_the_time(
            costs in prop::collection::vec(1u64..1 << 40, 1..50),
            pids in prop::collection::vec(0u32..4, 50),
        ) {
            let mut schedule = Schedule::default();
            let (mut now, mut spent) = (0u64, 0u64);
            for (cost, pid) in costs.iter().zip(pids) {
                schedule.want(who(pid), now);
                let (next, at) = schedule.next().unwrap();
                // Before this look, all others have had their rest.
                prop_assert!(spent * 100 <= at.max(now));
                schedule.begun(next.pid);
                now = at.max(now) + cost;
                spent += cost;
                schedule.ended(now, *cost);
            }
        }
    }
}
