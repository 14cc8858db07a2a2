//! jemalloc under real programs: its settings choose the advice, and memtrace shows what they cost.

use memtrace_tests::compare::is_percent;
use memtrace_tests::needs;
use memtrace_tests::needs::Need;
use memtrace_tests::programs::{JEMALLOC, PERL, REDIS, Redis, perl};
use memtrace_tests::smaps::Memory;
use memtrace_tests::tracer::Trace;

#[test]
fn without_decay_jemalloc_gives_back_at_once_and_refaults_all() {
    needs!(Need::Tracing, JEMALLOC, PERL);
    let mut workload = perl("dirty_decay_ms:0,muzzy_decay_ms:0");
    let full = Memory::of(workload.pid);
    let trace = Trace::attach(workload.pid, &[]);
    // It said `ready` before it began to wait, and may have made a fault in between.
    let faults_before = workload.counters();
    workload.go();
    let empty = Memory::of(workload.pid);
    workload.say("again");
    let refilled = Memory::of(workload.pid);
    let faults = workload.counters() - faults_before;
    // Before the interpreter ends, which frees everything once more.
    trace.signal(libc::SIGINT);
    let run = trace.finish();
    workload.end();

    let left = full.rss_bytes - empty.rss_bytes;
    let back = refilled.rss_bytes - empty.rss_bytes;
    assert!(left > 90 << 20, "{full:?} {empty:?}");
    let summary = run.summary();
    // Nothing leaves RSS unasked. Extents may hold pages that were never written.
    is_percent(
        summary.count("advice.MADV_DONTNEED.requested_bytes"),
        100,
        110,
        left,
    );
    // Filling again frees a little on the way, which goes and comes once more.
    is_percent(
        summary.count("advice.MADV_DONTNEED.refaulted_bytes"),
        95,
        105,
        back,
    );
    assert_eq!(
        summary.count_or_none("advice.MADV_FREE.calls"),
        0,
        "{summary}"
    );
    // A single thread that mostly touches memory from user mode: the counts agree to the last fault.
    summary.expect(&[("faults.total", faults.all())]);
}

#[test]
fn with_endless_muzzy_decay_jemalloc_frees_lazily_and_nothing_refaults() {
    needs!(Need::Tracing, JEMALLOC, PERL);
    let mut workload = perl("dirty_decay_ms:1,muzzy_decay_ms:-1");
    let full = Memory::of(workload.pid);
    let trace = Trace::attach(workload.pid, &[]);
    workload.go();
    let lazy = Memory::of(workload.pid);
    trace.signal(libc::SIGINT);
    let run = trace.finish();
    workload.say("again");
    workload.end();

    is_percent(lazy.rss_bytes, 95, 105, full.rss_bytes);
    assert!(lazy.lazyfree_bytes > 80 << 20, "{lazy:?}");
    let summary = run.summary();
    let requested = summary.count("advice.MADV_FREE.requested_bytes");
    assert!(requested >= lazy.lazyfree_bytes, "{lazy:?} {summary}");
    assert!(requested <= full.rss_bytes * 2, "{full:?} {summary}");
    assert_eq!(summary.count("faults.refault_free"), 0, "{summary}");
    assert_eq!(
        summary.count_or_none("advice.MADV_DONTNEED.calls"),
        0,
        "{summary}"
    );
    // The state at the interrupt, when the program held still, where it was sampled.
    if !summary.at("rss.lazyfree_bytes").is_null() {
        is_percent(
            summary.count("rss.lazyfree_bytes"),
            95,
            105,
            lazy.lazyfree_bytes,
        );
    }
}

#[test]
fn a_flushed_redis_gives_all_back_at_once() {
    needs!(Need::Tracing, REDIS);
    // The first is jemalloc's default. With the second it first frees lazily what the flush then
    // purges: the later give-back owns the refaults.
    for settings in [
        "dirty_decay_ms:10000,muzzy_decay_ms:10000",
        "dirty_decay_ms:1,muzzy_decay_ms:-1",
    ] {
        let mut redis = Redis::start(settings);
        let full = Memory::of(redis.pid());
        let trace = Trace::attach(redis.pid(), &[]);
        redis.ask("FLUSHALL SYNC");
        redis.ask("MEMORY PURGE");
        let empty = Memory::of(redis.pid());
        redis.fill();
        let refilled = Memory::of(redis.pid());
        trace.signal(libc::SIGINT);
        let run = trace.finish();

        let left = full.rss_bytes - empty.rss_bytes;
        let back = refilled.rss_bytes - empty.rss_bytes;
        assert!(left > 90 << 20, "{full:?} {empty:?}");
        let summary = run.summary();
        is_percent(
            summary.count("advice.MADV_DONTNEED.requested_bytes"),
            100,
            110,
            left,
        );
        is_percent(
            summary.count("advice.MADV_DONTNEED.refaulted_bytes"),
            90,
            105,
            back,
        );
        assert_eq!(summary.count_or_none("faults.refault_free"), 0, "{summary}");
        if settings.contains(":-1") {
            let lazily = summary.count("advice.MADV_FREE.requested_bytes");
            assert!(lazily > left / 2, "{summary}");
        }
    }
}
