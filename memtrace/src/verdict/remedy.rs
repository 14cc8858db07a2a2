//! What to do about each kind of verdict, for each allocator and runtime.
//!
//! Sources: Go's runtime (runtime/mem_linux.go, runtime/extern.go), jemalloc's TUNING.md and its
//! man page, glibc's mallopt(3), gperftools' and mimalloc's READMEs, the manuals of the others.

use super::{Facts, Kind as Verdict};
use crate::runtime::{GivesBack, Kind, Runtime};

/// Sentences, the nearest remedy first.
pub(super) fn advice(verdict: Verdict, facts: &Facts<'_>) -> Vec<String> {
    let mut advice = Vec::new();
    match verdict {
        Verdict::LazilyFree => {
            advice.push(
                "watch RSS less LazyFree (Rss and LazyFree of /proc/PID/smaps_rollup) instead of RSS; a memory \
                 limit counts it until the kernel takes it"
                    .to_owned(),
            );
            if !facts.ended {
                advice.push(format!(
                    "to see RSS fall now, without a restart: memtrace reclaim -p {}",
                    facts.pid
                ));
            }
        }
        Verdict::Growth => advice.push(
            "trace on, over several of its cycles: a cache levels off, a leak does not".to_owned(),
        ),
        Verdict::RegrowthWithoutFaults => advice.push(
            "look at huge pages: AnonHugePages in /proc/PID/smaps_rollup, and \
             /sys/kernel/mm/transparent_hugepage/khugepaged/max_ptes_none (0 keeps khugepaged from \
             filling what was given back); --exact-bytes measures what comes without a fault"
                .to_owned(),
        ),
        Verdict::NotEnoughData => {
            advice.push("trace longer, while the process does its work".to_owned());
        }
        Verdict::Churn | Verdict::Retained => {}
    }
    let own: Vec<String> = facts
        .runtimes
        .iter()
        .filter_map(|runtime| of(verdict, runtime))
        .collect();
    if own.is_empty() {
        advice.extend(anyones(verdict).map(str::to_owned));
    }
    advice.extend(own);
    advice
}

/// Where nothing is known of who allocates.
fn anyones(verdict: Verdict) -> Option<&'static str> {
    Some(match verdict {
        Verdict::LazilyFree => {
            "for an RSS that falls at once, have the allocator give back by MADV_DONTNEED; reusing \
             that memory then costs a page fault for each page"
        }
        Verdict::Churn => {
            "have the allocator keep free memory longer before it gives it back, or give it back \
             by MADV_FREE, which costs no fault where it is reused in time"
        }
        Verdict::Retained => {
            "ask the allocator what it holds that is free; if that is much, have it give back \
             sooner, if little, the program itself keeps it"
        }
        Verdict::Growth => "find who allocates with a heap profiler",
        Verdict::RegrowthWithoutFaults | Verdict::NotEnoughData => return None,
    })
}

fn of(verdict: Verdict, runtime: &Runtime) -> Option<String> {
    let text = match verdict {
        Verdict::LazilyFree => lazily_free(runtime)?,
        Verdict::Churn => churn(runtime)?,
        Verdict::Retained => retained(runtime)?,
        Verdict::Growth => growth(runtime)?.to_owned(),
        Verdict::RegrowthWithoutFaults => huge_pages(runtime)?.to_owned(),
        Verdict::NotEnoughData => return None,
    };
    Some(format!("{}: {text}", runtime.kind.name()))
}

/// Who gives back by MADV_FREE, and how to make it MADV_DONTNEED.
fn lazily_free(runtime: &Runtime) -> Option<String> {
    if matches!(runtime.gives_back, GivesBack::DontNeed | GivesBack::Never) {
        return None;
    }
    Some(match runtime.kind {
        Kind::Go => {
            let version = runtime.version.as_deref().unwrap_or("");
            let why = match setting(runtime, "madvdontneed=0") {
                Some(origin) => format!("{version} gives back by MADV_FREE since {origin} is set; "),
                None => format!("{version} gives back by MADV_FREE by default (Go 1.12 to 1.15); "),
            };
            format!(
                "{}GODEBUG=madvdontneed=1 makes RSS fall at once (the default since Go 1.16)",
                why.trim_start()
            )
        }
        Kind::Jemalloc => format!(
            "{}=muzzy_decay_ms:0 makes RSS fall when dirty_decay_ms is over",
            variable(runtime)
        ),
        Kind::Mimalloc => {
            "MIMALLOC_PURGE_DECOMMITS=1 (version 2) or MIMALLOC_PAGE_RESET=0 (version 1) avoids MADV_FREE"
                .to_owned()
        }
        Kind::DotNet => "the GC marks what it may need again by MADV_FREE; DOTNET_GCConserveMemory \
                         makes it hold less"
            .to_owned(),
        _ => return None,
    })
}

