//! Running other programs, with errors that say which program and what it said.
use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use anyhow::{Context as _, Result, bail};

/// What cargo tells each program that it runs about that program's own package.
const OF_OUR_PACKAGE: [&str; 2] = ["CARGO_MANIFEST_", "CARGO_PKG_"];

/// Cargo in a folder, as if from a shell: build scripts that look at these variables would run again,
/// and all that depends on them be built again, whenever it is an xtask that builds.
pub fn cargo(folder: &Path) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(folder);
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if OF_OUR_PACKAGE.iter().any(|start| text.starts_with(start)) {
            command.env_remove(&name);
        }
    }
    command
}

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
