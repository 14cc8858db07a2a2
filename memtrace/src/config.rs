//! What a command line asks for, once its options are taken together: validated, with defaults and surroundings applied.

use std::ffi::OsString;
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::attach::FaultSource;
pub use crate::cli::Format;
use crate::cli::{self, Cli, Color, Sub};
use crate::golang::endpoint::Endpoint;
use crate::output::OutputFile;
use crate::proc::page_bytes;
pub use crate::reclaim::Style as ProgressStyle;
use crate::units::Bytes;
use crate::view::filter::{Filter, Kinds};

/// Lines of the text stream that a terminal gets in a second: what a person can follow.
const TERMINAL_LINES: u32 = 50;
/// The largest power of two that the kernel takes as the size of a ring buffer, a 32-bit number.
const MAX_RINGBUF: u64 = 1 << 31;

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Trace(Config),
    Doctor(Report),
    Reclaim(Reclaim),
    /// Be the program that `demo` traces.
    DemoWorkload,
    /// Hold memory for the memtrace with this pid.
    BalloonWorker(u32),
}

/// Whom to trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// At least one, each once, in the order given.
    Pids(Vec<u32>),
    Launch {
        /// At least the command itself.
        argv: Vec<OsString>,
        user: Option<String>,
    },
    /// `memtrace demo-workload`, launched.
    Demo,
}

/// How to trace, and whom.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub target: Target,
    /// Always true for a launched command.
    pub follow_forks: bool,
    pub duration: Option<Duration>,
    /// From 1 ms.
    pub interval: Duration,
    /// Lines for calls and faults.
    pub stream: bool,
    /// A line each interval.
    pub status: bool,
    /// Ended address spaces that keep a summary of their own.
    pub summaries: usize,
    /// Of the stream only.
    pub filter: Filter,
    /// The most lines of the stream in a second; `None` for all of them.
    pub lines_per_second: Option<u32>,
    pub report: Report,
    /// A power of two, and a multiple of the page size.
    pub ringbuf_bytes: u32,
    /// `None`: the first that works.
    pub fault_source: Option<FaultSource>,
    /// Count what the kernel takes of what is lazily free.
    pub reclaim_tracking: bool,
    /// Count what every call releases and every fault populates.
    pub exact_bytes: bool,
    /// Ask this Go process for its own figures.
    pub go_pprof: Option<Endpoint>,
    /// Where Go's runtime tells of itself.
    pub gctrace: Option<GcSource>,
    /// How often -v was given.
    pub verbose: u8,
    /// What was understood differently from what was typed, for -v.
    pub notes: Vec<String>,
}

/// Where the lines of GODEBUG=gctrace=1 are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GcSource {
    File(PathBuf),
    Stdin,
    /// What the command writes to its stderr, on its way to ours.
    CommandStderr,
}

/// From whom to have the kernel take what is lazily free, and how to tell it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reclaim {
    /// At least one, each once, in the order given.
    pub pids: Vec<u32>,
    pub method: Method,
    /// Keep tracing for so long after the reclaim.
    pub watch: Option<Duration>,
    /// Touch nothing.
    pub dry_run: bool,
    /// Go on though memory in use may be swapped out with the rest.
    pub allow_swap: bool,
    /// Every mapping of a dry run, however many a terminal gets.
    pub list_all: bool,
    pub progress: ProgressStyle,
    pub report: Report,
}

/// How the kernel is made to take what is lazily free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// process_madvise with MADV_PAGEOUT.
    Pageout,
    /// memory.reclaim of the cgroup; `whole`: though other processes are in it.
    Cgroup { whole: bool },
    /// Memory of our own until it is gone, at most so much.
    Balloon { max_bytes: u64 },
}

impl Method {
    pub fn name(self) -> &'static str {
        match self {
            Self::Pageout => "pageout",
            Self::Cgroup { .. } => "cgroup",
            Self::Balloon { .. } => "balloon",
        }
    }
}

/// Where the output goes, and how it looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub format: Format,
    pub sink: Sink,
    /// The sink is a terminal.
    pub terminal: bool,
    pub color: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sink {
    Stdout,
    Stderr,
    File(PathBuf),
}

impl Sink {
    /// Makes it ready for writing. A file is made, or emptied, by the first write only.
    ///
    /// # Errors
    /// Those of [`OutputFile::find`].
    pub fn open(&self, stopped: &dyn Fn() -> Option<i32>) -> anyhow::Result<Box<dyn Write + Send>> {
        Ok(match self {
            Self::Stdout => Box::new(io::stdout()),
            Self::Stderr => Box::new(io::stderr()),
            Self::File(path) => Box::new(OutputFile::find(path, stopped)?),
        })
    }
}

