//! `--go-pprof`: what the answers of a Go process come to over a run.

use super::sampler::Who;
use crate::golang::books::Books;
use crate::golang::endpoint::Endpoint;
use crate::golang::poll::{Poll, Reply, Taken};
use crate::golang::{Reading, Report, Table};
use crate::output::escape;
use crate::proc;
use crate::say::say;

/// A server may need a moment to listen: so many failures in a row are told at once, fewer at the end.
const FAILURES_TO_TELL: u64 = 3;
/// The longest message that is shown whole.
const COLUMNS: usize = 300;

/// The questions, and what is known.
pub struct Go {
    poll: Poll,
    url: String,
    /// The process that is asked about: the first target.
    who: Option<Who>,
    asked: u64,
    failed: u64,
    failed_in_a_row: u64,
    problem: Option<String>,
    told: Option<String>,
    first: Option<Reading>,
    last: Option<(Reading, u64)>,
    peak_in_use: Option<u64>,
    table: Option<(Table, u64)>,
    no_table: Option<String>,
}

impl Go {
    /// Starts the thread that asks.
    ///
    /// # Errors
    /// When the system is out of threads.
    pub fn start(endpoint: Endpoint) -> anyhow::Result<Self> {
        Ok(Self {
            url: endpoint.typed.clone(),
            poll: Poll::start(endpoint)?,
            who: None,
            asked: 0,
            failed: 0,
            failed_in_a_row: 0,
            problem: None,
            told: None,
            first: None,
            last: None,
            peak_in_use: None,
            table: None,
            no_table: None,
        })
    }

    /// Asks about this process from now on; the first that is named stays.
    pub fn ask(&mut self, who: Who) {
        let pid = self.who.get_or_insert(who).pid;
        self.poll.ask(pid);
    }

    pub fn pid(&self) -> Option<u32> {
        self.who.map(|who| who.pid)
    }

    /// A last look, while the process lives; returns what is new.
    pub async fn last(&mut self) -> Vec<(u64, Reading)> {
        let Some(who) = self.who.filter(lives) else {
            return Vec::new();
        };
        let replies = self.poll.last(who.pid).await;
        replies
            .into_iter()
            .filter_map(|reply| self.take(reply))
            .collect()
    }

    /// Takes an answer in; returns the figures, if it holds any.
    pub fn take(&mut self, reply: Reply) -> Option<(u64, Reading)> {
        self.asked += 1;
        match reply.reading {
            Ok(taken) => {
                self.failed_in_a_row = 0;
                Some(self.read(taken))
            }
            Err(problem) => {
                self.failed += 1;
                self.failed_in_a_row += 1;
                if self.failed_in_a_row == FAILURES_TO_TELL && self.told.as_ref() != Some(&problem)
                {
                    say(format_args!(
                        "no MemStats from {}; tracing goes on",
                        escape(&problem, COLUMNS)
                    ));
                    self.told = Some(problem.clone());
                }
                self.problem = Some(problem);
                None
            }
        }
    }

    fn read(&mut self, taken: Taken) -> (u64, Reading) {
        let Taken {
            at_ns,
            reading,
            shares,
            shares_ns,
        } = taken;
        self.first.get_or_insert(reading);
        self.last = Some((reading, at_ns));
        self.peak_in_use = self.peak_in_use.max(Some(reading.stats.heap_inuse));
        // Another process may have the pid by now.
        let shares = shares.filter(|_| self.who.as_ref().is_some_and(lives));
        if let Some(shares) = shares {
            let books = shares
                .map_err(|error| format!("its mappings can't be read: {error}"))
                .and_then(|shares| Books::of(&reading.stats, &shares));
            match books {
                Ok(books) => {
                    let table = Table {
                        books,
                        reading,
                        age_ns: 0,
                        apart_ns: shares_ns.saturating_sub(at_ns),
                    };
                    self.table = Some((table, shares_ns));
                    self.no_table = None;
                }
                Err(why) => {
                    if self.no_table.is_none() {
                        say(format_args!(
                            "MemStats from {} are of no use: {}; tracing goes on",
                            escape(&self.url, COLUMNS),
                            escape(&why, COLUMNS)
                        ));
                    }
                    self.table = None;
                    self.no_table = Some(why);
                }
            }
        }
        (at_ns, reading)
    }

    /// Everything, at the end of the run; the sentences are for whoever knows the other figures.
    pub fn report(&self, end_ns: u64) -> Report {
        let age = |at_ns: u64| end_ns.saturating_sub(at_ns);
        Report {
            url: self.url.clone(),
            asked: self.asked,
            failed: self.failed,
            problem: self.problem.clone(),
            last: self.last.map(|(reading, _)| reading),
            last_age_ns: self.last.map_or(0, |(_, at_ns)| age(at_ns)),
            released_at_start: self.first.map(|first| first.stats.heap_released),
            peak_in_use: self.peak_in_use,
            table: self.table.clone().map(|(table, at_ns)| Table {
                age_ns: age(at_ns),
                ..table
            }),
            no_table: self.no_table.clone(),
            sentences: Vec::new(),
        }
    }
}

/// The next answer; never, where nobody asks.
pub async fn answer(go: &mut Option<Go>) -> Reply {
    match go {
        Some(go) => go.poll.next().await,
        None => std::future::pending().await,
    }
}

/// The process is there, and the same as at the beginning.
fn lives(who: &Who) -> bool {
    proc::stat::read(who.pid).is_ok_and(|stat| {
        !stat.is_dead() && who.start_ticks.is_none_or(|born| born == stat.start_ticks)
    })
}
