//! /proc/pressure/memory: how long tasks of the whole machine have stood still for want of memory.

use std::io;

use super::read_bounded;

/// The line `full`: no task could go on, since all that had work to do waited for memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    /// Of the last ten seconds, in hundredths of a percent.
    pub full_avg10: u32,
    /// Since boot, in nanoseconds.
    pub full_total_ns: u64,
}

/// Reads it.
///
/// # Errors
/// Those of open(2) and read(2): ENOENT for a kernel without CONFIG_PSI, EOPNOTSUPP for one where
/// it is switched off (psi=1 on the kernel's command line switches it on).
pub fn memory() -> io::Result<Pressure> {
    let text = read_bounded("/proc/pressure/memory", 4096)?;
    parse(&text).ok_or(io::ErrorKind::InvalidData.into())
}

/// The figures in the text of such a file (kernel/sched/psi.c:psi_show).
pub fn parse(text: &[u8]) -> Option<Pressure> {
    let text = std::str::from_utf8(text).ok()?;
    let full = text.lines().find_map(|line| line.strip_prefix("full "))?;
    let value = |key: &str| full.split(' ').find_map(|word| word.strip_prefix(key));
    let (whole, parts) = value("avg10=")?.split_once('.')?;
    let whole: u32 = whole.parse().ok()?;
    let parts: u32 = (parts.len() == 2).then(|| parts.parse().ok())??;
    let total_us: u64 = value("total=")?.trim().parse().ok()?;
    Some(Pressure {
        full_avg10: whole.checked_mul(100)?.checked_add(parts)?,
        full_total_ns: total_us.saturating_mul(1000),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_line_full_is_the_one_that_counts() {
        let text = b"some avg10=77.00 avg60=1.00 avg300=0.10 total=999\n\
            full avg10=12.05 avg60=0.00 avg300=0.00 total=186937\n";
        let expected = Pressure {
            full_avg10: 1205,
            full_total_ns: 186_937_000,
        };
        assert_eq!(parse(text), Some(expected));
        assert_eq!(parse(b"some avg10=1.00 total=1\n"), None);
        assert_eq!(parse(b"full avg10=1 total=1\n"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "(full avg10=[0-9.]{0,12} |total=[0-9]{0,22}|.{0,20}){0,4}") {
            parse(text.as_bytes());
        }
    }
}
