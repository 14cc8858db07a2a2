//! Sizes, durations, counts and rates as they are shown and typed: the one place that knows units.

use std::fmt;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

/// The letters for powers of 1024, from the first.
const LETTERS: [char; 6] = ['K', 'M', 'G', 'T', 'P', 'E'];

/// A number of bytes: `512B`, `64.0K`, `1.04G`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 1024 {
            return f.pad(&format!("{}B", self.0));
        }
        for (power, letter) in (1..).zip(LETTERS) {
            // Rounding can carry a value over to the next letter: 1023.99K is 1.00M.
            if let Some(digits) = three_digits(self.0, 10 * power) {
                return f.pad(&format!("{digits}{letter}"));
            }
        }
        unreachable!("u64::MAX is 16.0E")
    }
}

/// `value` in units of `1 << shift` with as many decimals as make three digits; None where it
/// rounds to 1024 or more.
fn three_digits(value: u64, shift: u32) -> Option<String> {
    let rounded = |scale: u128| ((u128::from(value) * scale) + (1 << (shift - 1))) >> shift;
    let hundredths = rounded(100);
    if hundredths < 1000 {
        return Some(format!("{}.{:02}", hundredths / 100, hundredths % 100));
    }
    let tenths = rounded(10);
    if tenths < 1000 {
        return Some(format!("{}.{}", tenths / 10, tenths % 10));
    }
    let whole = rounded(1);
    (whole < 1024).then(|| whole.to_string())
}

/// Why a text is not a size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SizeError {
    Empty,
    Negative,
    NotANumber,
    UnknownUnit(String),
    PartOfAByte,
    TooLarge,
}

impl fmt::Display for SizeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("a size is needed, such as 4096, 64K or 1.5G"),
            Self::Negative => f.write_str("a size cannot be negative"),
            Self::NotANumber => f.write_str("not a size; sizes look like 4096, 64K or 1.5G"),
            Self::UnknownUnit(unit) => {
                write!(
                    f,
                    "unknown unit '{unit}'; use K, M, G or T (powers of 1024)"
                )
            }
            Self::PartOfAByte => f.write_str("a part of a byte; use a whole number or K, M, G, T"),
            Self::TooLarge => f.write_str("too large; sizes end below 16E"),
        }
    }
}

impl std::error::Error for SizeError {}

impl FromStr for Bytes {
    type Err = SizeError;

    /// Reads what `Display` prints, and plain numbers: `4096`, `512B`, `64K`, `1.5g`.
    fn from_str(text: &str) -> Result<Self, SizeError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(SizeError::Empty);
        }
        if text.starts_with('-') {
            return Err(SizeError::Negative);
        }
        let end = text
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        if number.is_empty() {
            return Err(SizeError::NotANumber);
        }
        let shift = unit_shift(unit)?;
        let (whole, fraction) = match number.split_once('.') {
            Some((_, "")) => return Err(SizeError::NotANumber),
            Some((whole, fraction)) => (whole, fraction),
            None => (number, ""),
        };
        if whole.is_empty() || fraction.contains('.') {
            return Err(SizeError::NotANumber);
        }
        let whole: u128 = whole.parse().map_err(|_| SizeError::TooLarge)?;
        let whole = whole.checked_mul(1 << shift).ok_or(SizeError::TooLarge)?;
        let bytes = whole
            .checked_add(fraction_of(fraction, shift)?)
            .ok_or(SizeError::TooLarge)?;
        u64::try_from(bytes)
            .map(Self)
            .map_err(|_| SizeError::TooLarge)
    }
}

/// How far a unit shifts a number: 10 for K.
fn unit_shift(unit: &str) -> Result<u32, SizeError> {
    let unknown = || SizeError::UnknownUnit(unit.to_owned());
    let mut letters = unit.chars();
    let shift = match letters.next() {
        None => return Ok(0),
        Some('B' | 'b') => 0,
        Some(letter) => {
            let place = LETTERS
                .iter()
                .position(|l| *l == letter.to_ascii_uppercase());
            10 * (place.ok_or_else(unknown)? as u32 + 1)
        }
    };
    match letters.next() {
        None => Ok(shift),
        Some(_) => Err(unknown()),
    }
}

