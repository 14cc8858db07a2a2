//! The command line as it is typed; what it means together is decided in `config`.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{
    ArgAction, ArgMatches, Args, CommandFactory, FromArgMatches as _, Parser, Subcommand, ValueEnum,
};

use crate::config::{Action, Surroundings, UsageError};
use crate::golang::endpoint::Endpoint;
use crate::overwrite;
use crate::units::Bytes;
use crate::view::filter::Kind;

const USAGE: &str = "\
memtrace [OPTIONS] -p PID[,PID...] [-f]
       memtrace [OPTIONS] [--user NAME] -- CMD [ARGS...]
       memtrace [OPTIONS] demo
       memtrace doctor
       memtrace reclaim -p PID[,PID...] [--method METHOD] [--dry-run]";

const ABOUT: &str = "\
Tell a leak from lazily freed memory: trace what a process releases and faults back in

Its RSS stays high: is that a leak, or memory already given back with MADV_FREE that the \
kernel has not taken yet? And what do the page faults cost that giving memory back brings? \
memtrace watches a live process from outside, without restarting it: a stream of its madvise, \
mmap and munmap calls and page faults, a status line each second, and a summary at the end.";

const EXAMPLES: &str = "\
Examples:
  sudo memtrace demo                         see what the output means, on a built-in program
  sudo memtrace -p 1234                      trace a running process; Ctrl-C ends with the summary
  sudo memtrace -q -p \"$(pidof postgres)\"    several processes, status lines and summaries only
  sudo memtrace -p 1234 -e madvise,fault --min-size 1M
                                             only large releases and faults
  sudo memtrace --duration 30 --format json -o run.json -p 1234
                                             30 seconds, for a script
  sudo memtrace --user www -- ./server --port 80
                                             a command from its first instruction, its children too
  sudo GODEBUG=gctrace=1 memtrace --gctrace stderr -- ./server
                                             a Go program, beside what its collector says
  sudo memtrace reclaim -p 1234              have the kernel take what is lazily free, now
  sudo memtrace doctor                       what works on this machine, and what does not

Sizes take K, M and G (powers of 1024).
Data goes to stdout (with -- CMD, to stderr), messages to stderr.
Exit status: 0 at the end of the trace, or CMD's own; 1 if nothing could be traced;
2 for a wrong command line.";

const DOCTOR_HELP: &str = "\
Check what works on this machine, and say what to do about what does not

It loads and attaches what memtrace traces with, for a moment, and looks at the kernel, its
settings and this user's capabilities. Exit status: 0 if tracing can work, 1 if not.

Usage: memtrace doctor [OPTIONS]

Options:
      --format <FORMAT>  Text for people, or one JSON object [default: text] [values: text, json]
  -o, --output <FILE>    Write to this file instead of to stdout
      --color <WHEN>     Colours: auto, always, never [default: auto]
  -h, --help             Print help
";

const RECLAIM_HELP: &str = "\
Have the kernel take what a process has freed lazily (MADV_FREE), now and without a restart

It asks for the private anonymous mappings that hold lazily freed memory, by process_madvise with
MADV_PAGEOUT, and shows RSS and LazyFree before and after. No content is lost that the program
still counts on. Memory that it uses again costs a page fault for each page.
Two other methods put the process under real memory pressure, as a proof.
Exit status: 0 on success, also when there was nothing to reclaim; 1 if any process was skipped.

Usage: memtrace reclaim [OPTIONS] -p PID[,PID...]

Options:
  -p, --pid <PID[,PID...]>  Processes, by pid, separated by commas or blanks; may be given again
      --method <METHOD>  How the kernel is made to take it [default: pageout]
                           pageout  asks for the process's own pages, and for no others
                           cgroup   memory.reclaim of its cgroup (cgroup v2, Linux 5.19 or newer) with
                                    swappiness=0: the cgroup's page cache goes too, and goes first
                           balloon  fills the machine's memory step by step until what is lazily free is
                                    gone: page cache goes first. It stops at a floor of 5% of all memory
                                    (256M at least), when tasks stall for memory, and at --max
      --whole-cgroup     Allow reclaim from a cgroup that contains other processes
      --max <BYTES>      Maximum size of the balloon, for example 4G (with --method balloon)
      --watch <SECS>     Keep tracing for SECS after the reclaim, and report how much memory was
                         faulted back in and what that cost; Ctrl-C ends it earlier. It needs what
                         tracing needs (see `memtrace doctor`)
      --dry-run          Show the mappings and what would be done, and touch nothing
      --allow-swap       Proceed even if memory in use could be swapped out
      --format <FORMAT>  Text for people, or one JSON object a process [default: text] [values: text, json]
  -o, --output <FILE>    Write to this file instead of to stdout
      --color <WHEN>     Colours: auto, always, never [default: auto]
  -v, --verbose          List all mappings of a dry run, and show progress where stderr is no terminal
  -h, --help             Print help

