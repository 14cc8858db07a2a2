//! The memtrace command: reads the command line, does what it asks for, and ends with its exit status.

use std::io;
use std::os::fd::AsFd as _;
use std::process::ExitCode;

use memtrace::config::{Action, Config, Format, Sink};
use memtrace::output::terminal::{self, Size};
use memtrace::output::{JsonOutput, Output, Stopped, TextOptions, TextOutput};
use memtrace::say::say;
use memtrace::{attach, cli, demo, doctor, reclaim, session};

fn main() -> ExitCode {
    let result = match cli::parse() {
        Action::Trace(config) => trace(&config),
        Action::Doctor(report) => doctor::run(&report, attach::try_all),
        Action::Reclaim(config) => reclaim::run(&config),
        Action::BalloonWorker(parent) => reclaim::be_balloon(parent).map(|()| 0),
        Action::DemoWorkload => demo::run().map(|()| 0).map_err(Into::into),
    };
    match result {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            say(format_args!("{error:#}"));
            match error.downcast_ref::<Stopped>() {
                Some(stopped) => ExitCode::from(stopped.exit_code()),
                None => ExitCode::FAILURE,
            }
        }
    }
}

fn trace(config: &Config) -> anyhow::Result<u8> {
    for note in config.notes.iter().filter(|_| config.verbose > 0) {
        say(note);
    }
    // One thread is enough: the ring has its own, and everything here waits most of the time.
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(session::run(config, |stopped| open(config, stopped)))
}

/// The output that the configuration asks for.
fn open(config: &Config, stopped: &dyn Fn() -> Option<i32>) -> anyhow::Result<Box<dyn Output>> {
    let report = &config.report;
    let sink = report.sink.open(stopped)?;
    Ok(match report.format {
        Format::Json => Box::new(JsonOutput::new(sink)),
        Format::Text => Box::new(TextOutput::new(
            sink,
            TextOptions {
                colour: report.color,
                terminal: report.terminal.then(|| size_of_terminal(&report.sink)),
                all_lines: config.lines_per_second.is_none(),
            },
        )),
    })
}

/// Asks for the size each time: windows change theirs.
fn size_of_terminal(sink: &Sink) -> Box<dyn Fn() -> Size> {
    let is_stderr = matches!(sink, Sink::Stderr);
    Box::new(move || {
        let size = if is_stderr {
            terminal::size(io::stderr().as_fd())
        } else {
            terminal::size(io::stdout().as_fd())
        };
        size.unwrap_or(Size {
            columns: 80,
            rows: 24,
        })
    })
}