/// The bytes of a decimal fraction of a unit, rounded to the nearest.
fn fraction_of(fraction: &str, shift: u32) -> Result<u128, SizeError> {
    // Eighteen digits are finer than a byte in the largest unit; what follows cannot matter.
    let digits = &fraction[..fraction.len().min(18)];
    if digits.is_empty() {
        return Ok(0);
    }
    let value: u128 = digits.parse().map_err(|_| SizeError::NotANumber)?;
    if shift == 0 && value != 0 {
        return Err(SizeError::PartOfAByte);
    }
    let scale = 10u128.pow(digits.len() as u32);
    Ok(((value << shift) + scale / 2) / scale)
}

/// A length of time: `850 µs`, `12 ms`, `3.1 s`, `1m 12s`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Nanos(pub u64);

impl fmt::Display for Nanos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MICRO: u64 = 1_000;
        const MILLI: u64 = 1_000_000;
        const SECOND: u64 = 1_000_000_000;
        // Every step tests the rounded figure, so that 999.7 µs becomes 1.0 ms and 59.97 s 1m 00s.
        let tenths = |unit: u64| rounded_div(self.0, unit / 10);
        let text = if self.0 < MICRO {
            format!("{} ns", self.0)
        } else if tenths(MICRO) < 100 {
            with_tenth(tenths(MICRO), "µs")
        } else if rounded_div(self.0, MICRO) < 1000 {
            format!("{} µs", rounded_div(self.0, MICRO))
        } else if tenths(MILLI) < 100 {
            with_tenth(tenths(MILLI), "ms")
        } else if rounded_div(self.0, MILLI) < 1000 {
            format!("{} ms", rounded_div(self.0, MILLI))
        } else if tenths(SECOND) < 600 {
            with_tenth(tenths(SECOND), "s")
        } else {
            let seconds = rounded_div(self.0, SECOND);
            let minutes = rounded_div(self.0, 60 * SECOND);
            if seconds < 3600 {
                format!("{}m {:02}s", seconds / 60, seconds % 60)
            } else if minutes < 24 * 60 {
                format!("{}h {:02}m", minutes / 60, minutes % 60)
            } else {
                let hours = rounded_div(self.0, 3600 * SECOND);
                format!("{}d {:02}h", hours / 24, hours % 24)
            }
        };
        f.pad(&text)
    }
}

fn rounded_div(value: u64, by: u64) -> u64 {
    value / by + u64::from(value % by >= by.div_ceil(2))
}

fn with_tenth(tenths: u64, unit: &str) -> String {
    format!("{}.{} {unit}", tenths / 10, tenths % 10)
}

/// Time since the start of tracing, in nanoseconds: `12.031s`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct SinceStart(pub u64);

impl fmt::Display for SinceStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Truncated, not rounded, so that a later stamp never shows an earlier second.
        let millis = self.0 / 1_000_000;
        f.pad(&format!("{}.{:03}s", millis / 1000, millis % 1000))
    }
}

/// A count with separators: `312,004`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Count(pub u64);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        let mut text = String::with_capacity(digits.len() + digits.len() / 3);
        for (at, digit) in digits.chars().enumerate() {
            if at > 0 && (digits.len() - at).is_multiple_of(3) {
                text.push(',');
            }
            text.push(digit);
        }
        f.pad(&text)
    }
}

/// Bytes a second: `12.3M/s`.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
pub struct BytesPerSecond(pub f64);

impl fmt::Display for BytesPerSecond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&if self.0 > 0.0 && self.0 < 1.0 {
            "<1B/s".to_owned()
        } else {
            format!("{}/s", Bytes(self.0.round() as u64))
        })
    }
}

/// Things a second: `12,004/s`, and `0.3/s` where there are few.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
pub struct PerSecond(pub f64);