pageout needs CAP_SYS_NICE, all of them CAP_SYS_PTRACE for other users' processes; no BPF without
--watch. Linux 5.10 or newer.
";

/// What was typed.
#[derive(Debug, Parser)]
#[command(
    name = "memtrace",
    version,
    about = "Tell a leak from lazily freed memory: trace what a process releases and faults back in",
    long_about = ABOUT,
    override_usage = USAGE,
    after_help = EXAMPLES,
    max_term_width = 100,
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Sub>,

    #[command(flatten)]
    pub target: TargetArgs,

    #[command(flatten)]
    pub go: GoArgs,

    #[command(flatten)]
    pub common: Common,
}

#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum Sub {
    /// Trace a built-in program that gives memory back in every way; ends by itself
    #[command(override_usage = "memtrace demo [OPTIONS]")]
    Demo,
    /// Check what works on this machine, and say what to do about what does not
    // Its own help, since most of the common options mean nothing to it.
    #[command(override_usage = "memtrace doctor [--format json] [-o FILE]", override_help = DOCTOR_HELP)]
    Doctor,
    /// Have the kernel take what a process has freed lazily, now and without a restart
    #[command(override_usage = "memtrace reclaim [OPTIONS] -p PID[,PID...]", override_help = RECLAIM_HELP)]
    Reclaim(ReclaimArgs),
    /// The program that `demo` traces
    #[command(hide = true)]
    DemoWorkload,
    /// The memory that `reclaim --method balloon` holds
    #[command(hide = true)]
    BalloonWorker {
        /// Whose balloon it is
        parent: u32,
    },
}

#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct ReclaimArgs {
    /// Processes to take from
    #[arg(
        short,
        long = "pid",
        value_name = "PID[,PID...]",
        allow_negative_numbers = true
    )]
    pub pids: Vec<Pids>,

    /// How the kernel is made to take it
    #[arg(long, value_enum, default_value_t)]
    pub method: ReclaimMethod,

    /// Allow reclaim from a cgroup that contains other processes
    #[arg(long)]
    pub whole_cgroup: bool,

    /// Maximum size of the balloon
    #[arg(long, value_name = "BYTES")]
    pub max: Option<Bytes>,

    /// Keep tracing for so long after the reclaim
    #[arg(long, value_name = "SECS", allow_negative_numbers = true, value_parser = seconds)]
    pub watch: Option<Duration>,

    /// Show what would be taken, and touch nothing
    #[arg(long)]
    pub dry_run: bool,

    /// Proceed even if memory in use could be swapped out
    #[arg(long)]
    pub allow_swap: bool,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "What to trace")]
pub struct TargetArgs {
    /// Processes to trace, by pid, separated by commas or blanks; may be given more than once
    #[arg(
        short,
        long = "pid",
        value_name = "PID[,PID...]",
        allow_negative_numbers = true
    )]
    pub pids: Vec<Pids>,

    /// Trace the children of those processes too (with -- CMD they always are)
    #[arg(short, long)]
    pub follow_forks: bool,

    /// Run CMD as this user instead of as the one who runs memtrace
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,

    /// A command to launch and trace from its first instruction, with its arguments
    #[arg(last = true, value_name = "CMD")]
    pub argv: Vec<OsString>,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Go programs")]
pub struct GoArgs {
    /// Ask a Go program that serves net/http/pprof or expvar for its MemStats, each interval, and
    /// set them beside the RSS: HOST:PORT, or a URL
    #[arg(long, value_name = "URL")]
    pub go_pprof: Option<Endpoint>,

