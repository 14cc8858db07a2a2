//! What the kernel side itself has to say about rare events, on stderr, with -v.

use anyhow::Context as _;
use aya::Ebpf;
use aya_log::EbpfLogger;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::JoinHandle;

use crate::say::say;

/// The level for `-v` given so many times: aya_log's numbers, of which 0 compiles the messages out.
pub fn level(verbose: u8) -> u8 {
    match verbose {
        0 => 0,
        // Warnings and information; then also debug messages.
        1 => 3,
        _ => 4,
    }
}

/// Has our own debug messages printed, with -vv: the verifier's log is one.
pub fn debug(verbose: u8) {
    if verbose >= 2 && log::set_logger(&Ours).is_ok() {
        log::set_max_level(log::LevelFilter::Debug);
    }
}

/// Ends the log when dropped.
pub struct Following(Option<JoinHandle<()>>);

impl Drop for Following {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

/// Prints the kernel side's messages as they come.
pub fn follow(ebpf: &mut Ebpf, verbose: u8) -> anyhow::Result<Following> {
    if verbose == 0 {
        return Ok(Following(None));
    }
    let logger = EbpfLogger::init_with_logger(ebpf, Stderr).context("the kernel side's log")?;
    // SAFETY: the logger owns its descriptor, and the AsyncFd owns the logger.
    let mut logger = unsafe { AsyncFd::register_with_interest(logger, Interest::READABLE) }
        .map_err(std::io::Error::from)
        .context("waiting for the kernel side's log")?;
    let task = tokio::spawn(async move {
        while let Ok(mut guard) = logger.readable_mut().await {
            guard.get_inner_mut().flush();
            guard.clear_ready();
        }
    });
    Ok(Following(Some(task)))
}

/// Writes each message as one line.
struct Stderr;

impl log::Log for Stderr {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        say(format_args!("kernel side: {}", record.args()));
    }

    fn flush(&self) {}
}

/// Writes what this crate has to say, and no library.
struct Ours;

impl log::Log for Ours {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.target().starts_with(env!("CARGO_CRATE_NAME"))
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            say(record.args());
        }
    }

    fn flush(&self) {}
}
