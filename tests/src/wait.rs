//! Waiting for conditions: never for a time, with a backstop for what will not come true any more.

use std::env;
use std::thread;
use std::time::{Duration, Instant};

/// Far longer than anything waited for takes on a busy machine.
const BACKSTOP: Duration = Duration::from_secs(30);
const BETWEEN_LOOKS: Duration = Duration::from_millis(1);

/// How much longer than that it may take, and between two looks: emulated machines are slow, and looks
/// would take from what is waited for.
const PATIENCE: &str = "MEMTRACE_TEST_PATIENCE";

/// Looks until there is an answer. Panics, naming `what`, if none comes.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let patience = env::var(PATIENCE)
        .ok()
        .and_then(|factor| factor.parse().ok())
        .unwrap_or(1);
    let begun = Instant::now();
    loop {
        if let Some(answer) = look() {
            return answer;
        }
        assert!(
            begun.elapsed() < BACKSTOP * patience,
            "waited in vain for {what}"
        );
        thread::sleep(BETWEEN_LOOKS * patience);
    }
}