impl fmt::Display for PerSecond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = if self.0 <= 0.0 || self.0.round() >= 10.0 {
            format!("{}/s", Count(self.0.round() as u64))
        } else if self.0 < 0.05 {
            "<0.1/s".to_owned()
        } else {
            format!("{:.1}/s", self.0)
        };
        f.pad(&text)
    }
}

/// A part of a whole: `1.2%`, `75.0%`, `250%`.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
pub struct Percent(pub f64);

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = self.0 * 100.0;
        f.pad(&if percent <= 0.0 {
            "0%".to_owned()
        } else if percent < 0.05 {
            "<0.1%".to_owned()
        } else if percent < 99.95 {
            format!("{percent:.1}%")
        } else {
            format!("{percent:.0}%")
        })
    }
}

/// A moment of the calendar as RFC 3339 has it, in UTC: `2025-11-21T01:43:07.250Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rfc3339(pub SystemTime);

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = match self.0.duration_since(UNIX_EPOCH) {
            Ok(after) => after.as_millis() as i128,
            // Rounded down, as after the epoch.
            Err(before) => -(before.duration().as_nanos().div_ceil(1_000_000) as i128),
        };
        let (days, of_day) = (millis.div_euclid(86_400_000), millis.rem_euclid(86_400_000));
        let (year, month, day) = civil_from_days(days);
        let (seconds, millis) = (of_day / 1000, of_day % 1000);
        let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        f.pad(&format!(
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z"
        ))
    }
}

/// Year, month and day of a day counted from 1970-01-01, in the proleptic Gregorian calendar.
///
/// Years are counted from March, so that the leap day is the last of a year, and in eras of
/// 400 years, after which the calendar repeats.
fn civil_from_days(days: i128) -> (i128, i128, i128) {
    const DAYS_OF_ERA: i128 = 146_097;
    // From 0000-03-01 to 1970-01-01.
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(DAYS_OF_ERA), days.rem_euclid(DAYS_OF_ERA));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    let year = era * 400 + year_of_era + i128::from(month <= 2);
    (year, month, day)
}

/// A difference of bytes, with its sign: `+1.04G`, `-64.0K`, `0B`.
pub fn signed_bytes(bytes: i64) -> String {
    let sign = match bytes {
        ..0 => "-",
        0 => "",
        1.. => "+",
    };
    format!("{sign}{}", Bytes(bytes.unsigned_abs()))
}

