//! Running other programs, with errors that say which program and what it said.
use std::process::{Command, ExitStatus};

use anyhow::{Context as _, Result, bail};

/// Runs `command`, leaving its output on the terminal; an exit status other than 0 is an error.
pub fn run(command: &mut Command) -> Result<()> {
    let status = status(command)?;
    if !status.success() {
        bail!(
            "{} failed with {status}; its own message is above",
            name(command)
        );
    }
    Ok(())
}

/// Runs `command`, leaving its output on the terminal.
pub fn status(command: &mut Command) -> Result<ExitStatus> {
    command
        .status()
        .with_context(|| format!("cannot start {}", name(command)))
}

/// Runs `command` and returns what it wrote to stdout, without the last newline.
pub fn stdout(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("cannot start {}", name(command)))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!(
            "{} failed with {}: {}",
            name(command),
            output.status,
            said.trim()
        );
    }
    let text = String::from_utf8(output.stdout)
        .with_context(|| format!("{} wrote something that is not UTF-8", name(command)))?;
    Ok(text.trim_end().to_owned())
}

/// The program and its first argument, which is enough to recognise a command in a message.
fn name(command: &Command) -> String {
    let program = command.get_program().to_string_lossy();
    match command.get_args().next() {
        Some(argument) => format!("`{program} {}`", argument.to_string_lossy()),
        None => format!("`{program}`"),
    }
}