/// What a configuration depends on beside the command line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    pub stdout_is_terminal: bool,
    pub stderr_is_terminal: bool,
    /// NO_COLOR is set and not empty, or TERM is `dumb`.
    pub no_color: bool,
}

impl Surroundings {
    pub fn current() -> Self {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        Self {
            stdout_is_terminal: io::stdout().is_terminal(),
            stderr_is_terminal: io::stderr().is_terminal(),
            no_color: no_color || dumb,
        }
    }
}

/// Why options do not go together. The exit status is 2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UsageError {
    NoTarget,
    NothingToReclaim,
    PidsAndCommand,
    /// An option that says whom to trace beside a subcommand that knows it already.
    TargetOfSubcommand(&'static str),
    /// -f, --user or a command beside `reclaim`.
    TracingOnly,
    /// An option of `reclaim`, and the method that it belongs to.
    OptionOfMethod(&'static str, &'static str),
    BalloonWithoutMax,
    BalloonEmpty,
    WatchOfDryRun,
    UserWithoutCommand,
    JsonOverCommand,
    /// --go-pprof beside several processes.
    GoOfSeveral,
    /// --gctrace or --go-pprof beside a subcommand.
    GoOfSubcommand(&'static str),
    /// --gctrace stderr without a command.
    GcTraceStderr,
    /// --gctrace - with a command.
    GcTraceStdin,
    RingbufTooLarge(Bytes),
    RingbufEmpty,
    /// -o names what the run reads, which is this.
    OutputIsInput(&'static str),
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTarget => f.write_str(
                "nothing to trace: give -p PID, or a command behind --, or see `memtrace demo`",
            ),
            Self::NothingToReclaim => {
                f.write_str("`memtrace reclaim` needs -p PID: the processes to take from")
            }
            Self::PidsAndCommand => f.write_str(
                "-p cannot be combined with a command after --",
            ),
            Self::TargetOfSubcommand(name) => {
                write!(f, "`memtrace {name}` takes no -p, -f, --user or command")
            }
            Self::TracingOnly => {
                f.write_str("`memtrace reclaim` takes -p PID, but no -f, --user or command")
            }
            Self::OptionOfMethod(option, method) => {
                write!(f, "{option} requires --method {method}")
            }
            Self::BalloonWithoutMax => f.write_str(
                "--method balloon needs --max BYTES: the most of the machine's memory that it may hold",
            ),
            Self::BalloonEmpty => f.write_str("--max must be more than 0"),
            Self::WatchOfDryRun => {
                f.write_str("--watch cannot be used with --dry-run")
            }
            Self::UserWithoutCommand => {
                f.write_str("--user says whom a command behind -- runs as, and there is none")
            }
            Self::JsonOverCommand => f.write_str(
                "--format json with a command needs -o FILE: stdout and stderr are the command's own",
            ),
            Self::GoOfSeveral => f.write_str(
                "--go-pprof asks one process: give one pid, or run memtrace once for each",
            ),
            Self::GoOfSubcommand(option) => write!(
                f,
                "{option} goes with -p PID or a command behind --, not with a subcommand"
            ),
            Self::GcTraceStderr => f.write_str(
                "--gctrace stderr reads what a command behind -- writes, and there is none; of a running process, \
                 name the file or FIFO that its stderr goes to (`ls -l /proc/PID/fd/2` shows it), or ./stderr for \
                 a file of that name",
            ),
            Self::GcTraceStdin => f.write_str(
                "--gctrace - reads stdin, which is the command's own; --gctrace stderr reads what it writes there",
            ),
            Self::RingbufTooLarge(size) => write!(
                f,
                "--ringbuf-size {size} is too large: the kernel takes at most {}",
                Bytes(MAX_RINGBUF)
            ),
            Self::RingbufEmpty => f.write_str("--ringbuf-size must be more than 0"),
            Self::OutputIsInput(what) => {
                write!(f, "-o names {what}, which would be overwritten: give -o another file")
            }
        }
    }
}

impl std::error::Error for UsageError {}

