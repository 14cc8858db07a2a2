//! What all lines of a trace come to: the last state, the peaks and what was passed over.

use super::lines::{Lines, Piece};
use super::{Event, GcLine, parse};

/// The running sum. A figure that no line gave is None.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest {
    /// Lines of the collector.
    pub cycles: u64,
    /// Those of them that stood there when tracing began.
    pub cycles_before: u64,
    pub forced: u64,
    pub last: Option<GcLine>,
    pub peak_live_bytes: Option<u64>,
    /// Lines of the scavenger.
    pub scavenger_lines: u64,
    /// What it says to have given back, added up.
    pub scavenged_bytes: Option<u64>,
    /// Given back and not taken again, by its last line that tells.
    pub released_bytes: Option<u64>,
    /// Mapped for the heap and not given back, by its last line that tells.
    pub consumed_bytes: Option<u64>,
    /// Other lines, those that were too long or have no end among them.
    pub passed_over: u64,
    pub too_long: u64,
    /// How often a cycle's number was not above the one before it: another process's line.
    pub steps_back: u64,
}

impl Digest {
    fn add(&mut self, event: &Event) {
        match event {
            Event::Gc(line) => {
                self.steps_back +=
                    u64::from(self.last.is_some_and(|last| line.cycle <= last.cycle));
                self.cycles += 1;
                self.forced += u64::from(line.forced);
                self.peak_live_bytes = self.peak_live_bytes.max(Some(line.heap_live_bytes));
                self.last = Some(*line);
            }
            Event::Scavenger(line) => {
                self.scavenger_lines += 1;
                if let Some(bytes) = line.work_bytes {
                    let sum = self.scavenged_bytes.get_or_insert(0);
                    *sum = sum.saturating_add(bytes);
                }
                self.released_bytes = line.released_bytes.or(self.released_bytes);
                self.consumed_bytes = line.consumed_bytes.or(self.consumed_bytes);
            }
        }
    }
}

/// Takes bytes in as they come, and tells of what they say.
#[derive(Debug, Default)]
pub struct Reader {
    lines: Lines,
    digest: Digest,
}

impl Reader {
    /// Bytes that were written while tracing.
    pub fn push(&mut self, bytes: &[u8], mut tell: impl FnMut(Event)) {
        let Self { lines, digest } = self;
        lines.push(bytes, |piece| {
            if let Some(event) = take(digest, piece) {
                digest.add(&event);
                tell(event);
            }
        });
    }

    /// Bytes that stood there before. Where the numbers begin anew, another process wrote what was before.
    pub fn push_before(&mut self, bytes: &[u8]) {
        let Self { lines, digest } = self;
        lines.push(bytes, |piece| {
            let Some(event) = take(digest, piece) else {
                return;
            };
            if let (Event::Gc(line), Some(last)) = (&event, digest.last)
                && line.cycle <= last.cycle
            {
                *digest = Digest {
                    passed_over: digest.passed_over,
                    too_long: digest.too_long,
                    ..Digest::default()
                };
            }
            digest.add(&event);
            digest.cycles_before = digest.cycles;
        });
    }

    /// No end of the line that has begun will come: the stream is over, or goes on elsewhere.
    pub fn cut(&mut self) {
        self.digest.passed_over += u64::from(self.lines.forget());
    }

    pub fn digest(&self) -> Digest {
        self.digest
    }
}

fn take(digest: &mut Digest, piece: Piece<'_>) -> Option<Event> {
    let event = match piece {
        Piece::Line(line) => parse(line),
        Piece::TooLong => {
            digest.too_long += 1;
            None
        }
    };
    digest.passed_over += u64::from(event.is_none());
    event
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn gc(cycle: u64, live: u64, end: &str) -> String {
        format!(
            "gc {cycle} @1.5s 0%: 0+0+0 ms clock, 0+0/0/0+0 ms cpu, 9->9->{live} MB, 10 MB goal, 4 P{end}\n"
        )
    }

    #[test]
    fn the_last_line_and_the_peak_stay() {
        let text = [
            gc(1, 3, ""),
            gc(2, 412, " (forced)"),
            "scvg: 7 MB released\n".to_owned(),
            "scvg: inuse: 8, idle: 3, sys: 11, released: 2, consumed: 9 (MB)\n".to_owned(),
            "scvg: 1 MB released\n".to_owned(),
            "hello\n".to_owned(),
            gc(3, 5, ""),
            "x".repeat(5000) + "\n",
            "gc 4 @1.5s 0%: 0+0+0 ms clo".to_owned(),
        ]
        .concat();
        let mut reader = Reader::default();
        let mut told = 0;
        reader.push(text.as_bytes(), |_| told += 1);
        reader.cut();
        reader.cut();
        let digest = reader.digest();
        assert_eq!((told, digest.cycles, digest.forced), (6, 3, 1));
        assert_eq!((digest.scavenger_lines, digest.steps_back), (3, 0));
        assert_eq!(digest.peak_live_bytes, Some(412 * MIB));
        let last = digest.last.unwrap();
        assert_eq!((last.cycle, last.heap_live_bytes), (3, 5 * MIB));
        assert_eq!(digest.scavenged_bytes, Some(8 * MIB));
        assert_eq!(digest.released_bytes, Some(2 * MIB));
        assert_eq!(digest.consumed_bytes, Some(9 * MIB));
        assert_eq!((digest.passed_over, digest.too_long), (3, 1));
    }

    #[test]
    fn what_an_earlier_process_wrote_into_the_file_does_not_count() {
        let before = [gc(7, 900, ""), gc(8, 800, ""), gc(1, 2, ""), gc(2, 4, "")].concat();
        let mut reader = Reader::default();
        reader.push_before(before.as_bytes());
        let digest = reader.digest();
        assert_eq!((digest.cycles, digest.cycles_before), (2, 2));
        assert_eq!(digest.peak_live_bytes, Some(4 * MIB));
        // What comes while tracing is of several processes then, and counts.
        reader.push([gc(3, 1, ""), gc(1, 6, "")].concat().as_bytes(), |_| {});
        let digest = reader.digest();
        assert_eq!((digest.cycles, digest.cycles_before), (4, 2));
        assert_eq!(
            (digest.steps_back, digest.peak_live_bytes),
            (1, Some(6 * MIB))
        );
    }

    #[test]
    fn what_no_line_told_is_not_known() {
        let mut reader = Reader::default();
        reader.push(b"nothing of Go's\n", |_| {});
        assert_eq!(
            reader.digest(),
            Digest {
                passed_over: 1,
                ..Digest::default()
            }
        );
    }
}
