//! Records as the kernel side sends them, and the way they take: what the benchmarks share.

use std::fs::File;
use std::io::BufWriter;

use bytes::Bytes;
use memtrace::ledger::event::{Begin, Event, Folios};
use memtrace::ledger::rules::Rules;
use memtrace::output::{JsonOutput, Output};
use memtrace::session::enrich::Enrich;
use memtrace::session::pipeline::Pipeline;
use memtrace::source::Chunk;
use memtrace::view::filter::Filter;
use memtrace_ebpf::{CallRecord, FaultHead, Head, NOT_MEASURED, call, fault_bits, kind};

pub const PAGE: u64 = 4096;
/// Where the benchmarks map.
pub const BASE: u64 = 0x7000_0000_0000;
pub const PID: u32 = 1;
/// The most faults that the kernel side puts into one record.
pub const MOST_FAULTS: usize = 128;
pub const DONTNEED: u64 = 4;
pub const FREE: u64 = 8;
pub const POPULATE_WRITE: u64 = 23;

/// As large as those of the ring's reader.
const CHUNK: usize = 256 * 1024;

/// Writes records into chunks, a microsecond apart.
#[derive(Default)]
pub struct Records {
    chunks: Vec<Chunk>,
    bytes: Vec<u8>,
    now_ns: u64,
}

impl Records {
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes to the pages with these numbers, by one thread, so many to a record at the most.
    pub fn faults(&mut self, tid: u32, pages: impl IntoIterator<Item = u64>, most: usize) {
        let flags = fault_bits::WRITE | fault_bits::USER;
        let entries: Vec<u64> = pages
            .into_iter()
            .map(|n| (BASE + n * PAGE) | flags)
            .collect();
        for entries in entries.chunks(most) {
            self.now_ns += 1000;
            self.put(&FaultHead {
                head: head(kind::FAULTS, 0, entries.len() as u32, tid),
                time_ns: self.now_ns,
                ..FaultHead::default()
            });
            for entry in entries {
                self.put(entry);
            }
            self.end_record();
        }
    }

    pub fn madvise(&mut self, tid: u32, advice: u64, first: u64, pages: u64) {
        let args = [BASE + first * PAGE, pages * PAGE, advice, 0, 0, 0];
        self.call(tid, call::MADVISE, args, 0);
    }

    /// Private anonymous memory.
    pub fn mmap(&mut self, first: u64, pages: u64) {
        let addr = BASE + first * PAGE;
        let args = [addr, pages * PAGE, 3, 0x22, u64::MAX, 0];
        self.call(PID, call::MMAP, args, addr as i64);
    }

    fn call(&mut self, tid: u32, detail: u16, args: [u64; 6], ret: i64) {
        self.now_ns += 1000;
        self.put(&CallRecord {
            head: head(kind::CALL, detail, 0, tid),
            enter_ns: self.now_ns - 500,
            exit_ns: self.now_ns,
            epoch: 0,
            ret,
            args,
            released_pages: NOT_MEASURED,
        });
        self.end_record();
    }

    pub fn chunks(mut self) -> Vec<Chunk> {
        self.end_chunk();
        self.chunks
    }

    fn put<T: Copy>(&mut self, record: &T) {
        // SAFETY: the wire records have no padding, so every byte is initialised.
        let bytes = unsafe {
            std::slice::from_raw_parts(std::ptr::from_ref(record).cast::<u8>(), size_of::<T>())
        };
        self.bytes.extend_from_slice(bytes);
    }

    fn end_record(&mut self) {
        if self.bytes.len() >= CHUNK {
            self.end_chunk();
        }
    }

    fn end_chunk(&mut self) {
        self.chunks.push(Chunk {
            records: Bytes::from(std::mem::take(&mut self.bytes)),
            complete_ns: self.now_ns + 1,
            ..Chunk::default()
        });
    }
}

fn head(kind: u16, detail: u16, count: u32, tid: u32) -> Head {
    Head {
        kind,
        detail,
        count,
        pid: PID,
        tid,
    }
}

/// Everything between the ring's reader and the output.
pub struct Run {
    pub pipeline: Pipeline,
    enrich: Enrich,
    output: Box<dyn Output>,
}

impl Run {
    /// One process, with base pages only; its stream, if there is one, goes to a file as JSON.
    pub fn new(stream: bool) -> Self {
        let mut pipeline = Pipeline::new(Rules::default(), stream.then(Filter::default));
        pipeline.ledger.apply(&Event::Begin(Begin {
            at_ns: 0,
            pid: PID,
            comm: "bench".to_owned(),
            before_exec: false,
        }));
        pipeline
            .ledger
            .apply(&Event::Folios(Folios::base_pages(0, PID)));
        let path = std::env::temp_dir().join("memtrace-bench.json");
        let file = File::create(&path).expect("the folder for temporary files can be written");
        // It has no name any more, and goes with us.
        let _ = std::fs::remove_file(&path);
        Self {
            pipeline,
            enrich: Enrich::new(false),
            output: Box::new(JsonOutput::new(Box::new(BufWriter::new(file)))),
        }
    }

    /// As the tracker takes it.
    pub fn take(&mut self, chunk: &Chunk) {
        let Self {
            pipeline,
            enrich,
            output,
        } = self;
        enrich.begin_chunk();
        pipeline
            .take_in(chunk, |record, order| enrich.take(record, order))
            .expect("the records are whole");
        while let Some(event) = pipeline.next(chunk.complete_ns) {
            pipeline
                .apply(&event, &mut **output)
                .expect("the file can be written");
        }
    }

    pub fn take_all(&mut self, chunks: &[Chunk]) {
        for chunk in chunks {
            self.take(chunk);
        }
    }
}

/// The numbers below `n` in an order of no pattern, always the same.
pub fn shuffled(n: u64) -> Vec<u64> {
    let mut numbers: Vec<u64> = (0..n).collect();
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    for i in (1..numbers.len()).rev() {
        // xorshift64: nothing here wants more.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        numbers.swap(i, (state % (i as u64 + 1)) as usize);
    }
    numbers
}
