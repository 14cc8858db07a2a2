//! Which BPF programs a process has loaded, and whether the kernel still has them.

use std::collections::BTreeSet;
use std::fs;

/// bpf(2) command (include/uapi/linux/bpf.h).
const BPF_PROG_GET_FD_BY_ID: i64 = 13;

/// The ids of the programs that a process holds, directly or by a link.
pub fn programs_of(pid: u32) -> BTreeSet<u32> {
    let dir = format!("/proc/{pid}/fdinfo");
    let entries = fs::read_dir(&dir).unwrap_or_else(|error| panic!("{dir}: {error}"));
    entries
        .flatten()
        // A file that was closed meanwhile holds nothing.
        .filter_map(|entry| fs::read_to_string(entry.path()).ok())
        .flat_map(|info| info.lines().filter_map(program_id).collect::<Vec<_>>())
        .collect()
}

fn program_id(line: &str) -> Option<u32> {
    line.strip_prefix("prog_id:")?.trim().parse().ok()
}

/// Whether the kernel still has a program. Ids are not reused until all others were.
pub fn is_loaded(program: u32) -> bool {
    // The attributes of this command begin with the id; the kernel takes the rest as 0.
    let attributes = [program, 0, 0];
    // SAFETY: the kernel reads as many bytes as it is told, and they are initialised.
    let file = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_GET_FD_BY_ID,
            attributes.as_ptr(),
            size_of_val(&attributes),
        )
    };
    if file < 0 {
        let error = std::io::Error::last_os_error();
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT), "bpf: {error}");
        return false;
    }
    // SAFETY: the descriptor is new and nobody else's.
    unsafe { libc::close(file as i32) };
    true
}
