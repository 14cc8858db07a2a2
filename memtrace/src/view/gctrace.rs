//! What Go's runtime told of a process, beside what the kernel says of it.

use crate::golang::gctrace::Event;
use crate::golang::gctrace::digest::Digest;
use crate::ledger::totals::RssHistory;

/// One line of Go's, in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GoLine {
    /// When it was read.
    pub at_ns: u64,
    /// The process that is listened to; None where several are traced.
    pub pid: Option<u32>,
    pub event: Event,
}

/// All that Go's runtime told, and where it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GcTrace {
    /// As typed: a file's name, `-` or `stderr`. Not escaped.
    pub source: String,
    pub digest: Digest,
}

/// The live heap and RSS, where they differ by much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beside {
    /// What the last collection found alive.
    pub live_bytes: u64,
    pub rss_bytes: u64,
    /// The part of RSS that was lazily free at the last look; None where nobody looked.
    pub lazyfree_bytes: Option<u64>,
}

/// The live heap is in whole MiB, and RSS holds stacks, code and free heap too.
const MUCH_BYTES: u64 = 64 << 20;

impl GcTrace {
    /// The live heap beside the last RSS, where one is more than twice the other and far from it.
    pub fn beside(&self, rss: &RssHistory) -> Option<Beside> {
        let live_bytes = self.digest.last?.heap_live_bytes;
        let rss_bytes = rss.last_bytes?;
        let (less, more) = (live_bytes.min(rss_bytes), live_bytes.max(rss_bytes));
        (more - less > MUCH_BYTES && more / 2 > less).then_some(Beside {
            live_bytes,
            rss_bytes,
            lazyfree_bytes: rss.lazyfree_bytes(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golang::gctrace::GcLine;

    const M: u64 = 1 << 20;

    #[test]
    fn only_figures_that_differ_by_much_stand_beside_each_other() {
        let beside = |live: u64, rss: u64| {
            let line = GcLine {
                heap_live_bytes: live * M,
                ..GcLine::default()
            };
            let trace = GcTrace {
                source: "-".to_owned(),
                digest: Digest {
                    last: Some(line),
                    ..Digest::default()
                },
            };
            let history = RssHistory {
                last_bytes: Some(rss * M),
                ..RssHistory::default()
            };
            trace.beside(&history).map(|beside| {
                assert_eq!(beside.lazyfree_bytes, None);
                (beside.live_bytes / M, beside.rss_bytes / M)
            })
        };
        assert_eq!(beside(3, 422), Some((3, 422)));
        assert_eq!(beside(422, 3), Some((422, 3)));
        // Twice as much, or 64 MiB more, is nothing to tell of.
        assert_eq!(beside(0, 64), None);
        assert_eq!(beside(0, 65), Some((0, 65)));
        assert_eq!(beside(200, 400), None);
        assert_eq!(beside(200, 402), Some((200, 402)));
    }

    #[test]
    fn what_is_not_known_stands_beside_nothing() {
        let silent = GcTrace {
            source: "-".to_owned(),
            digest: Digest::default(),
        };
        let history = RssHistory {
            last_bytes: Some(500 * M),
            ..RssHistory::default()
        };
        assert_eq!(silent.beside(&history), None);
    }
}