/// A count of things: `1 call`, `3,004 faults`.
pub fn counted(count: u64, one: &str) -> String {
    let plural = match count {
        1 => "",
        _ if one.ends_with('s') => "es",
        _ => "s",
    };
    format!("{} {one}{plural}", Count(count))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn bytes(value: u64) -> String {
        Bytes(value).to_string()
    }

    #[test]
    fn sizes_have_three_digits_and_a_letter() {
        const K: u64 = 1024;
        const M: u64 = 1024 * K;
        const G: u64 = 1024 * M;
        for (value, text) in [
            (0, "0B"),
            (512, "512B"),
            (1023, "1023B"),
            (K, "1.00K"),
            (4 * K, "4.00K"),
            (64 * K, "64.0K"),
            (100 * K, "100K"),
            (1000 * K, "1000K"),
            (1023 * K, "1023K"),
            (24 * M, "24.0M"),
            (12 * M + 300 * K, "12.3M"),
            (G, "1.00G"),
            (G + 40 * M, "1.04G"),
            (3 * 1024 * G, "3.00T"),
            (u64::MAX, "16.0E"),
        ] {
            assert_eq!(bytes(value), text);
        }
    }

    #[test]
    fn a_size_that_rounds_up_takes_the_next_letter() {
        const K: u64 = 1024;
        assert_eq!(bytes(1024 * K - 10), "1.00M");
        assert_eq!(bytes(1024 * K - K / 2), "1.00M");
        assert_eq!(bytes(1024 * K - K / 2 - 1), "1023K");
        assert_eq!(bytes(1024 * 1024 * K - 1), "1.00G");
        // 9.996 has three digits as 10.0, and 99.96 as 100.
        assert_eq!(bytes(10 * K - 4), "10.0K");
        assert_eq!(bytes(100 * K - 40), "100K");
    }

    #[test]
    fn sizes_line_up() {
        assert_eq!(
            format!("{:>8}|{:<8}|", Bytes(65536), Bytes(1)),
            "   64.0K|1B      |"
        );
        assert_eq!(format!("{:>6}", Count(1240)), " 1,240");
        assert_eq!(format!("{:>7}", Nanos(12_000_000)), "  12 ms");
    }

    #[test]
    fn typed_sizes_are_read() {
        for (text, value) in [
            ("0", 0),
            ("4096", 4096),
            (" 4096 ", 4096),
            ("512B", 512),
            ("64K", 65536),
            ("64k", 65536),
            ("1.5G", 1_610_612_736),
            ("1.00G", 1 << 30),
            ("0.5K", 512),
            ("0.0001K", 0),
            ("2T", 2 << 40),
            ("1.0", 1),
            ("18446744073709551615", u64::MAX),
            ("15.999999999999999999999E", u64::MAX),
        ] {
            assert_eq!(text.parse(), Ok(Bytes(value)), "{text}");
        }
    }

    #[test]
    fn wrong_sizes_say_what_is_wrong() {
        for (text, error) in [
            ("", "a size is needed, such as 4096, 64K or 1.5G"),
            ("  ", "a size is needed, such as 4096, 64K or 1.5G"),
            ("-1", "a size cannot be negative"),
            ("12Q", "unknown unit 'Q'; use K, M, G or T (powers of 1024)"),
            (
                "12KiB",
                "unknown unit 'KiB'; use K, M, G or T (powers of 1024)",
            ),
            ("12é", "unknown unit 'é'; use K, M, G or T (powers of 1024)"),
            ("K", "not a size; sizes look like 4096, 64K or 1.5G"),
            ("1.", "not a size; sizes look like 4096, 64K or 1.5G"),
            (".5K", "not a size; sizes look like 4096, 64K or 1.5G"),
            ("1.2.3K", "not a size; sizes look like 4096, 64K or 1.5G"),
            ("1.5", "a part of a byte; use a whole number or K, M, G, T"),
            ("16E", "too large; sizes end below 16E"),
            ("18446744073709551616", "too large; sizes end below 16E"),
            (
                "99999999999999999999999999999999999999999999",
                "too large; sizes end below 16E",
            ),
            (
                "340282366920938463463374607431768211455E",
                "too large; sizes end below 16E",
            ),
        ] {
            let found = text.parse::<Bytes>().expect_err(text);
            assert_eq!(found.to_string(), error, "{text:?}");
        }
    }

    #[test]
    fn what_is_shown_can_be_typed_again() {
        for value in [0, 512, 65536, 24 << 20, 3 << 40, 1 << 60] {
            assert_eq!(bytes(value).parse(), Ok(Bytes(value)));
        }
    }

    #[test]
    fn durations_read_like_speech() {
        for (nanos, text) in [
            (0, "0 ns"),
            (999, "999 ns"),
            (1_000, "1.0 µs"),
            (9_949, "9.9 µs"),
            (9_950, "10 µs"),
            (850_000, "850 µs"),
            (999_499, "999 µs"),
            (999_500, "1.0 ms"),
            (3_140_000, "3.1 ms"),
            (12_000_000, "12 ms"),
            (999_499_999, "999 ms"),
            (999_500_000, "1.0 s"),
            (3_100_000_000, "3.1 s"),
            (31_200_000_000, "31.2 s"),
            (59_949_999_999, "59.9 s"),
            (59_950_000_000, "1m 00s"),
            (72_000_000_000, "1m 12s"),
            (3_599_499_999_999, "59m 59s"),
            (3_599_500_000_000, "1h 00m"),
            (7_500_000_000_000, "2h 05m"),
            (86_399_000_000_000, "1d 00h"),
            (100_000_000_000_000, "1d 04h"),
            (170_970_000_000_000, "1d 23h"),
            (u64::MAX, "213504d 00h"),
        ] {
            assert_eq!(Nanos(nanos).to_string(), text, "{nanos}");
        }
    }

    #[test]
    fn time_since_start_has_milliseconds() {
        assert_eq!(SinceStart(0).to_string(), "0.000s");
        assert_eq!(SinceStart(12_031_999_999).to_string(), "12.031s");
        assert_eq!(SinceStart(3_723_000_000_000).to_string(), "3723.000s");
    }

    #[test]
    fn counts_have_separators() {
        for (value, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (312_004, "312,004"),
            (1_000_000, "1,000,000"),
            (u64::MAX, "18,446,744,073,709,551,615"),
        ] {
            assert_eq!(Count(value).to_string(), text);
        }
    }

    #[test]
    fn rates_are_per_second_and_never_hide_a_little() {
        let mega = 1024.0 * 1024.0;
        assert_eq!(BytesPerSecond(120.0 * mega).to_string(), "120M/s");
        assert_eq!(BytesPerSecond(12.3 * mega).to_string(), "12.3M/s");
        assert_eq!(BytesPerSecond(0.0).to_string(), "0B/s");
        assert_eq!(BytesPerSecond(0.2).to_string(), "<1B/s");
        assert_eq!(PerSecond(12_004.4).to_string(), "12,004/s");
        assert_eq!(PerSecond(0.0).to_string(), "0/s");
        assert_eq!(PerSecond(0.3).to_string(), "0.3/s");
        assert_eq!(PerSecond(9.4).to_string(), "9.4/s");
        assert_eq!(PerSecond(9.6).to_string(), "10/s");
        assert_eq!(PerSecond(0.01).to_string(), "<0.1/s");
    }

    #[test]
    fn percentages_keep_one_decimal_below_a_hundred() {
        for (ratio, text) in [
            (0.0, "0%"),
            (0.0001, "<0.1%"),
            (0.012, "1.2%"),
            (0.75, "75.0%"),
            (0.9996, "100%"),
            (1.0, "100%"),
            (2.5, "250%"),
        ] {
            assert_eq!(Percent(ratio).to_string(), text);
        }
    }

    #[test]
    fn moments_are_rfc_3339_in_utc() {
        let after = |seconds: u64, millis: u64| {
            Rfc3339(UNIX_EPOCH + Duration::from_millis(seconds * 1000 + millis)).to_string()
        };
        assert_eq!(after(0, 0), "1970-01-01T00:00:00.000Z");
        assert_eq!(after(951_782_400, 0), "2000-02-29T00:00:00.000Z");
        assert_eq!(after(951_868_799, 999), "2000-02-29T23:59:59.999Z");
        assert_eq!(after(1_709_164_800, 0), "2024-02-29T00:00:00.000Z");
        assert_eq!(after(1_735_689_599, 1), "2024-12-31T23:59:59.001Z");
        assert_eq!(after(1_763_689_387, 250), "2025-11-21T01:43:07.250Z");
        assert_eq!(after(4_107_542_400, 0), "2100-03-01T00:00:00.000Z");
        let before = Rfc3339(UNIX_EPOCH - Duration::from_nanos(1));
        assert_eq!(before.to_string(), "1969-12-31T23:59:59.999Z");
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let (mut year, mut month, mut day) = civil_from_days(-200_000);
        for days in -199_999..200_000 {
            let next = civil_from_days(days);
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let length = [
                31,
                28 + i128::from(leap),
                31,
                30,
                31,
                30,
                31,
                31,
                30,
                31,
                30,
                31,
            ];
            day += 1;
            if day > length[month as usize - 1] {
                (month, day) = (month + 1, 1);
            }
            if month > 12 {
                (year, month) = (year + 1, 1);
            }
            assert_eq!(next, (year, month, day));
        }
    }
}