    /// Where Go's GODEBUG=gctrace=1,scavtrace=1 lines are: a file that grows, - for stdin, or with
    /// -- CMD the word stderr, for what CMD writes there (it is passed on unchanged)
    #[arg(long, value_name = "FILE")]
    pub gctrace: Option<PathBuf>,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "When")]
pub struct Common {
    /// End after this many seconds (1.5 is fine) instead of at Ctrl-C or the target's exit
    #[arg(long, global = true, value_name = "SECS", allow_negative_numbers = true, value_parser = seconds)]
    pub duration: Option<Duration>,

    /// Seconds from one status line to the next
    #[arg(long, global = true, value_name = "SECS", default_value = "1", allow_negative_numbers = true, value_parser = seconds)]
    pub interval: Duration,

    #[command(flatten)]
    pub shown: Shown,

    #[command(flatten)]
    pub kernel: KernelArgs,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "What to show")]
pub struct Shown {
    /// No stream of events; status lines and summary stay
    #[arg(short, long, global = true)]
    pub quiet: bool,

    /// No status lines
    #[arg(long, global = true)]
    pub no_status: bool,

    /// Events to stream: madvise, mmap, munmap, mremap, brk, fault, process, gc (totals count all)
    #[arg(short, long, global = true, value_name = "LIST", value_delimiter = ',')]
    pub events: Vec<Kind>,

    /// Stream only events of this size and larger, such as 64K (totals count all)
    #[arg(long, global = true, value_name = "BYTES", default_value = "0")]
    pub min_size: Bytes,

    /// Show every event on a terminal, where otherwise 50 lines a second are the most
    #[arg(long, global = true)]
    pub all_lines: bool,

    /// Text for people, or one JSON object a line
    #[arg(long, global = true, value_enum, default_value_t = Format::Text)]
    pub format: Format,

    /// Programs that have ended and keep a summary of their own; the smallest of those beyond are
    /// summed up by name. Each costs memtrace some kilobytes
    #[arg(long, global = true, value_name = "N", default_value_t = crate::ledger::folded::KEPT)]
    pub summaries: usize,

    /// Write to this file instead of to stdout (- is stdout). A new one is readable by you alone
    #[arg(short, long, global = true, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Colours: auto is on a terminal, unless NO_COLOR is set
    #[arg(long, global = true, value_name = "WHEN", value_enum, default_value_t = Color::Auto)]
    pub color: Color,

    /// Say more about what memtrace does, on stderr; -vv says still more
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Kernel side")]
pub struct KernelArgs {
    /// Room for events on their way from the kernel; raise it when events are lost. Rounded up to a power of two
    #[arg(long, global = true, value_name = "BYTES", default_value = "8M")]
    pub ringbuf_size: Bytes,

    /// Where page faults are taken from, instead of from the first of these that works
    #[arg(long, global = true, value_name = "SOURCE", value_enum)]
    pub fault_source: Option<FaultSource>,

    /// Do not count what the kernel takes of lazily freed memory. The count is on only while a
    /// traced process has some; meanwhile it costs every process a little on each change of its RSS
    #[arg(long, global = true, conflicts_with = "exact_bytes")]
    pub no_reclaim_tracking: bool,

