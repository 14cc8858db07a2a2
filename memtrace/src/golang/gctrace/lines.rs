//! Cuts a stream of bytes into lines of bounded length, whatever comes.

/// Longer lines are passed over. Go's own have less than 300 bytes, but a log puts something before them.
pub const LONGEST: usize = 4096;

/// What a stream of bytes is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// A line without its end.
    Line(&'a [u8]),
    /// A line that was longer than is kept.
    TooLong,
}

/// Remembers the beginning of a line until its end comes.
#[derive(Debug, Default)]
pub struct Lines {
    begun: Vec<u8>,
    too_long: bool,
}

impl Lines {
    /// Takes bytes in and tells of every line that ends in them.
    pub fn push(&mut self, mut bytes: &[u8], mut tell: impl FnMut(Piece<'_>)) {
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
            bytes = rest;
            if self.begun.is_empty() && !self.too_long && line.len() <= LONGEST {
                tell(Piece::Line(line));
                continue;
            }
            self.keep(line);
            if self.too_long {
                tell(Piece::TooLong);
            } else {
                tell(Piece::Line(&self.begun));
            }
            self.forget();
        }
        self.keep(bytes);
    }

    /// Drops the line that has begun; true if there was one.
    pub fn forget(&mut self) -> bool {
        let begun = self.too_long || !self.begun.is_empty();
        self.begun.clear();
        self.too_long = false;
        begun
    }

    fn keep(&mut self, part: &[u8]) {
        if self.too_long || self.begun.len() + part.len() > LONGEST {
            self.too_long = true;
            self.begun.clear();
        } else {
            self.begun.extend_from_slice(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What comes out, a line that was too long as None; and whether one is left.
    fn cut(parts: &[&[u8]]) -> (Vec<Option<Vec<u8>>>, bool) {
        let mut lines = Lines::default();
        let mut out = Vec::new();
        for part in parts {
            lines.push(part, |piece| {
                out.push(match piece {
                    Piece::Line(line) => Some(line.to_vec()),
                    Piece::TooLong => None,
                });
            });
            assert!(lines.begun.capacity() <= 2 * LONGEST);
        }
        (out, lines.forget())
    }

    #[test]
    fn lines_come_whole_however_they_were_cut() {
        let line = |text: &str| Some(text.as_bytes().to_vec());
        assert_eq!(
            cut(&[b"one\ntw", b"", b"o\n", b"\nthree"]),
            (vec![line("one"), line("two"), line("")], true)
        );
        assert_eq!(cut(&[b"", b"\n"]), (vec![line("")], false));
    }

    #[test]
    fn a_line_without_end_is_not_kept() {
        let long = [b'x'; LONGEST];
        // As long as may be; then one byte more, at once and in pieces.
        assert_eq!(cut(&[&long, b"\n"]).0, [Some(long.to_vec())]);
        assert_eq!(cut(&[&long, b"y\nz\n"]).0, [None, Some(b"z".to_vec())]);
        let mut whole = long.to_vec();
        whole.extend_from_slice(b"y\n");
        assert_eq!(cut(&[&whole]).0, [None]);
        let many: Vec<&[u8]> = vec![&long; 1000];
        assert_eq!(cut(&many), (Vec::new(), true));
    }

    proptest! {
        #[test]
        fn where_the_stream_is_cut_changes_nothing(
            bytes in prop::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..200),
            cuts in prop::collection::vec(0usize..200, 0..10),
        ) {
            let mut places: Vec<usize> = cuts.iter().map(|at| at % (bytes.len() + 1)).collect();
            places.extend([0, bytes.len()]);
            places.sort_unstable();
            let parts: Vec<&[u8]> = places.windows(2).map(|w| &bytes[w[0]..w[1]]).collect();
            prop_assert_eq!(cut(&parts), cut(&[&bytes]));
            let ends = bytes.iter().filter(|byte| **byte == b'\n').count();
            prop_assert_eq!(cut(&[&bytes]).0.len(), ends);
        }
    }
}
