//! Which BPF programs and maps a process has, what is in them, and whether the kernel still has them.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::wait;

/// bpf(2) command (include/uapi/linux/bpf.h).
const BPF_PROG_GET_FD_BY_ID: i64 = 13;

/// The ids of the programs that a process holds, directly or by a link.
pub fn programs_of(pid: u32) -> BTreeSet<u32> {
    held_by(pid, "prog_id:")
}

/// The elements of a map that a process holds, by bpftool(8), as JSON.
pub fn elements(pid: u32, map: &str) -> Value {
    let named = |id: &&u32| bpftool(&["show", "id", &id.to_string()])["name"] == map;
    let maps = held_by(pid, "map_id:");
    let id = maps.iter().find(named);
    let id = id.unwrap_or_else(|| panic!("no {map} among the maps {maps:?} of {pid}"));
    bpftool(&["dump", "id", &id.to_string()])
}

fn bpftool(args: &[&str]) -> Value {
    let output = Command::new("bpftool")
        .args(["--json", "map"])
        .args(args)
        .output()
        .expect("bpftool runs");
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("bpftool map {args:?}: {error}: {output:?}"))
}

/// The ids on the lines of its descriptors that begin so.
fn held_by(pid: u32, key: &str) -> BTreeSet<u32> {
    let dir = format!("/proc/{pid}/fdinfo");
    let entries = fs::read_dir(&dir).unwrap_or_else(|error| panic!("{dir}: {error}"));
    entries
        .flatten()
        // A file that was closed meanwhile holds nothing.
        .filter_map(|entry| fs::read_to_string(entry.path()).ok())
        .flat_map(|info| {
            let ids = info.lines().filter_map(|line| id_after(key, line));
            ids.collect::<Vec<_>>()
        })
        .collect()
}

fn id_after(key: &str, line: &str) -> Option<u32> {
    line.strip_prefix(key)?.trim().parse().ok()
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

/// Waits until the kernel has freed programs, which it does some time after the last descriptor is closed.
pub fn wait_until_gone(programs: &BTreeSet<u32>) {
    wait::until("the kernel to free the programs", || {
        let left = programs.iter().any(|&program| is_loaded(program));
        (!left).then_some(())
    });
}

/// The names of the programs that a process has attached by links.
pub fn attached_by(pid: u32) -> BTreeSet<String> {
    let dir = format!("/proc/{pid}/fdinfo");
    let entries = fs::read_dir(&dir).unwrap_or_else(|error| panic!("{dir}: {error}"));
    entries
        .flatten()
        .filter_map(|entry| fs::read_to_string(entry.path()).ok())
        .filter(|info| info.lines().any(|line| line.starts_with("link_type:")))
        .filter_map(|info| info.lines().find_map(|line| id_after("prog_id:", line)))
        .filter_map(name_of)
        .collect()
}

/// The name of a program, as the kernel has it: 15 bytes of it.
fn name_of(program: u32) -> Option<String> {
    const BPF_OBJ_GET_INFO_BY_FD: i64 = 15;
    /// Where struct bpf_prog_info has its name.
    const NAME: usize = 64;
    #[repr(C)]
    struct Attributes {
        file: u32,
        len: u32,
        info: u64,
    }
    let by_id = [program, 0, 0];
    // SAFETY: the kernel reads as many bytes as it is told, and they are initialised.
    let file = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_GET_FD_BY_ID,
            by_id.as_ptr(),
            size_of_val(&by_id),
        )
    };
    let mut info = [0u8; 128];
    let attributes = Attributes {
        file: u32::try_from(file).ok()?,
        len: info.len() as u32,
        info: info.as_mut_ptr() as u64,
    };
    // SAFETY: the attributes name a buffer of the length that they tell; the descriptor is ours.
    let done = unsafe {
        let done = libc::syscall(
            libc::SYS_bpf,
            BPF_OBJ_GET_INFO_BY_FD,
            &raw const attributes,
            size_of::<Attributes>(),
        );
        libc::close(file as i32);
        done
    };
    let name = &info[NAME..NAME + 16];
    let name = name.split(|&byte| byte == 0).next()?;
    (done == 0).then(|| String::from_utf8_lossy(name).into_owned())
}
