//! The kernel's own fault counters of a process, as /proc/PID/stat gives them.

use std::ops::{Add, Sub};

/// Minor and major faults, of all the threads of one process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub minor: u64,
    pub major: u64,
}

impl Counters {
    /// Reads the counters out of the text of a stat file, without allocating.
    pub fn parse(stat: &[u8]) -> Option<Self> {
        // The command's name is in parentheses and may hold anything, parentheses included: the
        // fields begin after the last one.
        let end = stat.iter().rposition(|&byte| byte == b')')?;
        let mut fields = stat[end + 1..].split(|&byte| byte == b' ').skip(1);
        // Counted from field 3 (state): minflt is field 10 and majflt field 12 (proc_pid_stat(5)).
        let minor = number(fields.nth(7)?)?;
        let major = number(fields.nth(1)?)?;
        Some(Self { minor, major })
    }

    /// The counters of a running process, read from outside.
    pub fn of(pid: u32) -> Self {
        let path = format!("/proc/{pid}/stat");
        let stat = std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        Self::parse(&stat).unwrap_or_else(|| panic!("{path}: not as proc_pid_stat(5) says"))
    }

    pub fn all(self) -> u64 {
        self.minor + self.major
    }
}

impl Sub for Counters {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            minor: self.minor - earlier.minor,
            major: self.major - earlier.major,
        }
    }
}

impl Add for Counters {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            minor: self.minor + other.minor,
            major: self.major + other.major,
        }
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0u64, |value, &digit| {
        let digit = digit.is_ascii_digit().then_some(digit - b'0')?;
        Some(value * 10 + u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let stat = b"7 (a) b) S 1 2 3 4 5 6 77 8 99 10 11";
        let counters = Counters::parse(stat).expect("all fields are there");
        assert_eq!(
            counters,
            Counters {
                minor: 77,
                major: 99
            }
        );
    }
}
