//! The text of /debug/pprof/heap?debug=1: what pprof calls in use, and the MemStats at its end.

use std::io::{self, BufRead, Read};

use super::memstats::{self, MemStats};

/// No line of interest is longer; what is beyond is passed over.
const MAX_LINE: usize = 512;

/// What a heap profile says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Profile {
    pub stats: MemStats,
    pub in_use: Option<InUse>,
}

/// What `go tool pprof` shows as inuse_space: live at the end of the last cycle, scaled up from samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InUse {
    pub bytes: u64,
    /// One object is sampled each time that so many bytes were allocated (runtime.MemProfileRate).
    pub rate_bytes: u64,
}

/// Reads a profile line by line; of its records no more than a sum is kept.
///
/// # Errors
/// What is wrong with the text, in words.
pub fn read(text: impl Read) -> Result<Profile, String> {
    let mut text = io::BufReader::with_capacity(64 << 10, text);
    let mut stats = MemStats::default();
    let mut figures = 0;
    let mut rate: Option<u64> = None;
    let mut in_use = 0.0;
    let mut first = true;
    let mut line = Vec::new();
    while next_line(&mut text, &mut line)
        .map_err(|error| format!("it could not be read to its end: {error}"))?
    {
        // Function names may hold any bytes; nothing of them is kept.
        let line = String::from_utf8_lossy(&line);
        if std::mem::take(&mut first) {
            rate = Some(sampling_rate(&line).ok_or("it is no heap profile of a Go program")?);
        } else if figures == 0
            && let Some((objects, bytes)) = record(&line)
        {
            in_use += scaled(objects, bytes, rate.unwrap_or(1));
        } else if memstats::take_line(&mut stats, &line) {
            figures += 1;
        }
    }
    match figures {
        0 if first => Err("it is empty".to_owned()),
        0 => Err("it has no runtime.MemStats: it was cut off, or asked for without debug=1".into()),
        memstats::LINES => Ok(Profile {
            stats,
            in_use: rate.filter(|rate| *rate > 0).map(|rate_bytes| InUse {
                bytes: in_use as u64,
                rate_bytes,
            }),
        }),
        _ => Err(format!(
            "its runtime.MemStats has {figures} of the {} figures looked for: it was cut off, or is no Go program's",
            memstats::LINES
        )),
    }
}

/// The next line, without its end and what is too long of it; false at the end of the text.
fn next_line(text: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    let mut any = false;
    loop {
        let buffer = match text.fill_buf() {
            Ok(buffer) => buffer,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if buffer.is_empty() {
            return Ok(any);
        }
        any = true;
        let end = memchr::memchr(b'\n', buffer);
        let part = &buffer[..end.unwrap_or(buffer.len())];
        let room = MAX_LINE.saturating_sub(line.len());
        line.extend_from_slice(&part[..part.len().min(room)]);
        let used = part.len() + usize::from(end.is_some());
        text.consume(used);
        if end.is_some() {
            return Ok(true);
        }
    }
}

/// Of the first line, `heap profile: 3: 96 [5: 160] @ heap/1048576`. What stands there is twice the
/// rate (Go: runtime/pprof/pprof.go:writeHeapInternal).
fn sampling_rate(line: &str) -> Option<u64> {
    let rest = line.strip_prefix("heap profile: ")?;
    let (_, twice) = rest.split_once("@ heap/")?;
    Some(twice.trim().parse::<u64>().ok()? / 2)
}

/// Objects and bytes in use of a record, `1: 4096 [7: 28672] @ 0x45b1c1 0x45b2d3`.
fn record(line: &str) -> Option<(u64, u64)> {
    let (counts, rest) = line.split_once('[')?;
    rest.contains("] @").then_some(())?;
    let (objects, bytes) = counts.split_once(':')?;
    Some((objects.trim().parse().ok()?, bytes.trim().parse().ok()?))
}

/// What the samples stand for: an object of the mean size is sampled with a probability of
/// 1 - e^(-size/rate) (Go: runtime/pprof/protomem.go:scaleHeapSample).
fn scaled(objects: u64, bytes: u64, rate: u64) -> f64 {
    let bytes = bytes as f64;
    if objects == 0 || bytes == 0.0 || rate <= 1 {
        return bytes;
    }
    let mean = bytes / objects as f64;
    bytes / -(-mean / rate as f64).exp_m1()
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The end of a profile.
    pub(in crate::golang) const STATS: &str = "
# runtime.MemStats
# Sys = 400
# HeapAlloc = 100
# HeapSys = 300
# HeapIdle = 100
# HeapInuse = 200
# HeapReleased = 50
# Stack = 1 / 2
# MSpan = 3 / 4
# MCache = 5 / 6
# BuckHashSys = 7
# GCSys = 8
# OtherSys = 9
# NextGC = 10
# NumGC = 11
";

    fn with_records(records: &str) -> Result<Profile, String> {
        let text = format!("heap profile: 2: 1 [3: 4] @ heap/1048576\n{records}{STATS}");
        read(text.as_bytes())
    }

    #[test]
    fn samples_are_scaled_to_what_they_stand_for() {
        // Objects far larger than the rate are all sampled; of 512-byte ones each 1024th.
        let profile = with_records(
            "1: 104857600 [1: 104857600] @ 0x1 0x2\n#\t0x1\tmain.f+0x10\t/a b.go:3\n\n2: 1024 [9: 4608] @ 0x3\n0: 0 [5: 99] @ 0x4\n",
        )
        .unwrap();
        let in_use = profile.in_use.unwrap();
        assert_eq!(in_use.rate_bytes, 524_288);
        let expected = 104_857_600.0 + 1024.0 / (1.0 - (-512.0f64 / 524_288.0).exp());
        assert!(
            (in_use.bytes as f64 - expected).abs() < 2.0,
            "{} {expected}",
            in_use.bytes
        );
        assert_eq!(profile.stats.heap_released, 50);
        assert_eq!(profile.stats.num_gc, 11);
    }

    #[test]
    fn a_program_that_does_not_sample_has_no_figure() {
        let text = format!("heap profile: 0: 0 [0: 0] @ heap/0\n{STATS}");
        assert_eq!(read(text.as_bytes()).unwrap().in_use, None);
    }

    #[test]
    fn other_texts_are_told_from_a_profile() {
        let why = |text: &str| read(text.as_bytes()).unwrap_err();
        assert_eq!(why(""), "it is empty");
        assert!(why("<html>404</html>").contains("no heap profile"));
        let header = "heap profile: 0: 0 [0: 0] @ heap/1048576\n";
        assert!(why(header).contains("no runtime.MemStats"));
        assert!(why(&format!("{header}# HeapIdle = 5\n")).contains("1 of the 14"));
        assert!(why(&"x".repeat(1 << 20)).contains("no heap profile"));
    }

    #[test]
    fn a_name_with_a_record_in_it_is_cut_like_any_line() {
        let long = format!("#\t0x1\t{}1: 99 [1: 99] @ 0x1\n", "n".repeat(MAX_LINE));
        assert_eq!(with_records(&long).unwrap().in_use.unwrap().bytes, 0);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let _ = read(&bytes[..]);
            let mut text = b"heap profile: 0: 0 [0: 0] @ heap/1048576\n".to_vec();
            text.extend(bytes);
            let _ = read(&text[..]);
        }
    }
}