impl Action {
    /// Takes what was typed together.
    ///
    /// # Errors
    /// When options contradict each other or one is missing.
    pub fn from_cli(cli: Cli, surroundings: &Surroundings) -> Result<Self, UsageError> {
        let target = match &cli.command {
            None => target(&cli.target)?,
            Some(Sub::Demo) => {
                no_target(&cli, "demo")?;
                Target::Demo
            }
            Some(Sub::Doctor) => {
                no_target(&cli, "doctor")?;
                return Ok(Self::Doctor(report(&cli.common.shown, false, surroundings)));
            }
            Some(Sub::Reclaim(args)) => return reclaim(&cli, args, surroundings),
            Some(Sub::DemoWorkload) => {
                no_target(&cli, "demo-workload")?;
                return Ok(Self::DemoWorkload);
            }
            Some(Sub::BalloonWorker { parent }) => {
                no_target(&cli, "balloon-worker")?;
                return Ok(Self::BalloonWorker(*parent));
            }
        };
        let launched = matches!(target, Target::Launch { .. });
        let mut notes = Vec::new();
        let gctrace = gctrace(&cli, launched, surroundings, &mut notes)?;
        let cli::Common {
            duration,
            interval,
            shown,
            kernel,
        } = cli.common;
        let go_pprof = cli.go.go_pprof;
        if go_pprof.is_some() && matches!(&target, Target::Pids(pids) if pids.len() > 1) {
            return Err(UsageError::GoOfSeveral);
        }
        let report = report(&shown, launched, surroundings);
        if launched && report.format == Format::Json && shown.output.is_none() {
            return Err(UsageError::JsonOverCommand);
        }
        let kinds: Kinds = match shown.events[..] {
            [] => Kinds::ALL,
            _ => shown.events.into_iter().collect(),
        };
        Ok(Self::Trace(Config {
            follow_forks: cli.target.follow_forks || target_is_ours(&target),
            target,
            duration,
            interval,
            stream: !shown.quiet,
            status: !shown.no_status,
            summaries: shown.summaries,
            filter: Filter {
                kinds,
                min_bytes: shown.min_size.0,
            },
            lines_per_second: (report.terminal
                && report.format == Format::Text
                && !shown.all_lines)
                .then_some(TERMINAL_LINES),
            report,
            ringbuf_bytes: ringbuf(kernel.ringbuf_size, page_bytes(), &mut notes)?,
            fault_source: kernel.fault_source.map(fault_source),
            reclaim_tracking: !kernel.no_reclaim_tracking,
            exact_bytes: kernel.exact_bytes,
            go_pprof,
            gctrace,
            verbose: shown.verbose,
            notes,
        }))
    }
}

/// Where Go's lines are to be read.
fn gctrace(
    cli: &Cli,
    launched: bool,
    surroundings: &Surroundings,
    notes: &mut Vec<String>,
) -> Result<Option<GcSource>, UsageError> {
    let Some(name) = &cli.go.gctrace else {
        return Ok(None);
    };
    let source = match (name.to_str(), launched) {
        (Some("stderr"), true) => GcSource::CommandStderr,
        (Some("stderr"), false) => return Err(UsageError::GcTraceStderr),
        (Some("-"), true) => return Err(UsageError::GcTraceStdin),
        (Some("-"), false) => GcSource::Stdin,
        _ => GcSource::File(name.clone()),
    };
    if source == GcSource::CommandStderr && surroundings.stderr_is_terminal {
        notes.push(
            "--gctrace stderr: the command's stderr is a pipe to memtrace, and no terminal any more".to_owned(),
        );
    }
    Ok(Some(source))
}

/// Go's lines are read while something is traced.
fn no_go(cli: &Cli) -> Result<(), UsageError> {
    let given = [
        ("--gctrace", cli.go.gctrace.is_some()),
        ("--go-pprof", cli.go.go_pprof.is_some()),
    ];
    match given.into_iter().find(|(_, given)| *given) {
        Some((option, _)) => Err(UsageError::GoOfSubcommand(option)),
        None => Ok(()),
    }
}

/// A subcommand knows what it traces.
fn no_target(cli: &Cli, subcommand: &'static str) -> Result<(), UsageError> {
    no_go(cli)?;
    let cli::TargetArgs {
        pids,
        follow_forks,
        user,
        argv,
    } = &cli.target;
    if pids.is_empty() && !follow_forks && user.is_none() && argv.is_empty() {
        return Ok(());
    }
    Err(UsageError::TargetOfSubcommand(subcommand))
}

fn reclaim(
    cli: &Cli,
    args: &cli::ReclaimArgs,
    surroundings: &Surroundings,
) -> Result<Action, UsageError> {
    no_go(cli)?;
    let cli::TargetArgs {
        pids,
        follow_forks,
        user,
        argv,
    } = &cli.target;
    if *follow_forks || user.is_some() || !argv.is_empty() {
        return Err(UsageError::TracingOnly);
    }
    let pids = each_once(pids.iter().chain(&args.pids));
    if pids.is_empty() {
        return Err(UsageError::NothingToReclaim);
    }
    if args.dry_run && args.watch.is_some() {
        return Err(UsageError::WatchOfDryRun);
    }
    let shown = &cli.common.shown;
    let progress = match (surroundings.stderr_is_terminal, shown.verbose) {
        (true, _) => ProgressStyle::InPlace,
        (false, 0) => ProgressStyle::Silent,
        (false, _) => ProgressStyle::Lines,
    };
    Ok(Action::Reclaim(Reclaim {
        pids,
        method: method(args)?,
        watch: args.watch,
        dry_run: args.dry_run,
        allow_swap: args.allow_swap,
        list_all: shown.verbose > 0 || shown.all_lines,
        progress,
        report: report(shown, false, surroundings),
    }))
}

