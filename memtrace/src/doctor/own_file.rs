//! The check of memtrace's own file: whom the rights that it has reach.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;

use super::Check;

/// How one group, and nobody else, is let run memtrace without sudo. chown and chgrp take a file's
/// capabilities away, so setcap comes last.
pub(super) const GIVE_TO_GROUP: &str = "F=\"$(command -v memtrace)\"; sudo groupadd -f memtrace && \
     sudo chown root:memtrace \"$F\" && sudo chmod 0750 \"$F\" && \
     sudo setcap cap_bpf,cap_perfmon,cap_sys_ptrace,cap_dac_read_search+ep \"$F\"";
/// Why it is not to be for everyone.
pub(super) const WHY_GROUP: &str =
    "whoever may run it so can trace every process of the machine, root's too";

/// What is known of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OwnFile {
    /// It has file capabilities.
    pub capabilities: bool,
    pub mode: u32,
}

impl OwnFile {
    /// The one that runs now.
    ///
    /// # Errors
    /// Those of stat(2).
    pub(super) fn read() -> io::Result<Self> {
        const FILE: &std::ffi::CStr = c"/proc/self/exe";
        // SAFETY: both names end in NUL; of a buffer of no length only the size is asked.
        let size = unsafe {
            libc::getxattr(
                FILE.as_ptr(),
                c"security.capability".as_ptr(),
                std::ptr::null_mut(),
                0,
            )
        };
        Ok(Self {
            capabilities: size > 0,
            mode: fs::metadata("/proc/self/exe")?.permissions().mode(),
        })
    }
}

pub(super) fn own_file(file: io::Result<OwnFile>) -> Check {
    const NAME: &str = "own_file";
    let file = match file {
        Ok(file) => file,
        Err(error) => {
            return Check::note(NAME, format!("memtrace's own cannot be looked at: {error}"));
        }
    };
    if file.mode & libc::S_ISUID != 0 {
        return Check::note(
            NAME,
            "memtrace's own is setuid: that is more than tracing needs",
        )
        .advise(format!(
            "chmod u-s it, and give it to a group: {GIVE_TO_GROUP}"
        ));
    }
    match (file.capabilities, file.mode & 0o001 != 0) {
        (false, _) => Check::ok(NAME, "gives memtrace no rights beyond those of who runs it"),
        (true, false) => Check::ok(
            NAME,
            "gives memtrace capabilities, and not everyone may run it",
        ),
        (true, true) => Check::note(
            NAME,
            format!("gives memtrace capabilities, and everyone may run it: {WHY_GROUP}"),
        )
        .advise(format!("let one group run it: {GIVE_TO_GROUP}")),
    }
}
