//! How many faults a second one core takes, from chunks of records to totals: `cargo bench --bench pipeline`.

#[allow(dead_code, reason = "what the two benchmarks share, each uses in part")]
mod common;

use bytes::Bytes;
use common::*;
use divan::Bencher;
use divan::counter::ItemsCount;
use memtrace::decode::{Delivered, decode};
use memtrace::source::Chunk;

fn main() {
    divan::main();
}

/// Measures what the chunks take after `before` was taken in, per fault.
fn measure(
    bencher: Bencher<'_, '_>,
    stream: bool,
    faults: u64,
    before: &[Chunk],
    chunks: &[Chunk],
) {
    bencher
        .counter(ItemsCount::new(faults))
        .with_inputs(|| {
            let mut run = Run::new(stream);
            run.take_all(before);
            run
        })
        .bench_local_refs(|run| run.take_all(chunks));
}

/// Mapped, touched in this order, given back and touched again: as many faults as twice the pages.
fn touch_twice(order: &[u64], most: usize) -> Vec<Chunk> {
    let mut records = Records::new();
    let pages = order.len() as u64;
    records.mmap(0, pages);
    records.faults(PID, order.iter().copied(), most);
    records.madvise(PID, DONTNEED, 0, pages);
    records.faults(PID, order.iter().copied(), most);
    records.chunks()
}

const PAGES: u64 = 1 << 20;

#[divan::bench(args = [1, 128], sample_count = 20)]
fn decode_alone(bencher: Bencher<'_, '_>, most: usize) {
    let order: Vec<u64> = (0..PAGES).collect();
    let chunks = touch_twice(&order, most);
    bencher.counter(ItemsCount::new(2 * PAGES)).bench_local(|| {
        let mut faults = 0;
        for chunk in &chunks {
            let records: &Bytes = &chunk.records;
            decode(records, &mut Delivered::default(), |record| {
                faults += usize::from(matches!(
                    divan::black_box(record),
                    memtrace::decode::Record::Faults(_)
                ));
            })
            .expect("the records are whole");
        }
        faults
    });
}

#[divan::bench(args = [1, 16, 128], sample_count = 10)]
fn sequential(bencher: Bencher<'_, '_>, most: usize) {
    let order: Vec<u64> = (0..PAGES).collect();
    measure(bencher, false, 2 * PAGES, &[], &touch_twice(&order, most));
}

#[divan::bench(args = [1, 128], sample_count = 10)]
fn sequential_streamed(bencher: Bencher<'_, '_>, most: usize) {
    let order: Vec<u64> = (0..PAGES).collect();
    measure(bencher, true, 2 * PAGES, &[], &touch_twice(&order, most));
}

#[divan::bench(args = [1, 128], sample_count = 10)]
fn descending(bencher: Bencher<'_, '_>, most: usize) {
    let order: Vec<u64> = (0..PAGES).rev().collect();
    measure(bencher, false, 2 * PAGES, &[], &touch_twice(&order, most));
}

#[divan::bench(args = [1, 128], sample_count = 10)]
fn random(bencher: Bencher<'_, '_>, most: usize) {
    let order = shuffled(PAGES);
    measure(bencher, false, 2 * PAGES, &[], &touch_twice(&order, most));
}

/// The same over 64 KiB to 64 GiB.
#[divan::bench(args = [1 << 4, 1 << 8, 1 << 12, 1 << 16, 1 << 20, 1 << 24], sample_count = 3)]
fn random_over_pages(bencher: Bencher<'_, '_>, pages: u64) {
    let order = shuffled(pages);
    let rounds = ((1 << 20) / pages).max(1);
    let mut records = Records::new();
    records.mmap(0, pages);
    for _ in 0..rounds {
        records.faults(PID, order.iter().copied(), MOST_FAULTS);
        records.madvise(PID, DONTNEED, 0, pages);
    }
    measure(bencher, false, rounds * pages, &[], &records.chunks());
}

#[divan::bench(sample_count = 5)]
fn random_streamed(bencher: Bencher<'_, '_>) {
    let order = shuffled(PAGES / 4);
    measure(
        bencher,
        true,
        PAGES / 2,
        &[],
        &touch_twice(&order, MOST_FAULTS),
    );
}

/// A give-back and a touch of so many pages, in turn.
#[divan::bench(args = [1, 16, 512], sample_count = 10)]
fn with_calls(bencher: Bencher<'_, '_>, pages: u64) {
    let faults = PAGES;
    let mut before = Records::new();
    before.mmap(0, pages);
    let mut records = Records::new();
    for _ in 0..faults / pages {
        records.madvise(PID, DONTNEED, 0, pages);
        records.faults(PID, 0..pages, MOST_FAULTS);
    }
    measure(bencher, false, faults, &before.chunks(), &records.chunks());
}

/// So many single pages are given back, far apart; then some of them, of no pattern, come and go.
#[divan::bench(args = [1_000, 10_000, 100_000, 1_000_000], sample_count = 5)]
fn with_intervals(bencher: Bencher<'_, '_>, intervals: u64) {
    const APART: u64 = 64;
    let mut before = Records::new();
    before.mmap(0, intervals * APART);
    before.madvise(PID, POPULATE_WRITE, 0, intervals * APART);
    for n in 0..intervals {
        before.madvise(PID, DONTNEED, n * APART, 1);
    }
    let rounds = 100_000;
    let mut records = Records::new();
    for n in shuffled(intervals).into_iter().cycle().take(rounds) {
        records.faults(PID, [n * APART], 1);
        records.madvise(PID, DONTNEED, n * APART, 1);
    }
    measure(
        bencher,
        false,
        rounds as u64,
        &before.chunks(),
        &records.chunks(),
    );
}

/// Threads in turn, each in its own memory; every record is another's.
#[divan::bench(args = [1, 2, 4, 8, 16, 32, 64], sample_count = 10)]
fn threads_sequential(bencher: Bencher<'_, '_>, threads: u64) {
    let each = PAGES / threads;
    let mut records = Records::new();
    records.mmap(0, PAGES);
    for at in (0..each).step_by(MOST_FAULTS) {
        for thread in 0..threads {
            let first = thread * each + at;
            records.faults(
                1 + thread as u32,
                first..first + MOST_FAULTS as u64,
                MOST_FAULTS,
            );
        }
    }
    measure(bencher, false, PAGES, &[], &records.chunks());
}

/// The same, and each thread gives its 16 pages back before it touches them.
#[divan::bench(args = [1, 2, 4, 8, 16, 32, 64], sample_count = 10)]
fn threads_with_calls(bencher: Bencher<'_, '_>, threads: u64) {
    const EACH: u64 = 16;
    let mut before = Records::new();
    before.mmap(0, threads * EACH);
    let mut records = Records::new();
    for _ in 0..PAGES / EACH / threads {
        for thread in 0..threads {
            records.madvise(1 + thread as u32, DONTNEED, thread * EACH, EACH);
        }
        for thread in 0..threads {
            let first = thread * EACH;
            records.faults(1 + thread as u32, first..first + EACH, MOST_FAULTS);
        }
    }
    measure(bencher, false, PAGES, &before.chunks(), &records.chunks());
}
