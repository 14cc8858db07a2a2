//! /proc/PID/status: which process a thread belongs to, its pids in nested namespaces, its user and its capabilities.

use std::io;

use super::read_bounded;

/// The fields that are of use here (fs/proc/array.c:proc_pid_status).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The process; equal to `pid` for its first thread.
    pub tgid: u32,
    pub pid: u32,
    pub uid_real: u32,
    pub uid_effective: u32,
    pub gid_real: u32,
    pub groups: Vec<u32>,
    /// Its pid in each namespace it is in, from that of this /proc inwards. Empty before Linux 4.1.
    pub ns_pids: Vec<u32>,
    /// False once prctl(PR_SET_THP_DISABLE) has turned huge pages off for it; `None` before Linux 5.0.
    pub thp_enabled: Option<bool>,
    /// A bit for each effective capability.
    pub effective_caps: Option<u64>,
}

/// Reads the fields of a process or thread.
///
/// # Errors
/// Those of open(2) and read(2), and `InvalidData` for a file that is not of that form.
pub fn read(pid: u32) -> io::Result<Status> {
    read_path(&format!("/proc/{pid}/status"))
}

/// As [`read`], of this process.
///
/// # Errors
/// As [`read`].
pub fn read_self() -> io::Result<Status> {
    read_path("/proc/self/status")
}

fn read_path(path: &str) -> io::Result<Status> {
    // A process may be in 65,536 groups, each of up to 11 bytes here.
    let text = read_bounded(path, 1 << 20)?;
    parse(&text).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// The fields in the text of a status file. The comm in it is escaped by the kernel, so a line is a line.
pub fn parse(text: &[u8]) -> Option<Status> {
    let mut status = Status::default();
    let (mut tgid, mut pid) = (None, None);
    for line in text.split(|&b| b == b'\n') {
        let Ok(line) = std::str::from_utf8(line) else {
            continue;
        };
        let Some((key, value)) = line.split_once(':') else {
            continue;
        };
        let value = value.trim();
        let numbers = || {
            value
                .split_ascii_whitespace()
                .filter_map(|w| w.parse().ok())
        };
        match key {
            "Tgid" => tgid = numbers().next(),
            "Pid" => pid = numbers().next(),
            "Uid" => {
                status.uid_real = numbers().next()?;
                status.uid_effective = numbers().nth(1)?;
            }
            "Gid" => status.gid_real = numbers().next()?,
            "Groups" => status.groups = numbers().collect(),
            "NSpid" => status.ns_pids = numbers().collect(),
            "THP_enabled" => status.thp_enabled = numbers().next().map(|on: u32| on != 0),
            "CapEff" => status.effective_caps = u64::from_str_radix(value, 16).ok(),
            _ => {}
        }
    }
    status.tgid = tgid?;
    status.pid = pid?;
    Some(status)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const REAL: &str = "Name:\tcat\nUmask:\t0022\nState:\tR (running)\nTgid:\t8396\nNgid:\t0\n\
        Pid:\t8397\nPPid:\t8391\nTracerPid:\t0\nUid:\t1000\t0\t0\t0\nGid:\t100\t100\t100\t100\n\
        FDSize:\t256\nGroups:\t27 100 \nNStgid:\t8396\t12\nNSpid:\t8397\t13\nVmRSS:\t    1588 kB\n\
        THP_enabled:\t1\nCapInh:\t0000000000000000\nCapEff:\t000001fffeffffff\n";

    #[test]
    fn a_real_status_gives_its_fields() {
        let status = parse(REAL.as_bytes()).unwrap();
        assert_eq!(
            status,
            Status {
                tgid: 8396,
                pid: 8397,
                uid_real: 1000,
                uid_effective: 0,
                gid_real: 100,
                groups: vec![27, 100],
                ns_pids: vec![8397, 13],
                thp_enabled: Some(true),
                effective_caps: Some(0x1ff_feff_ffff),
            }
        );
    }

    #[test]
    fn what_is_not_there_is_not_made_up() {
        let status = parse(b"Tgid:\t1\nPid:\t1\n").unwrap();
        assert_eq!((status.thp_enabled, status.effective_caps), (None, None));
        assert!(status.ns_pids.is_empty());
        assert_eq!(parse(b"Pid:\t1\n"), None);
        assert_eq!(parse(b""), None);
    }

    #[test]
    fn this_process_is_its_own_first_thread() {
        let status = read_self().unwrap();
        assert_eq!(status.tgid, std::process::id());
        assert!(status.effective_caps.is_some());
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            parse(&bytes);
        }

        #[test]
        fn anything_like_a_status_file_is_survived(
            text in "((Tgid|Pid|Uid|Gid|Groups|NSpid|THP_enabled|CapEff):[\t 0-9a-f-]{0,40}\n){0,12}"
        ) {
            parse(text.as_bytes());
        }
    }
}