fn method(args: &cli::ReclaimArgs) -> Result<Method, UsageError> {
    let typed = args.method;
    if args.whole_cgroup && typed != cli::ReclaimMethod::Cgroup {
        return Err(UsageError::OptionOfMethod("--whole-cgroup", "cgroup"));
    }
    if args.max.is_some() && typed != cli::ReclaimMethod::Balloon {
        return Err(UsageError::OptionOfMethod("--max", "balloon"));
    }
    Ok(match (typed, args.max) {
        (cli::ReclaimMethod::Pageout, _) => Method::Pageout,
        (cli::ReclaimMethod::Cgroup, _) => Method::Cgroup {
            whole: args.whole_cgroup,
        },
        (cli::ReclaimMethod::Balloon, None) => return Err(UsageError::BalloonWithoutMax),
        (cli::ReclaimMethod::Balloon, Some(Bytes(0))) => return Err(UsageError::BalloonEmpty),
        (cli::ReclaimMethod::Balloon, Some(max)) => Method::Balloon { max_bytes: max.0 },
    })
}

fn each_once<'a>(lists: impl Iterator<Item = &'a cli::Pids>) -> Vec<u32> {
    let mut pids = Vec::new();
    for &pid in lists.flat_map(|list| &list.0) {
        if !pids.contains(&pid) {
            pids.push(pid);
        }
    }
    pids
}

fn target(args: &cli::TargetArgs) -> Result<Target, UsageError> {
    let pids = each_once(args.pids.iter());
    match (pids.is_empty(), args.argv.is_empty()) {
        (false, false) => Err(UsageError::PidsAndCommand),
        (_, true) if args.user.is_some() => Err(UsageError::UserWithoutCommand),
        (true, true) => Err(UsageError::NoTarget),
        (false, true) => Ok(Target::Pids(pids)),
        (true, false) => Ok(Target::Launch {
            argv: args.argv.clone(),
            user: args.user.clone(),
        }),
    }
}

/// We launch it, so that its children are its own doing.
fn target_is_ours(target: &Target) -> bool {
    matches!(target, Target::Launch { .. } | Target::Demo)
}

/// `launched`: stdout and stdin belong to the command, and text goes to stderr.
fn report(shown: &cli::Shown, launched: bool, surroundings: &Surroundings) -> Report {
    let sink = match &shown.output {
        Some(path) if path == Path::new("-") => Sink::Stdout,
        Some(path) => Sink::File(path.clone()),
        None if launched => Sink::Stderr,
        None => Sink::Stdout,
    };
    let terminal = match sink {
        Sink::Stdout => surroundings.stdout_is_terminal,
        Sink::Stderr => surroundings.stderr_is_terminal,
        Sink::File(_) => false,
    };
    let color = match shown.color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => terminal && !surroundings.no_color,
    };
    Report {
        format: shown.format,
        sink,
        terminal,
        color: color && shown.format == Format::Text,
    }
}

/// The size as the kernel takes it (kernel/bpf/ringbuf.c:ringbuf_map_alloc): a power of two of whole pages.
fn ringbuf(size: Bytes, page: u64, notes: &mut Vec<String>) -> Result<u32, UsageError> {
    if size.0 == 0 {
        return Err(UsageError::RingbufEmpty);
    }
    let too_large = UsageError::RingbufTooLarge(size);
    if size.0 > MAX_RINGBUF {
        return Err(too_large);
    }
    let rounded = size.0.max(page).next_power_of_two();
    if rounded != size.0 {
        notes.push(format!(
            "--ringbuf-size {size} is rounded up to {}: the kernel takes powers of two of whole pages",
            Bytes(rounded)
        ));
    }
    u32::try_from(rounded).map_err(|_| too_large)
}

fn fault_source(typed: cli::FaultSource) -> FaultSource {
    match typed {
        cli::FaultSource::TpBtf => FaultSource::TpBtf,
        cli::FaultSource::RawTp => FaultSource::RawTp,
        cli::FaultSource::Tracepoint => FaultSource::Tracepoint,
    }
}
