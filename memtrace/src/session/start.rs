//! The start of a run: finds or launches the targets, attaches, and reads what they have mapped.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::time::SystemTime;

use anyhow::{Context as _, anyhow};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::kernel_log;
use super::tracker::Tracker;
use crate::attach::{self, Attached, FaultSource, Options, RingEnds};
use crate::clock;
use crate::config::{Config, Target};
use crate::kernel::Kernel;
use crate::launch::{Launch, exit_code};
use crate::ledger::event::{Begin, Event, Exit};
use crate::proc;
use crate::proc::resolve::{Process, resolve};
use crate::units;
use crate::view;

/// Everything is attached; a launched command waits to be let go.
pub struct Started {
    pub attached: Attached,
    pub ends: RingEnds,
    pub launched: Option<Launched>,
}

/// Attaches to the targets. Of running ones, the header has been written on return. A command that is
/// launched gets `stderr` for its own, if there is one.
pub fn attach(
    config: &Config,
    stderr: Option<OwnedFd>,
    tracker: &mut Tracker,
) -> anyhow::Result<Started> {
    match &config.target {
        Target::Pids(pids) => attach_to_running(config, pids, tracker),
        Target::Launch { argv, user } => {
            attach_to_launched(config, argv, user.as_deref(), stderr, tracker)
        }
        Target::Demo => {
            let ourselves = std::env::current_exe().context("cannot find memtrace's own file")?;
            let argv = [ourselves.into_os_string(), "demo-workload".into()];
            attach_to_launched(config, &argv, None, None, tracker)
        }
    }
}

fn attach_to_running(
    config: &Config,
    pids: &[u32],
    tracker: &mut Tracker,
) -> anyhow::Result<Started> {
    let mut processes: Vec<Process> = Vec::new();
    for &pid in pids {
        let process = resolve(pid).map_err(|error| anyhow!("{error}"))?;
        if let Some(note) = &process.note {
            eprintln!("memtrace: {note}");
        }
        if !processes.iter().any(|known| known.pid == process.pid) {
            processes.push(process);
        }
    }
    if let [only] = &processes[..] {
        tracker.listens_to(only.pid);
    }
    for process in &processes {
        // Goes on while the programs are loaded.
        tracker.recognise.ask((process.pid, 0));
    }
    let pids = processes.iter().map(|process| process.pid).collect();
    // From here on, so that nothing that is recorded while we attach comes before its process.
    let begin_ns = clock::now_ns();
    let (mut attached, ends) = attach_programs(config, pids)?;
    tracker.attached(clock::now_ns());
    for process in &processes {
        begin_running(process, begin_ns, tracker, &attached);
        tracker.count_exactly(process.pid, &mut attached);
    }
    let targets = processes.into_iter().map(|process| view::Target {
        pid: process.pid,
        comm: process.comm,
        exe: process.exe,
        runtime: tracker.recognise.line((process.pid, 0)),
    });
    let targets = targets.collect();
    tracker.header(&header(attached.fault_source, targets)?)?;
    Ok(Started {
        attached,
        ends,
        launched: None,
    })
}

/// Tells the ledger of a process that was there before, and of what it has.
fn begin_running(process: &Process, begin_ns: u64, tracker: &mut Tracker, attached: &Attached) {
    let pid = process.pid;
    let at_ns = clock::now_ns();
    attached.end_epoch();
    tracker.remember(pid, process.start_ticks);
    tracker.begin(Begin {
        at_ns: begin_ns,
        pid,
        comm: process.comm.clone(),
        before_exec: false,
    });
    // The pid may have died and be another's by now; then nothing of what follows is its own.
    let same = proc::stat::read(pid)
        .is_ok_and(|stat| stat.start_ticks == process.start_ticks && !stat.is_dead());
    if !same {
        tracker.event(Event::Exit(Exit {
            at_ns,
            pid,
            status: None,
        }));
        return;
    }
    // Stamped before the read: what changes while it goes on is then applied on top of it.
    if let Ok(maps) = proc::maps::read(pid) {
        tracker.event(Event::Mappings(maps.into_event(pid, at_ns, false)));
    }
    if let Some(Event::Folios(mut folios)) = tracker.enrich.folios(pid) {
        folios.at_ns = at_ns;
        tracker.event(Event::Folios(folios));
    }
    tracker.sample(pid);
    tracker.look_first(pid);
}

