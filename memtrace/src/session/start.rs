//! The start of a run: finds or launches the targets, attaches, and reads what they have mapped.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt as _;
use std::time::SystemTime;

use anyhow::{Context as _, anyhow};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::ending::is_answered;
use super::identity::{Beside, still_there};
use super::targets::Running;
use super::tracker::Tracker;
use super::{is_closed_pipe, kernel_log};
use crate::attach::{self, Attached, FaultSource, Options, RingEnds};
use crate::clock;
use crate::config::{Config, Target};
use crate::kernel::Kernel;
use crate::launch::{Launch, LaunchError, exit_code};
use crate::ledger::event::{Begin, Event};
use crate::proc;
use crate::say::say;
use crate::units;
use crate::view;

/// Everything is attached; a launched command waits to be let go.
pub struct Started {
    pub attached: Attached,
    pub ends: RingEnds,
    pub launched: Option<Launched>,
}

/// Attaches to the targets; `running` are those that were there before. Of these, the header has been
/// written on return. A command that is launched gets `stderr` for its own, if there is one.
pub fn attach(
    config: &Config,
    running: Vec<Running>,
    stderr: Option<OwnedFd>,
    tracker: &mut Tracker,
) -> anyhow::Result<Started> {
    match &config.target {
        Target::Pids(_) => attach_to_running(config, running, tracker),
        Target::Launch { argv, user } => {
            let launch = Launch::prepare_with(argv, user.as_deref(), stderr.as_ref());
            // The command has it: its end must not wait for ours.
            drop(stderr);
            attach_to_launched(config, launch, false, tracker)
        }
        Target::Demo => {
            let ourselves = std::env::current_exe().context("cannot find memtrace's own file")?;
            let argv = [ourselves.into_os_string(), "demo-workload".into()];
            attach_to_launched(config, Launch::prepare(&argv, None), true, tracker)
        }
    }
}

fn attach_to_running(
    config: &Config,
    targets: Vec<Running>,
    tracker: &mut Tracker,
) -> anyhow::Result<Started> {
    if let [only] = &targets[..] {
        tracker.listens_to(only.process.pid);
    }
    for target in &targets {
        // Goes on while the programs are loaded.
        tracker.recognise.ask((target.process.pid, 0));
    }
    let pids = targets.iter().map(|target| target.process.pid).collect();
    let (mut attached, ends) = attach_programs(config, pids, true)?;
    tracker.attached(clock::now_ns());
    let targets = still_there(targets, tracker, &mut attached)?;
    let sharing = std::mem::take(&mut attached.sharing);
    let begin_ns = clock::now_ns();
    let beside = Beside::of(sharing, &targets, tracker, &mut attached);
    for target in &targets {
        let pid = target.process.pid;
        if beside.stands_for(pid).is_none() {
            begin_running(target, tracker, &attached);
            tracker.count_exactly(pid, &mut attached);
        }
    }
    beside.begin(&targets, begin_ns, tracker);
    let images: Vec<_> = targets
        .iter()
        .map(|target| (target.process.pid, 0))
        .collect();
    tracker.recognise.wait_for_header(&images);
    let targets = targets.into_iter().map(|target| view::Target {
        pid: target.process.pid,
        comm: target.process.comm,
        exe: target.process.exe,
        runtime: tracker.recognise.line((target.process.pid, 0)),
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
fn begin_running(target: &Running, tracker: &mut Tracker, attached: &Attached) {
    let process = &target.process;
    let pid = process.pid;
    // What was recorded since the programs were attached is older, and dropped: on which mappings it
    // fell nobody knows. Stamped before the read: what changes while it goes on is then applied on top of it.
    let at_ns = clock::now_ns();
    attached.end_epoch();
    tracker.remember(pid, process.start_ticks);
    tracker.begin(Begin {
        at_ns,
        pid,
        comm: process.comm.clone(),
        before_exec: false,
    });
    let maps = proc::maps::read(pid);
    let folios = tracker.enrich.folios(pid);
    // Whoever has the pid by now may have been read; of the target's end there is a record.
    if !target.lives() {
        return;
    }
    match maps {
        Ok(mut maps) => {
            tracker.flags.add_to(&mut maps, pid);
            tracker.event(Event::Mappings(maps.into_event(pid, at_ns, false)));
        }
        Err(error) if proc::is_gone(&error) => {}
        Err(error) => tracker.unreadable(pid, &error),
    }
    if let Some(Event::Folios(mut folios)) = folios {
        folios.at_ns = at_ns;
        tracker.event(Event::Folios(folios));
    }
    tracker.sample(pid);
    tracker.look_first(pid);
}

fn attach_to_launched(
    config: &Config,
    launch: Result<Launch, LaunchError>,
    is_demo: bool,
    tracker: &mut Tracker,
) -> anyhow::Result<Started> {
    let launch = launch.map_err(|error| anyhow!("{error}"))?;
    let pid = launch.pid();
    tracker.listens_to(pid);
    let (attached, ends) = attach_programs(config, vec![pid], false)?;
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
            is_demo,
        }),
    })
}

fn attach_programs(
    config: &Config,
    pids: Vec<u32>,
    running: bool,
) -> anyhow::Result<(Attached, RingEnds)> {
    let options = Options {
        pids,
        running,
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
            say(format_args!("{source} does not work here: {why}"));
        }
        say(format_args!(
            "page faults come from {}",
            attached.fault_source
        ));
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
    /// Our own program: it has no business without us, nor a status that anybody waits for.
    is_demo: bool,
}

impl Launched {
    /// Lets the command run; an exit status if it could not.
    pub fn exec(
        &mut self,
        tracker: &mut Tracker,
        attached: &mut Attached,
    ) -> anyhow::Result<Option<u8>> {
        let mut written = Ok(());
        let fault_source = self.fault_source;
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
            tracker.recognise.wait_for_header(&[(pid, 0)]);
            let target = view::Target {
                pid,
                comm: proc::comm(pid).unwrap_or_default(),
                exe: proc::exe(pid),
                runtime: tracker.recognise.line((pid, 0)),
            };
            written = header(fault_source, vec![target]).and_then(|header| tracker.header(&header));
            // Before its first instruction: a command that nothing can be written of is not to run unseen.
            if written.as_ref().is_err_and(|error| !is_closed_pipe(error)) {
                // SAFETY: kill takes integers; the pid is our own child's, which is not reaped yet.
                unsafe { libc::kill(pid as libc::pid_t, libc::SIGKILL) };
            }
        });
        match result {
            Ok(()) => written.map(|()| None),
            Err(error) => {
                say(&error);
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
            Ok(Some(status)) if self.is_demo && status.signal().is_some_and(is_answered) => 0,
            Ok(Some(status)) => exit_code(status),
            // By --duration: it runs on, and we are done.
            _ => 0,
        }
    }
}

impl Drop for Launched {
    fn drop(&mut self) {
        if self.is_demo && matches!(self.launch.reap(), Ok(None)) {
            // SAFETY: kill takes integers; the pid is our own child's, which is not reaped yet.
            unsafe { libc::kill(self.launch.pid() as libc::pid_t, libc::SIGKILL) };
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