    /// Measure what every call releases and every fault populates, where the default derives it
    /// from the pages seen populated. Costs more, on every process
    #[arg(long, global = true)]
    pub exact_bytes: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    #[default]
    Text,
    Json,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Color {
    #[default]
    Auto,
    Always,
    Never,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ReclaimMethod {
    #[default]
    Pageout,
    Cgroup,
    Balloon,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum FaultSource {
    /// A tracepoint typed by the kernel's BTF: the cheapest
    TpBtf,
    /// A raw tracepoint: needs neither BTF nor tracefs
    RawTp,
    /// The classic tracepoint
    Tracepoint,
}

/// Pids as typed in one place: `1,2` or `1 2`, as `$(pidof x)` gives them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pids(pub Vec<u32>);

impl FromStr for Pids {
    type Err = PidError;

    fn from_str(text: &str) -> Result<Self, PidError> {
        let words = text.split([',', ' ', '\t', '\n']).filter(|w| !w.is_empty());
        let pids = words
            .map(|word| match word.parse::<i32>() {
                Ok(pid) if pid > 0 => {
                    u32::try_from(pid).map_err(|_| PidError::NotAPid(word.to_owned()))
                }
                _ => Err(PidError::NotAPid(word.to_owned())),
            })
            .collect::<Result<Vec<_>, _>>()?;
        if pids.is_empty() {
            return Err(PidError::None);
        }
        Ok(Self(pids))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PidError {
    None,
    NotAPid(String),
}

impl fmt::Display for PidError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("no pid; did pidof or pgrep find no process?"),
            Self::NotAPid(word) => {
                write!(f, "{word:?} is not a pid; use pidof or pgrep to find one")
            }
        }
    }
}

impl std::error::Error for PidError {}

/// Seconds with a fraction, from a thousandth to 31 years.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_| "not a number of seconds, such as 10 or 0.5".to_owned())?;
    if seconds.is_nan() || seconds < 0.001 {
        return Err("the shortest time is 0.001 seconds".to_owned());
    }
    if seconds > 1e9 {
        return Err("the longest time is 1000000000 seconds".to_owned());
    }
    Ok(Duration::from_secs_f64(seconds))
}

/// Reads the command line of this process, and ends it with exit status 2 where that is wrong
/// (and 0 after `--help` and `--version`).
pub fn parse() -> Action {
    action_from(std::env::args_os(), &Surroundings::current())
        .and_then(|action| match &action {
            Action::Trace(config) => overwrite::check(config).map_err(usage).map(|()| action),
            _ => Ok(action),
        })
        .unwrap_or_else(|error| error.exit())
}

fn usage(error: UsageError) -> clap::Error {
    Cli::command().error(ErrorKind::ArgumentConflict, error)
}

/// What a command line asks for.
///
/// # Errors
/// clap's own, whose `exit` prints it and gives the right exit status.
pub fn action_from(
    args: impl IntoIterator<Item = OsString>,
    surroundings: &Surroundings,
) -> Result<Action, clap::Error> {
    let matches = Cli::command().try_get_matches_from(args).map_err(advise)?;
    refuse_idle(&matches)?;
    let cli = Cli::from_arg_matches(&matches)?;
    Action::from_cli(cli, surroundings).map_err(usage)
}

/// Options that mean something to a trace alone. They are common to all subcommands, so that they may stand
/// before and after `demo`.
const OF_A_TRACE: [&str; 11] = [
    "duration",
    "interval",
    "quiet",
    "no_status",
    "events",
    "min_size",
    "summaries",
    "ringbuf_size",
    "fault_source",
    "no_reclaim_tracking",
    "exact_bytes",
];

/// Refuses what would be read and then do nothing.
fn refuse_idle(matches: &ArgMatches) -> Result<(), clap::Error> {
    let Some((name @ ("doctor" | "reclaim"), own)) = matches.subcommand() else {
        return Ok(());
    };
    let typed = |id: &&str| own.value_source(id) == Some(ValueSource::CommandLine);
    match OF_A_TRACE.into_iter().find(|id| typed(id)) {
        Some(id) => {
            let words = format!(
                "--{} is not valid for `memtrace {name}`",
                id.replace('_', "-")
            );
            Err(Cli::command().error(ErrorKind::ArgumentConflict, words))
        }
        None => Ok(()),
    }
}

/// Adds what people most often meant where a word stands that is neither an option nor a subcommand.
fn advise(error: clap::Error) -> clap::Error {
    use clap::error::{ContextKind, ContextValue};
    let kind = match error.kind() {
        ErrorKind::InvalidSubcommand => ContextKind::InvalidSubcommand,
        ErrorKind::UnknownArgument => ContextKind::InvalidArg,
        _ => return error,
    };
    let suggested = error.get(ContextKind::SuggestedSubcommand).is_some();
    let word = match error.get(kind) {
        Some(ContextValue::String(word)) if !suggested && !word.starts_with('-') => word,
        _ => return error,
    };
    let advice = if word.parse::<u32>().is_ok() {
        format!("unexpected {word:?}: several pids go as -p 1,2 or -p \"$(pidof NAME)\", in quotes")
    } else {
        format!(
            "{word:?} is no subcommand (they are demo, doctor and reclaim); to launch it as a command: memtrace -- {word}"
        )
    };
    Cli::command().error(error.kind(), advice)
}

#[cfg(test)]
#[path = "cli_tests.rs"]
mod tests;