fn attach_to_launched(
    config: &Config,
    argv: &[OsString],
    user: Option<&str>,
    stderr: Option<OwnedFd>,
    tracker: &mut Tracker,
) -> anyhow::Result<Started> {
    let launch = Launch::prepare_with(argv, user, stderr.as_ref());
    let launch = launch.map_err(|error| anyhow!("{error}"))?;
    // The command has it: its end must not wait for ours.
    drop(stderr);
    let pid = launch.pid();
    tracker.listens_to(pid);
    let (attached, ends) = attach_programs(config, vec![pid])?;
    tracker.begin(Begin {
        at_ns: clock::now_ns(),
        pid,
        comm: String::new(),
        before_exec: true,
    });
    // SAFETY: the AsyncFd owns the descriptor.
    let ended = unsafe { AsyncFd::register_with_interest(launch.pidfd()?, Interest::READABLE) }
        .map_err(io::Error::from)
        .context("cannot wait for the command")?;
    let fault_source = attached.fault_source;
    Ok(Started {
        attached,
        ends,
        launched: Some(Launched {
            launch,
            ended,
            fault_source,
        }),
    })
}

fn attach_programs(config: &Config, pids: Vec<u32>) -> anyhow::Result<(Attached, RingEnds)> {
    let options = Options {
        pids,
        follow_forks: config.follow_forks,
        fault_source: config.fault_source,
        ringbuf_bytes: config.ringbuf_bytes,
        log_level: kernel_log::level(config.verbose),
        counts_pages: config.reclaim_tracking || config.exact_bytes,
        exact_bytes: config.exact_bytes,
    };
    let (attached, ends) = attach::attach(&options)?;
    if config.verbose > 0 {
        for (source, why) in &attached.passed_over {
            eprintln!("memtrace: {source} does not work here: {why}");
        }
        eprintln!("memtrace: page faults come from {}", attached.fault_source);
    }
    Ok((attached, ends))
}

fn header(fault_source: FaultSource, targets: Vec<view::Target>) -> anyhow::Result<view::Header> {
    let kernel = Kernel::running().context("uname")?;
    Ok(view::Header {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        kernel: kernel.release,
        arch: kernel.machine,
        page_bytes: proc::page_bytes(),
        started_at: units::Rfc3339(SystemTime::now()).to_string(),
        start_ns: clock::now_ns(),
        fault_source: fault_source.name(),
        targets,
    })
}

/// A command of ours.
pub struct Launched {
    launch: Launch,
    ended: AsyncFd<OwnedFd>,
    fault_source: FaultSource,
}

impl Launched {
    /// Lets the command run; an exit status if it could not.
    pub fn exec(
        &mut self,
        tracker: &mut Tracker,
        attached: &mut Attached,
    ) -> anyhow::Result<Option<u8>> {
        let mut target = None;
        let result = self.launch.exec(|pid| {
            // It stands at its first instruction: what is mapped now is all that exec mapped.
            if let Ok(maps) = proc::maps::read(pid) {
                let mappings = maps.into_event(pid, clock::now_ns(), true);
                tracker.enrich.first_image(mappings);
            }
            tracker.sample(pid);
            tracker.count_exactly(pid, attached);
            // Its libraries are not mapped yet: it is looked at again when it has exec'd.
            tracker.recognise.ask((pid, 0));
            target = Some(view::Target {
                pid,
                comm: proc::comm(pid).unwrap_or_default(),
                exe: proc::exe(pid),
                runtime: tracker.recognise.line((pid, 0)),
            });
        });
        match result {
            Ok(()) => {
                let targets = target.into_iter().collect();
                tracker.header(&header(self.fault_source, targets)?)?;
                Ok(None)
            }
            Err(error) => {
                eprintln!("memtrace: {error}");
                Ok(Some(error.exit_code()))
            }
        }
    }

    /// Passes a signal on to the command, if it came to us alone.
    pub fn pass_on(&mut self, signal: i32) {
        // Ctrl-C is sent to the whole foreground group: the command has it already.
        if signal == libc::SIGINT {
            return;
        }
        // SAFETY: kill takes integers; the pid is our own child's, which is not reaped yet.
        unsafe { libc::kill(self.launch.pid() as libc::pid_t, signal) };
    }

    /// Its own exit status if it has ended; 0 if it runs on.
    pub fn exit_status(&mut self) -> u8 {
        match self.launch.reap() {
            Ok(Some(status)) => exit_code(status),
            // By --duration: it runs on, and we are done.
            _ => 0,
        }
    }
}

/// Resolves when the command has ended; never, where none was launched.
pub async fn ended(launched: &mut Option<Launched>) -> io::Result<()> {
    match launched {
        Some(launched) => launched.ended.readable().await.map(drop),
        None => std::future::pending().await,
    }
}