/// How to give back less eagerly.
fn churn(runtime: &Runtime) -> Option<String> {
    Some(match runtime.kind {
        Kind::Go => "raise GOGC, or GOMEMLIMIT if it is set, so that the heap shrinks less; or \
                     GODEBUG=madvdontneed=0, which costs no fault where memory is reused in time"
            .to_owned(),
        Kind::Jemalloc => format!(
            "raise dirty_decay_ms (10000 by default) in {}, or set muzzy_decay_ms above 0 to pass \
             by MADV_FREE first",
            variable(runtime)
        ),
        Kind::Tcmalloc => {
            "lower TCMALLOC_RELEASE_RATE (1.0 by default; 0 never gives back)".to_owned()
        }
        Kind::Mimalloc => "raise MIMALLOC_PURGE_DELAY (in ms; -1 never gives back)".to_owned(),
        Kind::Glibc => {
            "raise MALLOC_TRIM_THRESHOLD_ and MALLOC_MMAP_THRESHOLD_ (M_TRIM_THRESHOLD and \
                        M_MMAP_THRESHOLD of mallopt), which also stops them from adapting"
                .to_owned()
        }
        Kind::Jvm => {
            "set -Xms to -Xmx, or -XX:MaxHeapFreeRatio higher, so that the heap shrinks less"
                .to_owned()
        }
        Kind::DotNet => "unset DOTNET_GCConserveMemory, or set DOTNET_GCRetainVM=1".to_owned(),
        _ => return None,
    })
}

/// How to give back more.
fn retained(runtime: &Runtime) -> Option<String> {
    Some(match runtime.kind {
        Kind::Go => "compare with HeapInuse and HeapIdle of runtime.MemStats; set GOMEMLIMIT (Go 1.19 \
                     and newer) or lower GOGC; debug.FreeOSMemory() gives back what is idle now"
            .to_owned(),
        Kind::Jemalloc => format!(
            "compare stats.allocated with stats.resident; lower dirty_decay_ms, and background_thread:true \
             in {} lets it decay while the program is idle",
            variable(runtime)
        ),
        Kind::Tcmalloc => "raise TCMALLOC_RELEASE_RATE, or call MallocExtension::ReleaseFreeMemory()".to_owned(),
        Kind::Mimalloc => "lower MIMALLOC_PURGE_DELAY, or call mi_collect(true)".to_owned(),
        Kind::Glibc => "malloc_trim(0) gives back what is free; MALLOC_ARENA_MAX=2 keeps fewer arenas \
                        where there are many threads"
            .to_owned(),
        Kind::Musl => "musl gives back only what it unmaps; large allocations it maps alone".to_owned(),
        Kind::Jvm => "the heap is kept up to -Xmx: -XX:G1PeriodicGCInterval (G1), -XX:+ZUncommit (ZGC) \
                      and ShenandoahUncommitDelay give idle heap back; NativeMemoryTracking shows the rest"
            .to_owned(),
        Kind::Node => "process.memoryUsage() tells heapTotal from external; --max-old-space-size bounds the heap"
            .to_owned(),
        Kind::DotNet => "DOTNET_GCConserveMemory (0 to 9) and DOTNET_GCHeapHardLimit make the GC hold less"
            .to_owned(),
        Kind::Python => "an arena goes back only when all of it is free: sys._debugmallocstats() shows \
                         how full they are"
            .to_owned(),
    })
}

/// How to see who allocates.
fn growth(runtime: &Runtime) -> Option<&'static str> {
    Some(match runtime.kind {
        Kind::Go => "go tool pprof -inuse_space on /debug/pprof/heap, twice, with -diff_base",
        Kind::Jemalloc => {
            "prof:true,lg_prof_sample:19 in MALLOC_CONF (a build with profiling), and jeprof --base"
        }
        Kind::Tcmalloc => "HEAPPROFILE=/tmp/heap (gperftools), and pprof --base",
        Kind::Jvm => {
            "jcmd PID GC.heap_info and GC.class_histogram, twice; NativeMemoryTracking for what is not heap"
        }
        Kind::Node => "two heap snapshots (--heapsnapshot-signal=SIGUSR2), compared",
        Kind::DotNet => "dotnet-gcdump collect, twice, compared",
        Kind::Python => "tracemalloc, two snapshots compared",
        Kind::Glibc | Kind::Musl | Kind::Mimalloc => {
            "heaptrack -p PID, or bpftrace on malloc, shows who allocates"
        }
    })
}

/// How to keep huge pages out of what was given back.
fn huge_pages(runtime: &Runtime) -> Option<&'static str> {
    Some(match runtime.kind {
        Kind::Go => {
            "Go 1.21.1 and newer set no huge page advice of their own; GODEBUG=disablethp=1 (1.21.6 \
                     and newer) turns them off"
        }
        Kind::Jemalloc => "thp:never in MALLOC_CONF (metadata_thp:disabled is the default)",
        Kind::Jvm => "-XX:-UseTransparentHugePages",
        Kind::Glibc => {
            "GLIBC_TUNABLES=glibc.malloc.hugetlb=0 is the default: someone else advises huge pages"
        }
        _ => return None,
    })
}

/// Where a jemalloc reads its options.
fn variable(runtime: &Runtime) -> String {
    let prefix = runtime
        .linkage
        .as_deref()
        .and_then(|linkage| linkage.split_once("prefix "))
        .map(|(_, prefix)| prefix.to_uppercase());
    match prefix {
        Some(prefix) => format!("{prefix}MALLOC_CONF"),
        None => "MALLOC_CONF".to_owned(),
    }
}

/// A setting that holds `value`, as it is shown.
fn setting(runtime: &Runtime, value: &str) -> Option<String> {
    runtime
        .settings
        .iter()
        .find(|setting| setting.value.contains(value))
        .map(ToString::to_string)
}
