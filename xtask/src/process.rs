//! Running other programs, with errors that say which program and what it said.
use std::env;
use std::path::PathBuf;
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
    let text = String::from_utf8(bytes(command)?)
        .with_context(|| format!("{} wrote something that is not UTF-8", name(command)))?;
    Ok(text.trim_end().to_owned())
}

/// Runs `command` and returns what it wrote to stdout.
pub fn bytes(command: &mut Command) -> Result<Vec<u8>> {
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
    Ok(output.stdout)
}

/// A program on PATH; the error names the Debian package that has it.
pub fn tool(program: &str, package: &str) -> Result<Command> {
    if on_path(program).is_none() {
        bail!("no program {program} on PATH: apt-get install {package}");
    }
    Ok(Command::new(program))
}

/// Where a program is.
pub fn on_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    let mut places = env::split_paths(&path).map(|dir| dir.join(program));
    places.find(|place| place.is_file())
}

/// The program and its first argument, which is enough to recognise a command in a message.
fn name(command: &Command) -> String {
    let program = command.get_program().to_string_lossy();
    match command.get_args().next() {
        Some(argument) => format!("`{program} {}`", argument.to_string_lossy()),
        None => format!("`{program}`"),
    }
}
