//! /proc/PID/stat: state, start time, fault counts and kind of a process (fs/proc/array.c:do_task_stat).

use std::io;

use super::read_bounded;

/// PF_KTHREAD of include/linux/sched.h: a thread of the kernel's own, which has no address space.
const PF_KTHREAD: u32 = 0x0020_0000;
/// PF_FORKNOEXEC: it still is what its parent was.
const PF_FORKNOEXEC: u32 = 0x40;

/// The fields that are of use here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Not escaped.
    pub comm: String,
    /// The letter of ps(1): `R`, `S`, `D`, `T`, `t`, `Z`, `X`, `I`...
    pub state: char,
    pub parent_pid: u32,
    pub flags: u32,
    /// Faults of all its threads, the ended ones included, that needed no IO.
    pub minor_faults: u64,
    /// And those that did.
    pub major_faults: u64,
    pub threads: u64,
    /// When it started, in clock ticks (100 a second) since boot: together with the pid, its identity.
    pub start_ticks: u64,
    /// How it ended, as wait(2) gives it, once it has. To whom may not look into the process the kernel
    /// shows 0 instead.
    pub exit_code: Option<i32>,
}

impl Stat {
    pub fn is_kernel_thread(&self) -> bool {
        self.flags & PF_KTHREAD != 0
    }

    /// It has called exec since it was forked.
    pub fn has_execed(&self) -> bool {
        self.flags & PF_FORKNOEXEC == 0
    }

    /// It has ended and waits for its parent to take note. Where only the first thread has ended
    /// (by pthread_exit), the state is Z too, and the others live on.
    pub fn is_dead(&self) -> bool {
        matches!(self.state, 'X' | 'x') || (self.state == 'Z' && self.threads <= 1)
    }
}

/// Reads the fields of a process.
///
/// # Errors
/// Those of open(2) and read(2), and `InvalidData` for a file that is not of that form.
pub fn read(pid: u32) -> io::Result<Stat> {
    let text = read_bounded(format!("/proc/{pid}/stat"), 4096)?;
    parse(&text).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// The fields in the text of a stat file.
///
/// The comm may hold blanks, newlines and parentheses, and is not escaped: it ends at the last
/// `)`, since nothing after it can hold one.
pub fn parse(text: &[u8]) -> Option<Stat> {
    let open = text.iter().position(|&b| b == b'(')?;
    let close = text.iter().rposition(|&b| b == b')')?;
    let comm = text.get(open + 1..close)?;
    let rest = std::str::from_utf8(text.get(close + 1..)?).ok()?;
    // proc_pid_stat(5) counts from 1, and the state is its field 3.
    let fields: Vec<&str> = rest.split_ascii_whitespace().take(50).collect();
    let field = |number: usize| fields.get(number - 3).copied();
    Some(Stat {
        comm: String::from_utf8_lossy(comm).into_owned(),
        state: field(3)?.chars().next()?,
        parent_pid: field(4)?.parse().ok()?,
        flags: field(9)?.parse().ok()?,
        minor_faults: field(10)?.parse().ok()?,
        major_faults: field(12)?.parse().ok()?,
        threads: field(20)?.parse().ok()?,
        start_ticks: field(22)?.parse().ok()?,
        exit_code: field(52).and_then(|code| code.parse().ok()),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TAIL: &str = " S 1 7 7 34816 7 4194560 1200 0 3 0 12 5 0 0 20 0 4 0 123456 3133440 397 18446744073709551615 1 2 3 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 2304\n";

    #[test]
    fn a_comm_may_hold_blanks_newlines_and_parentheses() {
        for comm in ["cat", "a) R 1 (b", "tmux: server", "two\nlines", ")", ""] {
            let stat = parse(format!("42 ({comm}){TAIL}").as_bytes()).unwrap();
            assert_eq!(stat.comm, comm);
            assert_eq!((stat.state, stat.parent_pid, stat.threads), ('S', 1, 4));
            assert_eq!((stat.minor_faults, stat.major_faults), (1200, 3));
            assert_eq!(stat.start_ticks, 123_456);
            assert!(!stat.is_kernel_thread() && !stat.is_dead());
            assert_eq!(stat.exit_code, Some(2304));
        }
    }

    #[test]
    fn kernel_threads_and_zombies_are_recognised() {
        let kthread =
            parse(b"2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0 0 0 0 0 20 0 1 0 0 0 0").unwrap();
        assert!(kthread.is_kernel_thread());
        let zombie = parse(b"9 (gone) Z 1 0 0 0 -1 4 0 0 0 0 0 0 0 0 20 0 1 0 77 0 0").unwrap();
        assert!(zombie.is_dead());
    }

    #[test]
    fn cut_or_twisted_lines_are_refused() {
        for text in [
            "",
            "(",
            ")",
            ")(",
            "1 (x",
            "1 (x)",
            "1 (x) S",
            "1 (x) S a b c",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn this_process_is_alive() {
        let stat = read(std::process::id()).unwrap();
        assert!(stat.threads >= 1 && stat.start_ticks > 0 && !stat.is_dead());
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            parse(&bytes);
        }

        #[test]
        fn anything_like_a_stat_file_is_survived(text in "[0-9]{1,3} \\(.{0,20}\\)( [-A-Z0-9]{0,22}){0,30}") {
            parse(text.as_bytes());
        }
    }
}
