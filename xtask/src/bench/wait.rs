//! Waiting for conditions, with a backstop for what will not come true any more.
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Far longer than anything takes to start or end on a busy machine.
pub const BACKSTOP: Duration = Duration::from_secs(60);
const BETWEEN_LOOKS: Duration = Duration::from_millis(1);

/// Looks until there is an answer or an error.
pub fn until<T>(
    what: &str,
    backstop: Duration,
    mut look: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let begun = Instant::now();
    loop {
        if let Some(answer) = look()? {
            return Ok(answer);
        }
        if begun.elapsed() > backstop {
            bail!("waited in vain for {what}");
        }
        thread::sleep(BETWEEN_LOOKS);
    }
}
