//! How far it is, on stderr, for work that takes longer than a glance.

use std::time::{Duration, Instant};

use super::work::Progress;
use crate::say;
use crate::units::Bytes;

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    Silent,
    /// One line of a terminal, written again and again, and gone at the end.
    InPlace,
    /// A line now and then.
    Lines,
}

impl Style {
    /// The time between two lines.
    fn pause(self) -> Option<Duration> {
        match self {
            Self::Silent => None,
            Self::InPlace => Some(Duration::from_millis(200)),
            Self::Lines => Some(Duration::from_secs(1)),
        }
    }
}

/// What is on the screen.
pub(super) struct Shown {
    style: Style,
    pid: u32,
    last: Instant,
    dirty: bool,
}

impl Shown {
    pub(super) fn new(style: Style, pid: u32) -> Self {
        Self {
            style,
            pid,
            last: Instant::now(),
            dirty: false,
        }
    }

    /// How far MADV_PAGEOUT is.
    pub(super) fn show(&mut self, progress: Progress) {
        self.say(|| line(progress));
    }

    /// Any words, made only if it is time for them.
    pub(super) fn say(&mut self, words: impl FnOnce() -> String) {
        match self.style.pause() {
            Some(pause) if self.last.elapsed() >= pause => {}
            _ => return,
        }
        self.last = Instant::now();
        let line = format!("memtrace: process {}: {}", self.pid, words());
        match self.style {
            Style::InPlace => {
                say::write(&format!("\r{line}\x1b[K"));
                self.dirty = true;
            }
            _ => say::write(&format!("{line}\n")),
        }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        if self.dirty {
            say::write("\r\x1b[K");
        }
    }
}

fn line(progress: Progress) -> String {
    let again = match progress.pass {
        0 | 1 => String::new(),
        pass => format!(", pass {pass}"),
    };
    format!(
        "the kernel has gone through {} of {}{again}",
        Bytes(progress.done_bytes),
        Bytes(progress.whole_bytes)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_how_much_is_done_of_how_much() {
        let mut progress = Progress {
            pass: 1,
            done_bytes: 3 << 30,
            whole_bytes: 12 << 30,
        };
        assert_eq!(line(progress), "the kernel has gone through 3.00G of 12.0G");
        progress.pass = 2;
        assert!(line(progress).ends_with("of 12.0G, pass 2"));
    }
}
