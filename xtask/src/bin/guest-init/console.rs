//! The line to the host: a serial port of its own, so that the kernel's messages never lie across ours.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::AsRawFd;

use anyhow::{Context as _, Result};
use xtask::vm::protocol::Message;

/// The second port: the first is the kernel's console.
const PORT: &str = "/dev/ttyS1";

pub struct Console(File);

impl Console {
    pub fn open() -> Result<Self> {
        let file = OpenOptions::new().write(true).open(PORT);
        Ok(Self(file.with_context(|| format!("cannot open {PORT}"))?))
    }

    pub fn say(&mut self, message: &Message) -> Result<()> {
        let mut line = serde_json::to_string(message).context("a message")?;
        line.push('\n');
        let written = self.0.write_all(line.as_bytes());
        written.with_context(|| format!("cannot write to {PORT}"))
    }

    /// Returns once everything has left the port.
    pub fn flush(&self) {
        // SAFETY: the descriptor is open.
        unsafe { libc::tcdrain(self.0.as_raw_fd()) };
    }
}
