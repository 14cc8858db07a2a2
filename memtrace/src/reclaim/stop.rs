//! Ctrl-C while the kernel works: the first one ends with the report of what was done, the second at once.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicI32, Ordering};

use anyhow::Context as _;

use crate::session::ending::is_ignored;

/// The number of the signal that came; 0 before it.
static ASKED: AtomicI32 = AtomicI32::new(0);

/// Takes note of SIGINT, SIGTERM and SIGHUP from now on, but for those that whoever started us wants ignored.
///
/// # Errors
/// Those of sigaction(2).
pub(super) fn listen() -> anyhow::Result<()> {
    listen_to(&[libc::SIGINT, libc::SIGTERM, libc::SIGHUP])
}

/// Ctrl-Z as well: who holds memory must not be suspended with it.
///
/// # Errors
/// Those of sigaction(2).
pub(super) fn listen_to_suspension() -> anyhow::Result<()> {
    listen_to(&[libc::SIGTSTP])
}

fn listen_to(numbers: &[i32]) -> anyhow::Result<()> {
    for &number in numbers {
        if is_ignored(number) {
            continue;
        }
        let note = move || {
            if ASKED.swap(number, Ordering::Relaxed) != 0 {
                // SAFETY: _exit may be called from a signal handler.
                unsafe { libc::_exit(128 + number) };
            }
        };
        // SAFETY: the action does nothing that a signal handler may not do.
        unsafe { signal_hook_registry::register(number, note) }.context("cannot handle signals")?;
    }
    Ok(())
}

/// As those who watch progress answer.
pub(super) fn flow() -> ControlFlow<()> {
    match asked() {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    }
}

pub(super) fn asked() -> bool {
    asked_by().is_some()
}

/// The signal that asked.
pub(super) fn asked_by() -> Option<i32> {
    Some(ASKED.load(Ordering::Relaxed)).filter(|&number| number != 0)
}
