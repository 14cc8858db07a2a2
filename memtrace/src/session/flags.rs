//! Reads the VmFlags of mappings that were there before the trace: at once where that is quick, else in a thread.

use std::sync::mpsc;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::clock;
use crate::ledger::event::{Event, HugeAdvice, MappingFlags};
use crate::proc::maps::Maps;
use crate::proc::{rss, vmflags};

/// A process with more resident memory than this is read in the thread, in bytes.
const MAX_RSS_AT_ONCE: u64 = 1 << 30;
/// So much time all reads at once may take, in nanoseconds: the header waits for them.
const MAX_AT_ONCE_NS: u64 = 100_000_000;

/// Reads smaps, which walks the page tables: some 9 ms for each resident GiB of 4 KiB pages.
pub struct FlagReader {
    spent_ns: u64,
    requests: Option<mpsc::Sender<u32>>,
    answers: UnboundedSender<MappingFlags>,
    read: UnboundedReceiver<MappingFlags>,
}

impl Default for FlagReader {
    fn default() -> Self {
        let (answers, read) = unbounded_channel();
        Self {
            spent_ns: 0,
            requests: None,
            answers,
            read,
        }
    }
}

impl FlagReader {
    /// Adds to `maps` what the VmFlags of the process say. Where that takes long it is not known yet
    /// which of them ask for huge pages, and an event tells later.
    pub fn add_to(&mut self, maps: &mut Maps, pid: u32) {
        let begun_ns = clock::now_ns();
        let quick = self.spent_ns < MAX_AT_ONCE_NS
            && rss::rss_bytes(pid).is_ok_and(|bytes| bytes <= MAX_RSS_AT_ONCE);
        if quick && let Ok(flags) = vmflags::read(pid) {
            maps.mark(&flags);
        } else {
            for (_, mapping) in &mut maps.list {
                mapping.flags.huge = HugeAdvice::Unknown;
            }
            self.ask(pid);
        }
        self.spent_ns += clock::now_ns().saturating_sub(begun_ns);
    }

    /// What the thread has read since.
    pub fn take(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.read.try_recv().ok())
            .map(Event::Flags)
            .collect()
    }

    fn ask(&mut self, pid: u32) {
        if self.requests.is_none() {
            self.requests = start(self.answers.clone());
        }
        // Without a thread it stays unknown, which makes figures bounds and nothing worse.
        if let Some(requests) = &self.requests {
            let _ = requests.send(pid);
        }
    }
}

fn start(answers: UnboundedSender<MappingFlags>) -> Option<mpsc::Sender<u32>> {
    let (requests, asked) = mpsc::channel::<u32>();
    std::thread::Builder::new()
        .name("vmflags".to_owned())
        .spawn(move || {
            for pid in asked {
                // Stamped before the read: what is advised while it goes on is applied on top of it.
                let at_ns = clock::now_ns();
                if let Ok(list) = vmflags::read(pid)
                    && answers.send(MappingFlags { at_ns, pid, list }).is_err()
                {
                    break;
                }
            }
        })
        .ok()?;
    Some(requests)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_read_at_once_is_unknown_and_told_later() {
        let mut reader = FlagReader {
            spent_ns: MAX_AT_ONCE_NS,
            ..FlagReader::default()
        };
        let pid = std::process::id();
        let mut maps = crate::proc::maps::read(pid).unwrap();
        reader.add_to(&mut maps, pid);
        let unknown = |maps: &Maps| {
            let unknown = |flags: HugeAdvice| flags == HugeAdvice::Unknown;
            maps.list.iter().all(|(_, m)| unknown(m.flags.huge))
        };
        assert!(unknown(&maps));
        let told = reader.read.blocking_recv().expect("the thread answers");
        assert_eq!(told.pid, pid);
        reader.spent_ns = 0;
        let mut maps = crate::proc::maps::read(pid).unwrap();
        reader.add_to(&mut maps, pid);
        assert!(!unknown(&maps));
    }
}
