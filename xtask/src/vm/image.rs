//! Makes the images that guests have as their root: what all share, and what differs.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::process;
use crate::vm::build::Programs;
use crate::vm::cpio::Archive;
use crate::vm::kernels::Files;
use crate::vm::protocol::{PLAN, PROGRAMS, Plan, RAMDISK_MODULE, TESTS};

/// The host's programs that tests run as targets. What else they want, a guest lacks, and they say so.
const HOST_PROGRAMS: [(&str, &str); 12] = [
    ("sh", "dash"),
    ("cat", "coreutils"),
    ("echo", "coreutils"),
    ("env", "coreutils"),
    ("false", "coreutils"),
    ("id", "coreutils"),
    ("mount", "mount"),
    ("sleep", "coreutils"),
    ("touch", "coreutils"),
    ("true", "coreutils"),
    ("unshare", "util-linux"),
    ("setpriv", "util-linux"),
];
const USERS: &str = "root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n";
const GROUPS: &str = "root:x:0:\nnogroup:x:65534:\n";

/// The part that all guests share.
pub fn common(programs: &Programs) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    // Before anything is mounted, the kernel gives the first process this as its stderr.
    archive.device(Path::new("/dev/console"), (5, 1))?;
    let mut libraries = libraries_of(&programs.init)?;
    archive.file(Path::new("/init"), &stripped(&programs.init)?)?;
    for (folder, list) in [(PROGRAMS, &programs.tools), (TESTS, &programs.tests)] {
        for (name, file) in list {
            archive.file(&Path::new(folder).join(name), &stripped(file)?)?;
            libraries.extend(libraries_of(file)?);
        }
    }
    for (name, package) in HOST_PROGRAMS {
        process::tool(name, package)?;
        let Some(file) = process::on_path(name) else {
            continue;
        };
        archive.file(&Path::new(PROGRAMS).join(name), &read(&file)?)?;
        libraries.extend(libraries_of(&file)?);
    }
    for library in libraries {
        archive.file(&library, &read(&library)?)?;
    }
    archive.file(Path::new("/etc/passwd"), USERS.as_bytes())?;
    archive.file(Path::new("/etc/group"), GROUPS.as_bytes())?;
    archive.finish()
}

/// The part of one guest: it follows the common one.
pub fn own(kernel: &Files, plan: &Plan) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    archive.file(Path::new(RAMDISK_MODULE), &read(&kernel.ramdisk)?)?;
    archive.file(Path::new(PLAN), &serde_json::to_vec(plan)?)?;
    archive.finish()
}

/// A program without its symbols, which are most of it.
fn stripped(program: &Path) -> Result<Vec<u8>> {
    let file = program.with_extension("stripped");
    process::run(
        process::tool("strip", "binutils")?
            .arg("-o")
            .arg(&file)
            .arg(program),
    )?;
    read(&file)
}

fn read(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}

/// The shared libraries of a program, with its loader.
fn libraries_of(program: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut command: Command = process::tool("ldd", "libc-bin")?;
    Ok(libraries(&process::stdout(command.arg(program))?))
}

/// Of lines as in "NAME => PATH (ADDRESS)" and "PATH (ADDRESS)".
fn libraries(text: &str) -> BTreeSet<PathBuf> {
    let words = text.lines().flat_map(str::split_whitespace);
    words
        .filter(|word| word.starts_with('/'))
        .map(PathBuf::from)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_and_the_loader_are_found_and_the_kernels_own_is_none() {
        let text = "\tlinux-vdso.so.1 (0x00007ffd)\n\
                    \tlibc.so.6 => /lib/libc.so.6 (0x00007f01)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f02)\n";
        assert_eq!(
            libraries(text),
            BTreeSet::from(["/lib/libc.so.6", "/lib64/ld-linux-x86-64.so.2"].map(PathBuf::from))
        );
    }
}
