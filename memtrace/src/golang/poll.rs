//! Asks for MemStats in a thread of its own, and looks at the mappings beside them.

use std::sync::mpsc;

use anyhow::Context as _;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::Reading;
use super::endpoint::Endpoint;
use super::fetch::Client;
use crate::clock;
use crate::proc::shares::{self, Shares};
use crate::rights;

/// For one part of CPU time spent on the walk through the mappings, so many of none.
const REST: u64 = 99;

/// An answer of the thread.
#[derive(Debug)]
pub struct Reply {
    /// When it was asked for.
    pub asked_ns: u64,
    pub reading: Result<Taken, String>,
}

/// What was read.
#[derive(Clone, Debug)]
pub struct Taken {
    /// When the answer had come.
    pub at_ns: u64,
    pub reading: Reading,
    /// The mappings right after it; not each time, since a large process's take a while.
    pub shares: Option<Result<Shares, String>>,
    /// When they had been read.
    pub shares_ns: u64,
}

/// The thread, and whether it is at work.
pub struct Poll {
    requests: Option<mpsc::Sender<Request>>,
    replies: UnboundedReceiver<Reply>,
    busy: bool,
}

#[derive(Clone, Copy)]
struct Request {
    pid: u32,
    /// Look at the mappings though it is too soon.
    last: bool,
}

impl Poll {
    /// Starts the thread, which sleeps until it is asked.
    ///
    /// # Errors
    /// When the system is out of threads.
    pub fn start(endpoint: Endpoint) -> anyhow::Result<Self> {
        let (requests, asked) = mpsc::channel::<Request>();
        let (answers, replies) = unbounded_channel();
        std::thread::Builder::new()
            .name("go-pprof".to_owned())
            .spawn(move || {
                let mut client = Client::new(endpoint);
                let mut not_before_ns = 0;
                for request in asked {
                    let reply = answer(&mut client, request, &mut not_before_ns);
                    if answers.send(reply).is_err() {
                        break;
                    }
                }
            })
            .context("cannot start the thread that asks for MemStats")?;
        Ok(Self {
            requests: Some(requests),
            replies,
            busy: false,
        })
    }

    /// Asks, unless the last answer is still to come.
    pub fn ask(&mut self, pid: u32) {
        self.request(Request { pid, last: false });
    }

    /// A last look, which waits for the answer.
    pub async fn last(&mut self, pid: u32) -> Vec<Reply> {
        let mut replies = Vec::new();
        while self.busy {
            replies.push(self.next().await);
        }
        self.request(Request { pid, last: true });
        if self.busy {
            replies.push(self.next().await);
        }
        replies
    }

    /// The next answer; never resolves while nothing was asked.
    pub async fn next(&mut self) -> Reply {
        match self.replies.recv().await {
            Some(reply) => {
                self.busy = false;
                reply
            }
            // The thread ends with us only.
            None => std::future::pending().await,
        }
    }

    fn request(&mut self, request: Request) {
        if !self.busy
            && let Some(requests) = &self.requests
        {
            self.busy = requests.send(request).is_ok();
        }
    }
}

fn answer(client: &mut Client, request: Request, not_before_ns: &mut u64) -> Reply {
    let asked_ns = clock::now_ns();
    // TLS reads the files of certificates that the environment names (SSL_CERT_FILE).
    let reading = rights::with_own(|| client.read()).unwrap_or_else(|why| Err(why.to_string()));
    let at_ns = clock::now_ns();
    let reading = reading.map(|reading| {
        let due = request.last || at_ns >= *not_before_ns;
        let shares = due.then(|| {
            let before_ns = clock::thread_cpu_ns();
            let shares = shares::read(request.pid).map_err(|error| error.to_string());
            let cost_ns = clock::thread_cpu_ns().saturating_sub(before_ns);
            *not_before_ns = clock::now_ns() + REST * cost_ns;
            shares
        });
        Taken {
            at_ns,
            reading,
            shares,
            shares_ns: clock::now_ns(),
        }
    });
    Reply { asked_ns, reading }
}
