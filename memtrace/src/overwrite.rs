//! Refuses an -o that names what the same run reads, before anything is touched.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use crate::config::{Config, GcSource, Sink, Target, UsageError};
use crate::rights;

/// Compares what the names lead to, by device and inode: links and other spellings are the same file.
///
/// # Errors
/// [`UsageError::OutputIsInput`]. What cannot be looked at is left to whoever opens it.
pub fn check(config: &Config) -> Result<(), UsageError> {
    let Sink::File(output) = &config.report.sink else {
        return Ok(());
    };
    let same = rights::with_own(|| input_of(config, output)).unwrap_or_default();
    same.map_or(Ok(()), |what| Err(UsageError::OutputIsInput(what)))
}

/// Which input the file is.
fn input_of(config: &Config, output: &Path) -> Option<&'static str> {
    let output = fs::metadata(output).ok()?;
    // What is written to a device is not what is read from it; a terminal is both.
    if output.file_type().is_char_device() || output.is_dir() {
        return None;
    }
    let is_output = |input: &Metadata| (input.dev(), input.ino()) == (output.dev(), output.ino());
    let is_stdin = || is_output_of(stdin(), is_output);
    match &config.gctrace {
        Some(GcSource::File(path)) if is_output_of(fs::metadata(path), is_output) => {
            return Some("the file that --gctrace reads");
        }
        Some(GcSource::Stdin) if is_stdin() => return Some("the file that stdin comes from"),
        _ => {}
    }
    let Target::Launch { argv, .. } = &config.target else {
        return None;
    };
    if argv
        .first()
        .is_some_and(|command| any_is(command, is_output))
    {
        return Some("the command's own program");
    }
    is_stdin().then_some("the file that the command's stdin comes from")
}

fn is_output_of(input: io::Result<Metadata>, is_output: impl Fn(&Metadata) -> bool) -> bool {
    input.is_ok_and(|input| is_output(&input))
}

fn stdin() -> io::Result<Metadata> {
    File::from(io::stdin().as_fd().try_clone_to_owned()?).metadata()
}

/// Whether any file that the command may be found as is the one. One that is not executable may
/// become so, and it is no place for a report either.
fn any_is(command: &OsStr, is_output: impl Fn(&Metadata) -> bool) -> bool {
    if command.as_bytes().contains(&b'/') {
        return is_output_of(fs::metadata(command), is_output);
    }
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders)
        .any(|folder| is_output_of(fs::metadata(folder.join(command)), &is_output))
}
